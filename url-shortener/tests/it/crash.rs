//! The real program, killed: what was acknowledged is there, and clicks are lost or kept exactly
//! as promised.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use testkit::crash::{Child, Program, free_address};
use testkit::{Seed, wait_until};

use crate::support::Client;

fn program(database: &Path, address: SocketAddr, more: &[&str]) -> Program {
    let store = format!("sqlite:{}", database.display());
    let listen = address.to_string();
    Program::new(env!("CARGO_BIN_EXE_url-shortener"))
        .args(["serve", "--open", "--listen", &listen, "--store", &store])
        .args(["--base-url", "https://sho.rt", "--requests-per-second", "1000000"])
        .args(more.iter().copied())
}

async fn ready(child: &mut Child, address: SocketAddr) -> Client {
    child.wait_http_ok(address, "/readyz").await;
    Client::to(address, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_link_survives_kill_9() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut child = program(&directory.path().join("links.db"), address, &[]).start();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let client = ready(&mut child, address).await;
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut created = Vec::new();
                    for number in 0.. {
                        let url = format!("https://example.com/{round}/{writer}/{number}");
                        let key = format!("{round}-{writer}-{number}");
                        let headers = [
                            ("idempotency-key", key.as_str()),
                            ("content-type", "application/json"),
                        ];
                        let body = json!({"url": url}).to_string();
                        match client.try_send("POST", "/v1/links", &headers, body).await {
                            Ok(answer) => created.push((answer.code(), url, key)),
                            Err(_) => break, // the server is gone
                        }
                    }
                    created
                })
            })
            .collect();
        child.kill9_within(Duration::from_millis(400), &mut rng).await;
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        child.restart();
    }
    let client = ready(&mut child, address).await;
    assert!(acknowledged.len() > 10, "too few creates to prove anything: {}", acknowledged.len());
    for (code, url, key) in &acknowledged {
        let answer = client.follow(code).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, url.as_str()),
            "{code} is lost"
        );
        // The reply was written with the link: a client that never saw it gets it now.
        let again = client
            .json("POST", "/v1/links", &[("idempotency-key", key)], &json!({"url": url}))
            .await;
        assert_eq!(&again.code(), code);
    }
}

/// Follows `code` with 8 connections until told to stop; returns how many redirects arrived.
async fn visitors(client: &Client, code: &str, stop: Arc<AtomicBool>, seen: Arc<AtomicU64>) {
    let visitors: Vec<_> = (0..8)
        .map(|_| {
            let (client, path) = (client.clone(), format!("/{code}"));
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            tokio::spawn(async move {
                let firefox = [("user-agent", "Firefox/144")];
                while !stop.load(Ordering::Relaxed) {
                    let answer =
                        client.try_send("GET", &path, &firefox, axum::body::Body::empty()).await;
                    match answer {
                        Ok(answer) => assert_eq!(answer.status, 302),
                        Err(_) => break,
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for visitor in visitors {
        visitor.await.unwrap();
    }
}

async fn counted(client: &Client, code: &str) -> u64 {
    client.get(&format!("/v1/links/{code}/stats")).await.json()["total"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clean_stop_loses_no_click() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut child = program(&directory.path().join("links.db"), address, &[]).start();
    let client = ready(&mut child, address).await;
    let code = client.create(json!({"url": "https://example.com/"})).await.code();
    let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let load = tokio::spawn({
        let (client, code, stop, seen) =
            (client.clone(), code.clone(), Arc::clone(&stop), Arc::clone(&seen));
        async move { visitors(&client, &code, stop, seen).await }
    });
    wait_until("some clicks were made", Duration::from_secs(10), || async {
        seen.load(Ordering::Relaxed) > 500
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert!(child.terminate().await.success());
    child.restart();
    let client = ready(&mut child, address).await;
    assert_eq!(counted(&client, &code).await, seen.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_9_loses_the_flush_window_at_most_and_in_durable_mode_nothing() {
    for durable in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let more: &[&str] = if durable { &["--durable-clicks"] } else { &[] };
        let mut child = program(&directory.path().join("links.db"), address, more).start();
        let client = ready(&mut child, address).await;
        let code = client.create(json!({"url": "https://example.com/"})).await.code();
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let load = tokio::spawn({
            let (client, code, stop, seen) =
                (client.clone(), code.clone(), stop, Arc::clone(&seen));
            async move { visitors(&client, &code, stop, seen).await }
        });
        wait_until("clicks are made", Duration::from_secs(10), || async {
            seen.load(Ordering::Relaxed) > 300
        })
        .await;
        // What arrived by now is committed by the flush after next; that is the promise.
        let before = seen.load(Ordering::Relaxed);
        wait_until("they are committed", Duration::from_secs(10), || async {
            counted(&client, &code).await >= before
        })
        .await;
        child.kill9();
        load.await.unwrap();
        let arrived = seen.load(Ordering::Relaxed);
        child.restart();
        let client = ready(&mut child, address).await;
        let counted = counted(&client, &code).await;
        assert!(counted >= before, "{before} were committed, {counted} are counted");
        if durable {
            assert!(counted >= arrived, "{arrived} redirects arrived, {counted} are counted");
        }
        // Eight were on their way: counted, perhaps, and never seen to arrive.
        assert!(counted <= arrived + 8, "{counted} are counted, {arrived} redirects arrived");
    }
}
