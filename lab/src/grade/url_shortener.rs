//! What a URL shortener promises over HTTP, in real time. Where it wants an API key, give it with
//! `--header "Authorization: Bearer KEY"`.

use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};

use super::wire::{Answer, Wire, at_once, count, refuses_nonsense};

/// In the order in which an interviewer would probe.
pub(super) fn promises() -> Vec<Promise<Wire>> {
    promises! { Wire;
        a_link_leads_where_it_was_told => "A short link redirects (302) to exactly its target.",
        an_unknown_code_is_a_404 => "Nobody is sent anywhere by a code that was never made.",
        one_alias_has_one_winner => "Of 64 racing creates of one alias one is a 201 and 63 are 409s.",
        a_repeated_create_is_one_link => "The same Idempotency-Key gets the same bytes; another body under it is a 422.",
        the_redirect_status_is_the_one_asked_for => "301, 302, 307 and 308 are answered as asked.",
        dangerous_targets_are_refused => "No script, no foreign scheme, no line break ever becomes a Location.",
        a_limited_link_admits_exactly_that_many => "Of 32 visitors at once as many get through as visits are left.",
        edits_carry_the_version => "PATCH wants If-Match: 428 without, 412 when stale.",
        a_deleted_code_stays_taken => "It redirects no more, and nobody gets it again.",
        clicks_are_counted_and_heads_are_not => "The total of a link is the number of GETs.",
        bad_input_is_named => "A wrong field is a 4xx problem that names it.",
    }
}

const TARGET: &str = "https://example.com/a/page?q=%C3%BC&r=1#part";

/// Who clicks: a visitor without a browser may be counted apart, as a bot.
const BROWSER: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Firefox/130.0");

async fn create(wire: &Wire, body: Value) -> Result<Value, Broken> {
    wire.post("/v1/links", body).await?.is(201)?.json()
}

fn code(link: &Value) -> Result<String, Broken> {
    let code = link["code"].as_str();
    code.map(str::to_owned).ok_or_else(|| Broken::because(format!("no code in {link}")))
}

async fn follow(wire: &Wire, code: &str) -> Result<Answer, Broken> {
    wire.send(Method::GET, &format!("/{code}"), &[BROWSER], &Value::Null).await
}

async fn a_link_leads_where_it_was_told(wire: Arc<Wire>) -> Verdict {
    let code = code(&create(&wire, json!({"url": TARGET})).await?)?;
    let answer = follow(&wire, &code).await?.is(302)?;
    let location = answer.header("location");
    ensure!(location == TARGET, "{TARGET} was shortened, {code} leads to {location}");
    Ok(())
}

async fn an_unknown_code_is_a_404(wire: Arc<Wire>) -> Verdict {
    let answer = follow(&wire, &wire.name("never-made")).await?.is(404)?;
    ensure!(answer.header("location").is_empty(), "a 404 that leads somewhere: {answer}");
    Ok(())
}

async fn one_alias_has_one_winner(wire: Arc<Wire>) -> Verdict {
    let alias = wire.name("race");
    let racer = |number: usize| {
        let url = format!("https://example.com/{number}");
        wire.post("/v1/links", json!({"url": url, "alias": alias}))
    };
    let answers = at_once(64, racer).await?;
    let (won, lost) = (count(&answers, 201), count(&answers, 409));
    ensure!(won == 1 && lost == 63, "64 racers: {won} won, {lost} were told 409");
    Ok(())
}

async fn a_repeated_create_is_one_link(wire: Arc<Wire>) -> Verdict {
    let key = wire.name("once");
    let create = |url: &str| {
        let body = json!({"url": url});
        let (wire, key) = (&wire, &key);
        async move { wire.send(Method::POST, "/v1/links", &[("idempotency-key", key)], &body).await }
    };
    let first = create(TARGET).await?.is(201)?;
    let again = create(TARGET).await?.is(201)?;
    ensure!(first.body == again.body, "a repeat is answered differently: {first}, then {again}");
    create("https://example.com/other").await?.is(422)?;
    Ok(())
}

async fn the_redirect_status_is_the_one_asked_for(wire: Arc<Wire>) -> Verdict {
    for status in [301_u16, 302, 307, 308] {
        let link = create(&wire, json!({"url": TARGET, "redirect": status})).await?;
        follow(&wire, &code(&link)?).await?.is(status)?;
    }
    Ok(())
}

