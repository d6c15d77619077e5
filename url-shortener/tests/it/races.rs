//! Many clients, one alias or one idempotency key: exactly one winner, and nobody gets a 5xx.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use url_shortener::Store;
use url_shortener::store::{memory::Memory, sqlite::Sqlite};

use crate::support::{Choices, app_on};

const ROUNDS: usize = 20;

async fn one_alias_has_one_winner<S: Store>(store: Arc<S>) {
    let app = app_on(store, Choices::default()).await;
    for round in 0..ROUNDS {
        let racing: Vec<_> = (0..64)
            .map(|racer| {
                let client = app.client.clone();
                let body = json!({"url": format!("https://example.com/{racer}"), "alias": format!("race{round}")});
                tokio::spawn(async move { (racer, client.create(body).await) })
            })
            .collect();
        let (mut winner, mut losers) = (None, 0);
        for racer in racing {
            let (racer, answer) = racer.await.unwrap();
            match answer.status {
                201 => assert!(winner.replace(racer).is_none(), "two winners in round {round}"),
                409 => losers += 1,
                _ => panic!("racer {racer} got {}: {}", answer.status, answer.text()),
            }
        }
        assert_eq!(losers, 63);
        let followed = app.client.follow(&format!("race{round}")).await;
        let expected = format!("https://example.com/{}", winner.expect("somebody wins"));
        assert_eq!(followed.header("location"), expected);
    }
}

async fn one_key_makes_one_link<S: Store>(store: Arc<S>) {
    let app = app_on(store, Choices::default()).await;
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        let send = async |client: crate::support::Client, key: String| {
            let headers = [("idempotency-key", key.as_str())];
            client
                .json("POST", "/v1/links", &headers, &json!({"url": "https://example.com/"}))
                .await
        };
        let racing: Vec<_> =
            (0..64).map(|_| tokio::spawn(send(app.client.clone(), key.clone()))).collect();
        let mut bodies = HashSet::new();
        for racer in racing {
            let answer = racer.await.unwrap();
            match answer.status {
                201 => drop(bodies.insert(answer.body)),
                // The first is still on its way: the client asks again.
                409 => assert_eq!(answer.header("retry-after"), "1"),
                status => panic!("a repeat got {status}: {}", answer.text()),
            }
        }
        bodies.insert(send(app.client.clone(), key).await.body);
        assert_eq!(bodies.len(), 1, "one request had several answers");
        assert_eq!(app.shortener.lookup().len(), round + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_alias_has_one_winner_in_memory() {
    one_alias_has_one_winner(Arc::<Memory>::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_alias_has_one_winner_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&directory.path().join("links.db")).unwrap();
    one_alias_has_one_winner(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_makes_one_link_in_memory() {
    one_key_makes_one_link(Arc::<Memory>::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_makes_one_link_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&directory.path().join("links.db")).unwrap();
    one_key_makes_one_link(Arc::new(store)).await;
}
