//! The real server, killed in the middle of a rush: nothing it has acknowledged is lost, nothing
//! is sold twice, and the books add up.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::crash::{Child, Program, free_address};
use testkit::seed::Seed;
use tokio::task::JoinSet;

use crate::client::{Client, cart_json};

const BUYERS: usize = 8;
const STOCK: u64 = 100_000;

/// What a buyer was told about one wish, by its key: the body of the reservation, and whether
/// the confirmation was answered.
type Told = HashMap<String, (String, bool)>;

async fn kill_and_recount(strategy: &str, rounds: u64) {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let store = format!("sqlite:{}", directory.path().join("inventory.db").display());
    let mut server: Child = Program::new(env!("CARGO_BIN_EXE_inventory-locking"))
        .args(["serve", "--listen", &address.to_string(), "--store", &store])
        .args(["--strategy", strategy])
        .start();
    server.wait_http_ok(address, "/readyz").await;
    let client = Client::new(address);
    client.post("/v1/items", json!({ "sku": "hot", "on_hand": STOCK })).await.ok(201);

    let mut told = Told::new();
    for round in 0..rounds {
        let mut buyers = JoinSet::new();
        for buyer in 0..BUYERS {
            buyers.spawn(buy_until_nobody_answers(Client::new(address), round, buyer));
        }
        server.kill9_within(Duration::from_millis(400), &mut rng).await;
        let before = told.len();
        while let Some(buyer) = buyers.join_next().await {
            told.extend(buyer.unwrap());
        }
        server.restart();
        server.wait_http_ok(address, "/readyz").await;
        println!("round {round}: {} reservations were acknowledged", told.len() - before);
    }
    assert!(!told.is_empty(), "the server was killed before it had acknowledged anything");
    recount(&client, &told).await;
    assert_eq!(server.terminate().await.code(), Some(0), "it stops in an orderly way");
}

/// Reserves and confirms every other wish, remembering what was answered.
async fn buy_until_nobody_answers(client: Client, round: u64, buyer: usize) -> Told {
    let mut told = Told::new();
    for wish in 0.. {
        let key = format!("{round}-{buyer}-{wish}");
        let headers = [("idempotency-key", &*key)];
        let cart = Some(cart_json(&[("hot", 1)]));
        let Some(held) = client.try_send("POST", "/v1/reservations", &headers, cart).await else {
            return told;
        };
        if held.status == 503 {
            // Busy: the answer lost too often against the other buyers and did nothing. That is
            // no acknowledgement, so there is nothing to find again.
            continue;
        }
        let id = held.ok(201)["id"].as_str().unwrap().to_owned();
        told.insert(key.clone(), (held.text.clone(), false));
        if wish % 2 == 0 {
            let path = format!("/v1/reservations/{id}/confirm");
            match client.try_send("POST", &path, &[], None).await {
                Some(busy) if busy.status == 503 => continue,
                Some(confirmed) => drop(confirmed.ok(200)),
                None => return told,
            }
            told.insert(key, (held.text, true));
        }
    }
    told
}

async fn recount(client: &Client, told: &Told) {
    for (key, (text, confirmed)) in told {
        let repeat = client.reserve(key, &[("hot", 1)]).await;
        assert_eq!((repeat.status, &repeat.text), (201, text), "{key} was acknowledged");
        assert_eq!(repeat.header("idempotency-replayed"), Some("true"), "{key} was lost");
        if *confirmed {
            let id = repeat.json()["id"].as_str().unwrap().to_owned();
            let now = client.get(&format!("/v1/reservations/{id}")).await.ok(200);
            assert_eq!(now["state"], "confirmed", "{key} was confirmed and is {now}");
        }
    }
    let audit: Value = client.get("/v1/audit").await.ok(200);
    assert_eq!(audit["broken"], 0, "{audit}");
    let promised = audit["held"].as_u64().unwrap() + audit["sold"].as_u64().unwrap();
    let confirmed = told.values().filter(|(_, confirmed)| *confirmed).count() as u64;
    // The last request of each buyer in each round may have been done without an answer.
    assert!(promised >= told.len() as u64, "{promised} promised, {} acknowledged", told.len());
    assert!(audit["sold"].as_u64().unwrap() >= confirmed, "{confirmed} confirmed: {audit}");
    assert_eq!(audit["available"].as_u64().unwrap() + promised, STOCK, "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_by_the_batching_answer_is_lost_with_the_process() {
    kill_and_recount("batching", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_by_the_optimistic_answer_is_lost_with_the_process() {
    kill_and_recount("optimistic", 2).await;
}
