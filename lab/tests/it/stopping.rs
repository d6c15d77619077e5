//! Starting where somebody else listens, and stopping while pages watch.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::wait_until;

use crate::running::{Events, LIMIT, Lab};

#[tokio::test]
async fn a_taken_port_is_one_line_that_names_the_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--listen", &address])
        .output();
    let output = tokio::time::timeout(LIMIT, output).await.unwrap().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "no table before the port is ours");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(&format!("--listen {address}: address already in use")), "{error}");
}

#[tokio::test]
async fn it_stops_at_once_while_pages_watch_and_traffic_runs() {
    let mut lab = Lab::start().await;
    let settings = crate::traffic::settings();
    let (status, _) = lab.json("POST", "/rate-limiter/lab/traffic", Some(&settings)).await;
    assert_eq!(status, 204);
    let mut watching = Vec::new();
    for _ in 0..3 {
        let stream = lab.open("GET", "/rate-limiter/lab/events", &[], None).await;
        let mut events = Events::of(stream);
        events.until("traffic", |event| event["kind"] == "tick").await;
        watching.push(events);
    }
    let asked = Instant::now();
    let status = lab.child.terminate().await;
    assert!(status.success(), "{status}");
    // Ten seconds is the deadline after which streams are cut: it must not have come to that.
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for mut events in watching {
        while events.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_question_that_nobody_reads_any_more_is_cancelled() {
    let lab = Lab::start().await;
    let path = format!("/questions/{SLOW_QUESTION}");
    let mut telling = Events::of(lab.open("POST", &path, &[], Some(&json!({}))).await);
    telling.until("the beginning", |event| event["event"] == "begin").await;

    let (status, problem) = lab.json("POST", &path, Some(&json!({}))).await;
    assert_eq!(status, 409, "one question at a time");
    assert_eq!(problem["type"], "urn:problem:busy");

    drop(telling);
    wait_until("the next question may run", LIMIT, || async {
        lab.open("POST", &path, &[], Some(&json!({}))).await.status() == 200
    })
    .await;
    let (status, _) = lab.json("POST", "/questions/rate-limiter/nonsense", Some(&json!({}))).await;
    assert_eq!(status, 404);
}

/// A question that takes some seconds, so that it can be stopped.
pub(crate) const SLOW_QUESTION: &str = "rate-limiter/hot-key";