async fn dangerous_targets_are_refused(wire: Arc<Wire>) -> Verdict {
    for url in [
        "javascript:alert(1)",
        "data:text/html,hello",
        "file:///etc/passwd",
        "ftp://example.com/",
        "//example.com/",
        "/relative",
        "",
        "https://user:password@example.com/",
    ] {
        let answer = wire.post("/v1/links", json!({"url": url})).await?;
        ensure!((400..500).contains(&answer.status), "{url:?} was accepted: {answer}");
        answer.names("url")?;
    }
    let tricky = "https://example.com/a\r\nSet-Cookie: a=b";
    let answer = wire.post("/v1/links", json!({"url": tricky})).await?;
    if answer.status == 201 {
        let answer = follow(&wire, &code(&answer.json()?)?).await?;
        ensure!(answer.header("set-cookie").is_empty(), "a target became a header: {answer}");
    }
    Ok(())
}

async fn a_limited_link_admits_exactly_that_many(wire: Arc<Wire>) -> Verdict {
    let code = code(&create(&wire, json!({"url": TARGET, "max_visits": 7})).await?)?;
    let answers = at_once(32, |_| follow(&wire, &code)).await?;
    let (through, gone) = (count(&answers, 302), count(&answers, 410));
    ensure!(
        through == 7 && gone == 25,
        "32 visitors of 7 visits: {through} got through, {gone} 410"
    );
    Ok(())
}

async fn edits_carry_the_version(wire: Arc<Wire>) -> Verdict {
    let code = code(&create(&wire, json!({"url": TARGET})).await?)?;
    let path = format!("/v1/links/{code}");
    let tag = wire.get(&path).await?.is(200)?.header("etag").to_owned();
    let change = |url: &str| json!({"url": url});
    let patch = Method::PATCH;
    let (one, two) = (change("https://example.com/1"), change("https://example.com/2"));
    wire.send(patch.clone(), &path, &[], &one).await?.is(428)?;
    wire.send(patch.clone(), &path, &[("if-match", &tag)], &one).await?.is(200)?;
    wire.send(patch, &path, &[("if-match", &tag)], &two).await?.is(412)?;
    let location = follow(&wire, &code).await?.is(302)?.header("location").to_owned();
    ensure!(
        location == "https://example.com/1",
        "the accepted edit said 1; it leads to {location}"
    );
    Ok(())
}

async fn a_deleted_code_stays_taken(wire: Arc<Wire>) -> Verdict {
    let alias = wire.name("gone");
    create(&wire, json!({"url": TARGET, "alias": alias})).await?;
    let path = format!("/v1/links/{alias}");
    let tag = wire.get(&path).await?.is(200)?.header("etag").to_owned();
    wire.send(Method::DELETE, &path, &[("if-match", &tag)], &Value::Null).await?.is(204)?;
    let answer = follow(&wire, &alias).await?;
    ensure!([404, 410].contains(&answer.status), "a deleted link still leads on: {answer}");
    wire.post("/v1/links", json!({"url": TARGET, "alias": alias})).await?.is(409)?;
    Ok(())
}

async fn clicks_are_counted_and_heads_are_not(wire: Arc<Wire>) -> Verdict {
    let code = code(&create(&wire, json!({"url": TARGET})).await?)?;
    for _ in 0..5 {
        follow(&wire, &code).await?.is(302)?;
    }
    wire.send(Method::HEAD, &format!("/{code}"), &[BROWSER], &Value::Null).await?.is(302)?;
    let path = format!("/v1/links/{code}/stats");
    let mut total = Value::Null;
    // Clicks are committed in batches, a moment later.
    for _ in 0..100 {
        total = wire.get(&path).await?.is(200)?.json()?["total"].clone();
        if total.as_u64().is_some_and(|total| total >= 5) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ensure!(total == 5, "5 GETs and a HEAD were counted as {total}");
    Ok(())
}

async fn bad_input_is_named(wire: Arc<Wire>) -> Verdict {
    let alias = wire.post("/v1/links", json!({"url": TARGET, "alias": "no spaces"})).await?;
    ensure!((400..500).contains(&alias.status), "an alias with a space: {alias}");
    alias.names("alias")?;
    refuses_nonsense(&wire, "/v1/links").await
}
