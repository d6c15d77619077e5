//! What an inventory service promises over HTTP, in real time.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};

use super::wire::{Answer, Wire, at_once, count, refuses_nonsense};

/// In the order in which an interviewer would probe.
pub(super) fn promises() -> Vec<Promise<Wire>> {
    promises! { Wire;
        the_last_unit_sells_and_not_one_more => "Exactly what is there can be reserved; then it is 409 with what is available.",
        a_crowd_never_oversells => "Of 64 buyers at once as many succeed as there are units.",
        a_cart_is_all_or_nothing => "A cart holds every line or none.",
        the_same_key_is_the_same_reservation => "A repeated request takes nothing; another body under its key is a 422.",
        repeats_at_once_take_once => "The same request sent 16 times at once makes one reservation.",
        each_reservation_ends_once => "Confirmed is not cancelled: 409.",
        an_expired_hold_is_gone => "From its deadline on it cannot be confirmed (410), and its stock is free.",
        edits_carry_the_version => "PUT wants If-Match: 428 without, 412 when stale, and nothing is lost.",
        bad_input_is_named => "A wrong field is a 4xx problem that names it.",
        the_audit_is_clean => "After all of this every invariant holds.",
    }
}

async fn item(wire: &Wire, of: &str, on_hand: u64) -> Result<String, Broken> {
    let sku = wire.name(of);
    wire.post("/v1/items", json!({"sku": sku, "on_hand": on_hand})).await?.is(201)?;
    Ok(sku)
}

async fn available(wire: &Wire, sku: &str) -> Result<Value, Broken> {
    let item = wire.get(&format!("/v1/items/{sku}")).await?.is(200)?.json()?;
    Ok(item["available"].clone())
}

async fn reserve(wire: &Wire, key: &str, cart: &Value) -> Result<Answer, Broken> {
    let key = wire.name(key);
    wire.send(Method::POST, "/v1/reservations", &[("idempotency-key", &key)], cart).await
}

fn cart(sku: &str, quantity: u64, ttl_ms: u64) -> Value {
    json!({"lines": [{"sku": sku, "quantity": quantity}], "ttl_ms": ttl_ms})
}

async fn end(wire: &Wire, id: &Value, how: &str) -> Result<Answer, Broken> {
    let id = id.as_str().unwrap_or_default();
    wire.send(Method::POST, &format!("/v1/reservations/{id}/{how}"), &[], &Value::Null).await
}

async fn the_last_unit_sells_and_not_one_more(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "last", 3).await?;
    reserve(&wire, "all-but-one", &cart(&sku, 2, 60_000)).await?.is(201)?;
    let sold_out = reserve(&wire, "too-many", &cart(&sku, 2, 60_000)).await?.is(409)?;
    ensure!(sold_out.json()?["available"] == 1, "sold out says what is there: {sold_out}");
    reserve(&wire, "the-last", &cart(&sku, 1, 60_000)).await?.is(201)?;
    reserve(&wire, "one-more", &cart(&sku, 1, 60_000)).await?.is(409)?;
    Ok(())
}

async fn a_crowd_never_oversells(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "crowd", 20).await?;
    let cart = cart(&sku, 1, 60_000);
    let buyer = |number: usize| {
        let (wire, cart) = (&wire, &cart);
        async move {
            // Busy is not sold out: a buyer who is told so comes again.
            for attempt in 0..200_u64 {
                let answer = reserve(wire, &format!("buyer-{number}"), cart).await?;
                if answer.status != 503 {
                    return Ok(answer);
                }
                tokio::time::sleep(Duration::from_millis(1 + attempt)).await;
            }
            Err(Broken::because("a buyer was told 503 two hundred times"))
        }
    };
    let answers = at_once(64, buyer).await?;
    let (sold, refused) = (count(&answers, 201), count(&answers, 409));
    ensure!(
        sold == 20 && refused == 44,
        "64 buyers of 20 units: {sold} got one, {refused} did not"
    );
    let left = available(&wire, &sku).await?;
    ensure!(left == 0, "{left} are left");
    Ok(())
}

async fn a_cart_is_all_or_nothing(wire: Arc<Wire>) -> Verdict {
    let (plenty, scarce) = (item(&wire, "plenty", 10).await?, item(&wire, "scarce", 1).await?);
    let lines = json!([{"sku": plenty, "quantity": 4}, {"sku": scarce, "quantity": 2}]);
    reserve(&wire, "both", &json!({"lines": lines, "ttl_ms": 60_000})).await?.is(409)?;
    let left = available(&wire, &plenty).await?;
    ensure!(left == 10, "a refused cart kept some of a line: {left} of 10 are available");
    Ok(())
}

