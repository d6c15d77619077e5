//! Several real processes in front of one store: together they never admit more than the limit,
//! whichever of the exact answers they run.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::crash::{Child, Program};

use crate::http::Client;

const RATE: u64 = 200;
const BURST: u64 = 300;
const PROCESSES: usize = 4;
const TASKS_PER_PROCESS: usize = 8;
const CHECKS_PER_TASK: usize = 100;

/// Two policies with the same numbers; the coalescing answer has a script of its own for the second.
const POLICIES: &str = r#"
[policies.api]
limits = [{ algorithm = "token-bucket", rate = 200, per_ms = 1000, burst = 300 }]
[policies.one-word]
limits = [{ algorithm = "gcra", rate = 200, per_ms = 1000, burst = 300 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_with_one_redis_admit_the_limit_and_no_more() {
    let redis = infra::redis().await.unwrap();
    let admitted = crowd("api", &["--store", redis.url()]).await;
    assert!(admitted >= BURST, "the burst alone is {BURST}, {admitted} were admitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_that_coalesce_admit_the_limit_and_no_more() {
    let redis = infra::redis().await.unwrap();
    for policy in ["api", "one-word"] {
        let admitted = crowd(policy, &["--store", redis.url(), "--coalesce"]).await;
        assert!(admitted >= BURST, "{policy}: the burst is {BURST}, {admitted} were admitted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_with_a_cluster_admit_the_limit_and_no_more() {
    let cluster = infra::redis_cluster().await.unwrap();
    let store = cluster.urls().join(",").replace("redis://", "").replace('/', "");
    let store = format!("redis-cluster://{store}");
    let admitted = crowd("api", &["--store", &store]).await;
    assert!(admitted >= BURST, "the burst alone is {BURST}, {admitted} were admitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_that_wait_for_a_replica_admit_the_limit_and_no_more() {
    let pair = infra::redis_replicated().await.unwrap();
    let waiting = ["--store", pair.primary.url(), "--wait-replicas", "1"];
    let admitted = crowd("api", &waiting).await;
    assert!(admitted >= BURST, "the burst alone is {BURST}, {admitted} were admitted");
}

/// Leases are charged before they are spent, so the sum is exact; tokens that a process holds while
/// the others ask in vain are spent by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn four_processes_that_lease_admit_the_limit_and_no_more() {
    let redis = infra::redis().await.unwrap();
    let admitted = crowd("api", &["--store", redis.url(), "--lease-ms", "100"]).await;
    assert!(admitted >= BURST / 2, "of a burst of {BURST} only {admitted} were admitted");
}

/// Starts processes on a store, asks all of them for one caller at the same time, and returns how
/// many checks they admitted: at most the burst and what came in meanwhile.
async fn crowd(policy: &'static str, store: &[&str]) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.toml");
    std::fs::write(&file, POLICIES).unwrap();
    let mut servers = Vec::new();
    for _ in 0..PROCESSES {
        let program = Program::new(env!("CARGO_BIN_EXE_rate-limiter"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store-timeout-ms", "5000"])
            .args(store)
            .args(["--policies"])
            .args([&file]);
        servers.push(program.start());
    }
    let mut clients = Vec::new();
    for server in &mut servers {
        clients.push(Client::to(address_of(server).await));
    }
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in &clients {
        for _ in 0..TASKS_PER_PROCESS {
            tasks.spawn(ask_again_and_again(client.clone(), policy));
        }
    }
    let admitted: u64 = tasks.join_all().await.into_iter().sum();
    // The last charge was made before now, the first after `started`.
    let elapsed_us = (started.elapsed() + Duration::from_millis(1)).as_micros() as u64;
    let most = BURST + elapsed_us * RATE / 1_000_000;
    assert!(admitted <= most, "{admitted} were admitted, at most {most} may be");
    admitted
}

async fn ask_again_and_again(client: Client, policy: &'static str) -> u64 {
    let mut admitted = 0;
    for _ in 0..CHECKS_PER_TASK {
        let ask = json!({"policy": policy, "key": "one caller"});
        match client.json("POST", "/v1/check", ask).await.status {
            200 => admitted += 1,
            429 => {}
            other => panic!("status {other}"),
        }
    }
    admitted
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
