//! The API: the main path, and every way to hold it wrong.

use axum::body::Body;
use serde_json::{Value, json};
use url_shortener::keys;
use url_shortener::keys::Keys;

use crate::support::{Choices, app, app_on};

#[tokio::test]
async fn a_link_is_created_read_changed_and_deleted() {
    let app = app().await;
    let client = &app.client;
    let body = json!({
        "url": "https://Example.com/a b", "alias": "my-Link", "expires_at": "2027-01-01T00:00:00Z",
        "max_visits": 9, "redirect": 307, "tags": ["x", "x", "y"],
    });
    let created = client.create(body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.header("location"), "https://sho.rt/v1/links/my-Link");
    assert_eq!(created.header("etag"), "\"1\"");
    let mut expected = json!({
        "code": "my-Link", "short_url": "https://sho.rt/my-Link",
        "url": "https://example.com/a%20b", "created_at": "2026-11-22T12:00:00Z",
        "expires_at": "2027-01-01T00:00:00Z", "max_visits": 9, "redirect": 307,
        "tags": ["x", "y"], "unlisted": false, "enabled": true,
    });
    assert_eq!(created.json(), expected);
    let read = client.get("/v1/links/my-Link").await;
    assert_eq!((read.status, read.json()), (200, expected.clone()));
    let same = [("if-none-match", "\"1\"")];
    assert_eq!(client.send("GET", "/v1/links/my-Link", &same, Body::empty()).await.status, 304);

    let change = json!({"expires_at": null, "redirect": 302, "max_visits": null});
    let unconditional = client.json("PATCH", "/v1/links/my-Link", &[], &change).await;
    assert_eq!(unconditional.status, 428, "{}", unconditional.text());
    let changed =
        client.json("PATCH", "/v1/links/my-Link", &[("if-match", "\"1\"")], &change).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
    expected["expires_at"] = Value::Null;
    expected["max_visits"] = Value::Null;
    expected["redirect"] = json!(302);
    assert_eq!(changed.json(), expected);
    let stale = client.json("PATCH", "/v1/links/my-Link", &[("if-match", "\"1\"")], &change).await;
    assert_eq!((stale.status, stale.header("etag")), (412, "\"2\""));
    assert_eq!(client.follow("my-Link").await.status, 302);

    let delete = async |tag: &str| {
        client.send("DELETE", "/v1/links/my-Link", &[("if-match", tag)], Body::empty()).await
    };
    assert_eq!(delete("\"1\"").await.status, 412);
    assert_eq!(delete("*").await.status, 204);
    assert_eq!(delete("*").await.status, 404);
    assert_eq!(client.follow("my-Link").await.status, 404);
    let again = client.create(json!({"url": "https://example.com/", "alias": "my-Link"})).await;
    assert_eq!(again.status, 409, "a deleted code was given out again");
}

#[tokio::test]
async fn bad_input_gets_a_4xx_that_names_the_field() {
    let app = app().await;
    for (body, status, pointer) in [
        (json!(["https://x.example/"]), 422, ""),
        (json!({}), 422, "/url"),
        (json!({"url": 5}), 422, "/url"),
        (json!({"url": "javascript:alert(1)"}), 422, "/url"),
        (json!({"url": "https://sho.rt/loop"}), 422, "/url"),
        (json!({"url": "https://x.example/", "alias": "a/b"}), 422, "/alias"),
        (json!({"url": "https://x.example/", "alias": "healthz"}), 422, "/alias"),
        (json!({"url": "https://x.example/", "expires_at": "tomorrow"}), 422, "/expires_at"),
        (
            json!({"url": "https://x.example/", "expires_at": "2026-11-22T12:00:00Z"}),
            422,
            "/expires_at",
        ),
        (json!({"url": "https://x.example/", "max_visits": 0}), 422, "/max_visits"),
        (json!({"url": "https://x.example/", "max_visits": -1}), 422, "/max_visits"),
        (json!({"url": "https://x.example/", "redirect": 303}), 422, "/redirect"),
        (json!({"url": "https://x.example/", "tags": vec!["t"; 17]}), 422, "/tags"),
        (json!({"url": "https://x.example/", "tags": ["ok", ""]}), 422, "/tags/1"),
        (json!({"url": "https://x.example/", "colour": "red"}), 422, "/colour"),
    ] {
        let refused = app.client.create(body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.text());
        let named = refused.json()["errors"][0]["pointer"].clone();
        assert_eq!(named, pointer, "{body}: {}", refused.text());
    }
    assert!(app.shortener.lookup().is_empty(), "something was half written");
    for (query, name) in
        [("limit=0", "limit"), ("limit=201", "limit"), ("cursor=zzz", "cursor"), ("x=1", "x")]
    {
        let refused = app.client.get(&format!("/v1/links?{query}")).await;
        assert_eq!(refused.status, 400, "{query}: {}", refused.text());
        assert_eq!(refused.json()["errors"][0]["query"], name, "{query}: {}", refused.text());
    }
    let big = json!({"url": "https://x.example/", "tags": ["x".repeat(70_000)]});
    assert_eq!(app.client.create(big).await.status, 413);
}