async fn the_same_key_is_the_same_reservation(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "repeat", 10).await?;
    let first = reserve(&wire, "repeat", &cart(&sku, 2, 60_000)).await?.is(201)?;
    let again = reserve(&wire, "repeat", &cart(&sku, 2, 60_000)).await?.is(201)?;
    ensure!(first.body == again.body, "a repeat is answered differently: {first}, then {again}");
    reserve(&wire, "repeat", &cart(&sku, 3, 60_000)).await?.is(422)?;
    let left = available(&wire, &sku).await?;
    ensure!(left == 8, "2 of 10 were reserved once; {left} are available");
    Ok(())
}

async fn repeats_at_once_take_once(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "at-once", 100).await?;
    let cart = cart(&sku, 1, 60_000);
    let answers = at_once(16, |_| reserve(&wire, "at-once", &cart)).await?;
    let made = answers.iter().filter(|answer| answer.status == 201);
    let ids: Result<Vec<Value>, Broken> =
        made.map(|answer| Ok(answer.json()?["id"].clone())).collect();
    let ids = ids?;
    ensure!(!ids.is_empty(), "none of 16 identical requests succeeded: {}", answers[0]);
    ensure!(ids.iter().all(|id| *id == ids[0]), "one key made several reservations: {ids:?}");
    let left = available(&wire, &sku).await?;
    ensure!(left == 99, "one unit was reserved; {left} of 100 are available");
    Ok(())
}

async fn each_reservation_ends_once(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "ends", 10).await?;
    let sold = reserve(&wire, "sold", &cart(&sku, 1, 60_000)).await?.is(201)?.json()?;
    end(&wire, &sold["id"], "confirm").await?.is(200)?;
    end(&wire, &sold["id"], "confirm").await?.is(200)?;
    end(&wire, &sold["id"], "cancel").await?.is(409)?;
    let back = reserve(&wire, "back", &cart(&sku, 3, 60_000)).await?.is(201)?.json()?;
    end(&wire, &back["id"], "cancel").await?.is(200)?;
    end(&wire, &back["id"], "cancel").await?.is(200)?;
    end(&wire, &back["id"], "confirm").await?.is(409)?;
    let left = available(&wire, &sku).await?;
    ensure!(left == 9, "one of 10 was sold; {left} are available");
    Ok(())
}

async fn an_expired_hold_is_gone(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "expires", 1).await?;
    let held = reserve(&wire, "expires", &cart(&sku, 1, 150)).await?.is(201)?.json()?;
    reserve(&wire, "too-early", &cart(&sku, 1, 60_000)).await?.is(409)?;
    tokio::time::sleep(Duration::from_millis(160)).await;
    end(&wire, &held["id"], "confirm").await?.is(410)?;
    reserve(&wire, "next", &cart(&sku, 1, 60_000)).await?.is(201)?;
    Ok(())
}

async fn edits_carry_the_version(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "edit", 10).await?;
    let path = format!("/v1/items/{sku}");
    let tag = wire.get(&path).await?.is(200)?.header("etag").to_owned();
    ensure!(tag.starts_with('"'), "a strong ETag is wanted, not {tag:?}");
    let put = |tag: String, on_hand: u64| {
        let (wire, path) = (&wire, &path);
        async move {
            let headers = [("if-match", tag.as_str())];
            let headers = if tag.is_empty() { &[][..] } else { &headers[..] };
            wire.send(Method::PUT, path, headers, &json!({"on_hand": on_hand})).await
        }
    };
    put(String::new(), 11).await?.is(428)?;
    put(tag.clone(), 12).await?.is(200)?;
    put(tag, 13).await?.is(412)?;
    let left = available(&wire, &sku).await?;
    ensure!(left == 12, "the edit that was accepted said 12; {left} are available");
    Ok(())
}

async fn bad_input_is_named(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "input", 10).await?;
    let zero = reserve(&wire, "zero", &cart(&sku, 0, 60_000)).await?;
    ensure!((400..500).contains(&zero.status), "a quantity of zero: {zero}");
    zero.names("quantity")?;
    let nobody = reserve(&wire, "nobody", &cart("nobody-has-this", 1, 60_000)).await?;
    ensure!(nobody.status == 404, "an unknown SKU is a 404: {nobody}");
    refuses_nonsense(&wire, "/v1/items").await
}

async fn the_audit_is_clean(wire: Arc<Wire>) -> Verdict {
    let sku = item(&wire, "audit", 5).await?;
    reserve(&wire, "audit", &cart(&sku, 2, 60_000)).await?.is(201)?;
    let audit = wire.get("/v1/audit").await?.is(200)?;
    let drifts = audit.json()?["drifts"].clone();
    ensure!(drifts.as_array().is_some_and(Vec::is_empty), "something drifted: {audit}");
    Ok(())
}
