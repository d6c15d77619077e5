//! A private Redis: ready, durable or not, frozen, killed, restarted.

use std::time::Duration;

use infra::{Redis, RedisOptions};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};

async fn connect(server: &Redis) -> RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(server.url())?;
    // Without a limit of ours, the tests of a frozen server would wait for the client's own.
    let config = redis::AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_millis(500)))
        .set_connection_timeout(Some(Duration::from_millis(500)));
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn durable() -> RedisOptions {
    RedisOptions { durable: true, ..RedisOptions::default() }
}

#[tokio::test]
async fn a_new_server_is_empty_and_private() {
    let (one, other) = tokio::try_join!(infra::redis(), infra::redis()).unwrap();
    assert_ne!(one.url(), other.url());
    let mut connection = connect(&one).await.unwrap();
    let () = connection.set("key", "value").await.unwrap();
    let size: u64 =
        redis::cmd("DBSIZE").query_async(&mut connect(&other).await.unwrap()).await.unwrap();
    assert_eq!(size, 0);
    assert!(one.version().starts_with(|c: char| c.is_ascii_digit()), "{}", one.version());
}

#[tokio::test]
async fn a_durable_server_keeps_acknowledged_writes_over_kill_nine() {
    let server = infra::redis_with(durable()).await.unwrap();
    let () = connect(&server).await.unwrap().set("key", "value").await.unwrap();
    let url = server.url().to_owned();
    server.kill9().await.unwrap();
    assert!(connect(&server).await.is_err(), "a killed server must not answer");
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    let value: String = connect(&server).await.unwrap().get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn an_in_memory_server_is_empty_after_a_restart() {
    let server = infra::redis().await.unwrap();
    let () = connect(&server).await.unwrap().set("key", "value").await.unwrap();
    server.restart().await.unwrap();
    let value: Option<String> = connect(&server).await.unwrap().get("key").await.unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn a_paused_server_is_silent_and_goes_on_where_it_was() {
    let server = infra::redis().await.unwrap();
    let mut connection = connect(&server).await.unwrap();
    let () = connection.set("key", "value").await.unwrap();
    server.pause().await.unwrap();
    let answer: RedisResult<String> = connection.get("key").await;
    assert!(answer.unwrap_err().is_timeout());
    server.resume().await.unwrap();
    let value: String = connect(&server).await.unwrap().get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn extra_arguments_win() {
    let arguments = ["--maxmemory", "64mb"].map(String::from).to_vec();
    let options = RedisOptions { arguments, ..RedisOptions::default() };
    let server = infra::redis_with(options).await.unwrap();
    let (_, maximum): (String, u64) = redis::cmd("CONFIG")
        .arg("GET")
        .arg("maxmemory")
        .query_async(&mut connect(&server).await.unwrap())
        .await
        .unwrap();
    assert_eq!(maximum, 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let arguments = ["--maxmemory", "nonsense"].map(String::from).to_vec();
    let options = RedisOptions { arguments, ..RedisOptions::default() };
    let error = infra::redis_with(options).await.err().expect("Redis refuses that configuration");
    let message = error.to_string();
    assert!(message.contains("maxmemory"), "the server's own words are missing: {message}");
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process() {
    let server = infra::redis().await.unwrap();
    let pid = server.pid().expect("a local server has a process id");
    assert!(crate::orphans::is_running(pid));
    drop(server);
    assert!(!crate::orphans::is_running(pid));
}

#[tokio::test]
async fn a_failover_keeps_what_was_in_sync() {
    let pair = infra::redis_replicated().await.unwrap();
    let () = connect(&pair.primary).await.unwrap().set("key", "value").await.unwrap();
    pair.wait_in_sync().await.unwrap();
    let mut replica = connect(&pair.replica).await.unwrap();
    let refused: RedisResult<()> = replica.set("key", "other").await;
    assert_eq!(refused.unwrap_err().code(), Some("READONLY"));
    pair.fail_over().await.unwrap();
    let () = replica.set("after", "written").await.unwrap();
    let value: String = replica.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn a_slow_disk_is_felt_by_each_durable_write() {
    let delay = Duration::from_millis(40);
    let options = RedisOptions { fsync_delay: Some(delay), ..durable() };
    let server = infra::redis_with(options).await.unwrap();
    let mut connection = connect(&server).await.unwrap();
    let started = std::time::Instant::now();
    for round in 0..5 {
        let () = connection.set("key", round).await.unwrap();
    }
    // A lower bound only: a real disk may add as much as it likes.
    assert!(started.elapsed() >= 5 * delay, "took {:?}", started.elapsed());
    server.slow_fsync().expect("asked for").set_delay(Duration::ZERO).unwrap();
    let () = connection.set("key", "fast again").await.unwrap();
}