#[tokio::test]
async fn a_key_opens_its_own_links_only() {
    let app = app().await;
    let nobody = app.client.without_key();
    let refused = nobody.create(json!({"url": "https://example.com/"})).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(app.client.with_key("ush_nobody_x").get("/v1/links").await.status, 401);
    let code = app.client.create(json!({"url": "https://example.com/"})).await.code();
    assert_eq!(nobody.follow(&code).await.status, 302, "following needs no key");

    let (key, record) = keys::new_key("another", 0).await.unwrap();
    app.shortener.store().add_key(record).await.unwrap();
    app.shortener.keys().replace(app.shortener.store().keys().await.unwrap());
    let another = app.client.with_key(&key);
    assert_eq!(another.get(&format!("/v1/links/{code}")).await.status, 404);
    assert_eq!(another.get(&format!("/v1/links/{code}/stats")).await.status, 404);
    assert_eq!(another.get("/v1/links").await.json()["links"], json!([]));
}

#[tokio::test]
async fn a_repeat_under_an_idempotency_key_gets_the_same_bytes() {
    let app = app().await;
    let key = [("idempotency-key", "k-1")];
    let body = json!({"url": "https://example.com/", "tags": ["t"]});
    let first = app.client.json("POST", "/v1/links", &key, &body).await;
    app.clock.advance_ms(5_000);
    let repeat = app.client.json("POST", "/v1/links", &key, &body).await;
    assert_eq!((repeat.status, &repeat.body), (201, &first.body));
    for name in ["location", "etag", "content-type"] {
        assert_eq!(repeat.header(name), first.header(name));
    }
    assert_eq!(repeat.header("idempotency-replayed"), "true");
    assert!(first.headers.get("idempotency-replayed").is_none());
    assert_eq!(app.shortener.lookup().len(), 1);
    let other =
        app.client.json("POST", "/v1/links", &key, &json!({"url": "https://example.org/"})).await;
    assert_eq!(other.status, 422, "{}", other.text());
    assert_eq!(other.json()["errors"][0]["header"], "Idempotency-Key");
    // The members in another order are the same request.
    let reordered = r#"{ "tags":["t"], "url":"https://example.com/" }"#;
    let headers = [key[0], ("content-type", "application/json")];
    let same = app.client.send("POST", "/v1/links", &headers, reordered).await;
    assert_eq!((same.status, &same.body), (201, &first.body));
}

#[tokio::test]
async fn the_list_is_paged_by_an_opaque_cursor_and_filtered() {
    let app = app().await;
    for number in 0..12 {
        let tags = if number % 3 == 0 { json!(["third"]) } else { json!([]) };
        let body = json!({"url": format!("https://example.com/{number}"), "alias": format!("c{number:02}"), "tags": tags});
        app.client.create(body).await.code();
    }
    let codes = |page: &Value| -> Vec<String> {
        let links = page["links"].as_array().unwrap();
        links.iter().map(|link| link["code"].as_str().unwrap().to_owned()).collect()
    };
    let (mut path, mut seen) = ("/v1/links?limit=5".to_owned(), Vec::new());
    for _ in 0..3 {
        let page = app.client.get(&path).await;
        seen.extend(codes(&page.json()));
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
        let link = page.header("link").to_owned();
        assert_eq!(link, format!("<https://sho.rt/v1/links?cursor={next}&limit=5>; rel=\"next\""));
        path = format!("/v1/links?limit=5&cursor={next}");
    }
    let expected: Vec<String> = (0..12).rev().map(|number| format!("c{number:02}")).collect();
    assert_eq!(seen, expected);
    let third = app.client.get("/v1/links?tag=third").await.json();
    assert_eq!(codes(&third), ["c09", "c06", "c03", "c00"]);
    let found = app.client.get("/v1/links?q=COM/1").await.json();
    assert_eq!(codes(&found), ["c11", "c10", "c01"]);
}

#[tokio::test]
async fn one_key_is_held_to_its_rate_and_others_notice_nothing() {
    let choices = Choices { requests_per_second: 5, ..Choices::default() };
    let app =
        app_on(std::sync::Arc::<url_shortener::store::memory::Memory>::default(), choices).await;
    let mut refused = 0;
    for _ in 0..50 {
        let answer = app.client.get("/v1/links").await;
        if answer.status == 429 {
            assert_eq!(answer.header("retry-after"), "1");
            refused += 1;
        }
    }
    assert!(refused > 20, "only {refused} of 50 requests were refused at 5 a second");
    let (key, record) = keys::new_key("another", 0).await.unwrap();
    app.shortener.store().add_key(record).await.unwrap();
    app.shortener.keys().replace(app.shortener.store().keys().await.unwrap());
    assert_eq!(app.client.with_key(&key).get("/v1/links").await.status, 200);
}
