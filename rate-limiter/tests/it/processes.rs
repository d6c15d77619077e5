//! Several real processes in front of one Redis: together they never admit more than the limit.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::crash::{Child, Program};

use crate::http::Client;

const POLICIES: &str = r#"
[policies.api]
limits = [{ algorithm = "token-bucket", rate = 200, per_ms = 1000, burst = 300 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_with_one_redis_admit_the_limit_and_no_more() {
    let redis = infra::redis().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.toml");
    std::fs::write(&file, POLICIES).unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", redis.url(), "--policies"];
    let mut servers = Vec::new();
    for _ in 0..4 {
        let program =
            Program::new(env!("CARGO_BIN_EXE_rate-limiter")).args(arguments).args([&file]);
        servers.push(program.start());
    }
    let mut clients = Vec::new();
    for server in &mut servers {
        clients.push(Client::to(address_of(server).await));
    }
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in &clients {
        for _ in 0..8 {
            let client = client.clone();
            tasks.spawn(async move {
                let mut admitted = 0_u64;
                for _ in 0..100 {
                    let ask = json!({"policy": "api", "key": "one caller"});
                    match client.json("POST", "/v1/check", ask).await.status {
                        200 => admitted += 1,
                        429 => {}
                        other => panic!("status {other}"),
                    }
                }
                admitted
            });
        }
    }
    let admitted: u64 = tasks.join_all().await.into_iter().sum();
    // The last charge was made before now, the first after `started`.
    let most =
        300 + (started.elapsed() + Duration::from_millis(1)).as_micros() as u64 * 200 / 1_000_000;
    assert!(admitted >= 300, "the burst alone is 300, {admitted} were admitted");
    assert!(admitted <= most, "{admitted} were admitted, at most {most} may be");
}

/// The address a server says it listens on, having been told to take any free port.
pub(crate) async fn address_of(server: &mut Child) -> SocketAddr {
    let line = server.wait_line("listening on http://").await;
    let address = line.split("http://").nth(1).unwrap_or_default();
    let end = address.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
    address[..end.unwrap_or(address.len())].parse().unwrap_or_else(|_| panic!("{line:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leases_gives_back_what_it_did_not_spend_before_it_ends() {
    let redis = infra::redis().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.toml");
    let yearly = POLICIES.replace("per_ms = 1000", "per_ms = 31536000000").replace("200", "300");
    std::fs::write(&file, yearly).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_rate-limiter"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store", redis.url()])
        .args(["--lease-ms", "60000", "--policies"])
        .args([&file]);
    let mut server = program.start();
    let client = Client::to(address_of(&mut server).await);
    let ask = |cost| json!({"policy": "api", "key": "one caller", "cost": cost});
    let first = client.json("POST", "/v1/check", ask(1)).await.json();
    assert_eq!((first["allowed"].as_bool(), first["source"].as_str()), (Some(true), Some("lease")));
    let leased = client.json("POST", "/v1/check", ask(0)).await.json();
    let left = leased["remaining"].as_u64().unwrap();
    assert!(left < 299, "{left} of 300 are left: nothing was taken in advance");
    server.terminate().await;

    let policy = rate_limiter::Policy::single(
        "api",
        rate_limiter::AlgorithmName::TokenBucket,
        300,
        31_536_000_000,
        None,
    );
    let patient = Duration::from_secs(5);
    let store = rate_limiter::store::redis::RedisStore::connect(redis.url(), patient).unwrap();
    use rate_limiter::{Limiter, Store};
    let limiter = store.limiter(policy.unwrap());
    let key = rate_limiter::Key::new("one caller").unwrap();
    assert_eq!(limiter.peek(key).await.unwrap().quota.remaining, 299);
}
