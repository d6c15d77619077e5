//! `grade --url`: our own services keep every promise over the wire, and others do not.

use std::sync::Arc;
use std::time::Duration;

use lru_cache::LruCache;
use lru_cache::clock::SystemClock;
use lru_cache::resp::{keyspace, server};
use service::Shutdown;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::running::Lab;

/// Longer than any grade takes: the slowest waits for leases to run out.
const LIMIT: Duration = Duration::from_secs(60);

/// Grades, and returns whether everything was kept and what was printed.
async fn grade(system: &str, url: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["grade", system, "--url", url]).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.expect("grading ends").expect("the lab can be run");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn keeps_everything(system: &str, url: &str) {
    let (kept, page) = grade(system, url).await;
    assert!(kept && !page.contains("BROKEN"), "{system}:\n{page}");
}

#[tokio::test]
async fn the_services_in_the_lab_keep_every_promise_over_http() {
    let lab = Lab::start().await;
    for system in ["rate-limiter", "url-shortener", "inventory-locking", "chat-service"] {
        keeps_everything(system, &lab.url(&format!("/{system}"))).await;
    }
    // Another service altogether keeps none, and the page says what was asked.
    let (kept, page) = grade("rate-limiter", &lab.url("/inventory-locking")).await;
    assert!(!kept && page.contains("0 of ") && page.contains("for PUT /v1/policies/"), "{page}");
}

#[tokio::test]
async fn the_queue_keeps_every_promise_over_sqs() {
    let queues = job_queue::store::memory::Memory::new(job_queue::clock::Clock::system());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let router = job_queue::http::router(queues, "000000000000", &shutdown);
    tokio::spawn(service::serve(listener, router, shutdown));
    keeps_everything("job-queue", &format!("http://{address}")).await;
}

#[tokio::test]
async fn the_cache_keeps_every_promise_over_resp_and_an_unbounded_redis_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let capacity = keyspace::Capacity::Entries(500);
    let keys = keyspace::Keyspace::new(capacity, SystemClock::default(), LruCache::weighted);
    tokio::spawn(server::serve(listener, Arc::new(keys), std::future::pending()));
    keeps_everything("lru-cache", &format!("redis://{address}")).await;

    let redis = infra::redis().await.expect("a Redis to grade");
    let (kept, page) = grade("lru-cache", redis.url()).await;
    assert!(!kept && page.contains("8 of 9 promises kept"), "{page}");
    assert!(page.contains("look at: the_least_recently_used_leaves"), "{page}");
}

#[tokio::test]
async fn what_cannot_be_graded_is_said() {
    for (system, url, says) in [
        ("no-such-system", "http://127.0.0.1:1", "there are: rate-limiter"),
        ("lru-cache", "http://127.0.0.1:1", "does not begin with redis://"),
        ("rate-limiter", "http://127.0.0.1:1", "nobody answers"),
        ("lru-cache", "redis://127.0.0.1:1", "start your service first"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["grade", system, "--url", url])
            .output()
            .await;
        let output = output.expect("the lab can be run");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_command_that_names_nothing_there_is_says_what_there_is() {
    for (command, says) in [
        (&["ask"][..], "`ask --list` prints them"),
        (&["ask", "nonsense"], "see: ask --list"),
        (&["ask", "lru-cache/nonsense"], "see: ask --list"),
        (&["compare", "nonsense"], "there are: rate-limiter, lru-cache"),
        (&["grade", "nonsense"], "there are: rate-limiter, lru-cache"),
        (&["nonsense"], "unrecognized subcommand"),
        (&["--nonsense"], "unexpected argument"),
        (&["--listen", "8080"], "--listen"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(command).output().await;
        let output = output.expect("the lab can be run");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{command:?}: {error}");
        assert!(error.contains(says), "{command:?}: {error}");
    }
}
