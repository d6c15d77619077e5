//! Every route over a real socket: what it answers, and what it says when it is fed nonsense.

use std::sync::Arc;

use inventory_locking::answer::memory::Memory;
use inventory_locking::http::router;
use serde_json::{Value, json};
use service::{Clock, Readiness, Shutdown};

use crate::client::{Client, cart_json};

pub(crate) struct Shop {
    pub(crate) client: Client,
    clock: Clock,
}

impl Shop {
    pub(crate) async fn open(items: &[(&str, u64)]) -> Self {
        let clock = Clock::manual(1_790_000_123_456);
        let shutdown = Shutdown::new();
        let inventory = Arc::new(Memory::new(clock.clone()));
        let router = router(inventory, Readiness::new(&shutdown));
        let router = service::harden(router, service::Limits::default());
        let listener = service::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        tokio::spawn(service::serve(listener, router, shutdown));
        for (sku, on_hand) in items {
            client.post("/v1/items", json!({ "sku": sku, "on_hand": on_hand })).await.ok(201);
        }
        Self { client, clock }
    }
}

#[tokio::test]
async fn a_sale_from_the_shelf_to_the_receipt() {
    let shop = Shop::open(&[("pen", 5)]).await;
    let held = shop.client.reserve("sale-1", &[("pen", 1), ("pen", 1)]).await;
    let body = held.ok(201);
    assert_eq!(body["state"], "held");
    assert_eq!(body["lines"], json!([{ "sku": "pen", "quantity": 2 }]));
    assert_eq!(body["expires_at"], "2026-09-21T14:25:23.456Z");
    let location = held.header("location").unwrap();
    assert_eq!(shop.client.get(location).await.ok(200), body);

    let confirm = format!("{location}/confirm");
    let first = shop.client.post(&confirm, json!(null)).await;
    assert_eq!(first.ok(200)["state"], "confirmed");
    assert_eq!(shop.client.post(&confirm, json!(null)).await.text, first.text);
    let late = shop.client.post(&format!("{location}/cancel"), json!(null)).await.problem(409);
    assert_eq!((&late["type"], &late["state"]), (&json!("urn:problem:ended"), &json!("confirmed")));

    let item = shop.client.get("/v1/items/pen").await.ok(200);
    assert_eq!(
        item,
        json!({ "sku": "pen", "on_hand": 3, "available": 3, "held": 0, "sold": 2, "version": 3 })
    );
    let audit = shop.client.get("/v1/audit").await.ok(200);
    assert_eq!((&audit["broken"], &audit["sold"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn a_repeat_is_answered_byte_for_byte_and_says_so() {
    let shop = Shop::open(&[("pen", 5)]).await;
    let first = shop.client.reserve("key", &[("pen", 2)]).await;
    let location = first.header("location").unwrap().to_owned();
    shop.client.post(&format!("{location}/confirm"), json!(null)).await.ok(200);
    shop.clock.advance_ms(1_000_000);
    let quoted = [("idempotency-key", "\"key\"")];
    let again =
        shop.client.send("POST", "/v1/reservations", &quoted, Some(cart_json(&[("pen", 2)]))).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.header("location"), Some(&*location));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    shop.client.reserve("key", &[("pen", 1)]).await.problem(422);
    shop.client.post("/v1/reservations", cart_json(&[("pen", 1)])).await.problem(400);
}

#[tokio::test]
async fn sold_out_expired_and_unknown_are_told_apart() {
    let shop = Shop::open(&[("pen", 3)]).await;
    let sold_out = shop.client.reserve("a", &[("pen", 4)]).await.problem(409);
    assert_eq!(sold_out["type"], "urn:problem:sold-out");
    assert_eq!((&sold_out["available"], &sold_out["requested"]), (&json!(3), &json!(4)));
    let held = shop.client.reserve("b", &[("pen", 3)]).await;
    let location = held.header("location").unwrap();
    let extended =
        shop.client.post(&format!("{location}/extend"), json!({ "ttl_ms": 5_000 })).await.ok(200);
    assert_eq!(extended["expires_at_ms"], 1_790_000_128_456_u64);
    shop.clock.advance_ms(5_000);
    for action in ["confirm", "cancel"] {
        let late = shop.client.post(&format!("{location}/{action}"), json!(null)).await;
        assert_eq!(late.problem(410)["type"], "urn:problem:expired");
    }
    assert_eq!(shop.client.get(location).await.ok(200)["state"], "expired");
    shop.client.reserve("c", &[("pen", 3)]).await.ok(201);
    shop.client.reserve("d", &[("nib", 1)]).await.problem(404);
    shop.client.get("/v1/items/nib").await.problem(404);
    let nobody = "/v1/reservations/01a20097-0c45-7245-8722-96c5250fcbaf";
    shop.client.get(nobody).await.problem(404);
    shop.client.post(&format!("{nobody}/confirm"), json!(null)).await.problem(404);
    shop.client.post("/v1/items", json!({ "sku": "pen", "on_hand": 1 })).await.problem(409);
}

#[tokio::test]
async fn the_editors_version_is_carried_to_the_row_and_back() {
    let shop = Shop::open(&[("pen", 3)]).await;
    let put = async |if_match: Option<&str>, on_hand: u64| {
        let headers: Vec<_> = if_match.map(|tag| ("if-match", tag)).into_iter().collect();
        shop.client
            .send("PUT", "/v1/items/pen", &headers, Some(json!({ "on_hand": on_hand })))
            .await
    };
    let read = shop.client.get("/v1/items/pen").await;
    let etag = read.header("etag").unwrap();
    assert_eq!(etag, "\"1\"");
    let unchanged = [("if-none-match", etag)];
    assert_eq!(shop.client.send("GET", "/v1/items/pen", &unchanged, None).await.status, 304);
    put(None, 9).await.problem(428);
    shop.client.reserve("a", &[("pen", 1)]).await.ok(201);
    let stale = put(Some(etag), 9).await;
    stale.problem(412);
    assert_eq!(stale.header("etag"), Some("\"2\""), "the way on: read again, decide again");
    put(Some("\"2\""), 9).await.ok(200);
    put(Some("W/\"3\""), 9).await.problem(412);
    put(Some("2"), 9).await.problem(400);
    assert_eq!(put(Some("*"), 4).await.ok(200)["available"], 3);
    let below = put(Some("*"), 0).await.problem(409);
    assert_eq!((&below["held"], &below["errors"][0]["pointer"]), (&json!(1), &json!("/on_hand")));
}

#[tokio::test]
async fn a_delivery_is_booked_once_for_each_key() {
    let shop = Shop::open(&[("pen", 1)]).await;
    let restock = async |headers: &[(&str, &str)], quantity: u64| {
        let body = Some(json!({ "quantity": quantity }));
        shop.client.send("POST", "/v1/items/pen/restock", headers, body).await
    };
    for _ in 0..2 {
        assert_eq!(restock(&[("idempotency-key", "monday")], 4).await.ok(200)["available"], 5);
    }
    restock(&[("idempotency-key", "monday")], 5).await.problem(422);
    restock(&[], 5).await.problem(400);
    restock(&[("idempotency-key", "zero")], 0).await.problem(422);
}

#[tokio::test]
async fn nonsense_is_refused_by_the_name_of_the_field_and_changes_nothing() {
    let shop = Shop::open(&[("pen", 3)]).await;
    let before = shop.client.get("/v1/items/pen").await.text;
    let line = |quantity: Value| json!({ "sku": "pen", "quantity": quantity });
    let many: Vec<Value> =
        (0..65).map(|n| json!({ "sku": format!("s{n}"), "quantity": 1 })).collect();
    let table = [
        (json!({}), "/lines"),
        (json!({ "lines": [] }), "/lines"),
        (json!({ "lines": many }), "/lines"),
        (json!({ "lines": [line(json!(0))] }), "/lines/0/quantity"),
        (json!({ "lines": [line(json!(1)), line(json!(-1))] }), "/lines/1/quantity"),
        (json!({ "lines": [line(json!(1.5))] }), "/lines/0/quantity"),
        (json!({ "lines": [line(json!(1_000_000)), line(json!(1))] }), "/lines/1/quantity"),
        (json!({ "lines": [line(json!("one"))] }), "/lines/0/quantity"),
        (json!({ "lines": [{ "sku": "a b", "quantity": 1 }] }), "/lines/0/sku"),
        (json!({ "lines": [line(json!(1))], "ttl_ms": 0 }), "/ttl_ms"),
        (json!({ "lines": [line(json!(1))], "ttl_ms": 86_400_001 }), "/ttl_ms"),
        (json!({ "lines": [line(json!(1))], "tll_ms": 1 }), "/tll_ms"),
    ];
    for (body, pointer) in table {
        let key = [("idempotency-key", "key")];
        let refused = shop
            .client
            .send("POST", "/v1/reservations", &key, Some(body.clone()))
            .await
            .problem(422);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{body}: {refused}");
    }
    for (body, pointer) in [
        (json!({ "sku": "", "on_hand": 1 }), "/sku"),
        (json!({ "sku": "x", "on_hand": -1 }), "/on_hand"),
        (json!({ "sku": "x", "on_hand": 1_000_000_000_001_u64 }), "/on_hand"),
    ] {
        let refused = shop.client.post("/v1/items", body.clone()).await.problem(422);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{body}: {refused}");
    }
    shop.client.get("/v1/reservations/not-a-uuid").await.problem(400);
    shop.client.get("/v1/items/not%20a%20sku").await.problem(404);
    shop.client.send("DELETE", "/v1/items/pen", &[], None).await.problem(405);
    assert_eq!(shop.client.get("/v1/items/pen").await.text, before);
    // None of the refused requests has used up its key.
    shop.client.reserve("key", &[("pen", 3)]).await.ok(201);
}
