//! One Redis and its replica: what is forgotten, what is waited for, what is learned.

use std::sync::Arc;
use std::time::Duration;

use infra::{Redis, redis_replicated};
use rate_limiter::store::redis::{RedisLimiter, RedisSettings, RedisStore};
use rate_limiter::{AlgorithmName, Error, Key, Limiter, Policy, Store};
use testkit::wait_until;

const PATIENT: Duration = Duration::from_secs(10);
const HOUR_MS: u64 = 3_600_000;

fn key(name: &str) -> Key<'_> {
    Key::new(name).unwrap()
}

fn policy(algorithm: AlgorithmName) -> Policy {
    Policy::single("api", algorithm, 100, HOUR_MS, None).unwrap()
}

fn store(redis: &Redis, settings: RedisSettings) -> RedisStore {
    RedisStore::with(redis.url(), settings).unwrap()
}

fn patient() -> RedisSettings {
    RedisSettings { response_timeout: PATIENT, ..RedisSettings::default() }
}

async fn run(redis: &Redis, command: &str) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    let () = command.arg(words.collect::<Vec<_>>()).query_async(&mut connection).await.unwrap();
}

async fn remaining(limiter: &RedisLimiter, caller: &str) -> u32 {
    limiter.peek(key(caller)).await.unwrap().quota.remaining
}

#[tokio::test]
async fn what_the_replica_did_not_receive_is_forgotten_unless_somebody_waited_for_it() {
    let pair = redis_replicated().await.unwrap();
    let hasty = store(&pair.primary, patient()).limiter(policy(AlgorithmName::FixedWindow));
    let strict = RedisSettings {
        wait_replicas: 1,
        response_timeout: Duration::from_millis(300),
        ..RedisSettings::default()
    };
    let strict = store(&pair.primary, strict).limiter(policy(AlgorithmName::FixedWindow));
    // A replica that has just arrived does not count before it has said how far it is.
    wait_until("the replica to count", PATIENT, async || strict.peek(key("x")).await.is_ok()).await;
    assert!(strict.check(key("strict"), 10).await.unwrap().allowed());
    run(&pair.replica, "REPLICAOF 127.0.0.1 1").await; // It cannot reach its primary any more.

    assert!(hasty.check(key("hasty"), 10).await.unwrap().allowed());
    let unconfirmed = strict.check(key("strict"), 10).await;
    assert!(matches!(unconfirmed, Err(Error::Unavailable { .. })), "{unconfirmed:?}");

    pair.fail_over().await.unwrap();
    let heir = store(&pair.replica, patient()).limiter(policy(AlgorithmName::FixedWindow));
    assert_eq!(remaining(&heir, "hasty").await, 100, "acknowledged and forgotten");
    assert_eq!(remaining(&heir, "strict").await, 90, "all that was acknowledged");
}

#[tokio::test]
async fn waiting_for_replicas_is_shared_by_all_who_wait() {
    let pair = redis_replicated().await.unwrap();
    let strict = store(&pair.primary, RedisSettings { wait_replicas: 1, ..patient() });
    let limiter = strict.limiter(policy(AlgorithmName::FixedWindow));
    let checks = (0..100).map(|_| limiter.check(key("caller"), 1));
    let answers = futures::future::join_all(checks).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|d| d.allowed())));
    let client = redis::Client::open(pair.primary.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let waits = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
    let waits: u32 = waits.unwrap().split(',').next().unwrap().parse().unwrap();
    assert!((1..=20).contains(&waits), "{waits} waits for 100 checks");
}

#[tokio::test]
async fn a_new_primary_takes_callers_it_never_saw_for_ones_that_used_up_everything() {
    let pair = redis_replicated().await.unwrap();
    let learning = RedisSettings { learns: true, ..patient() };
    for algorithm in AlgorithmName::ALL {
        store(&pair.primary, learning).limiter(policy(algorithm)).peek(key("any")).await.unwrap();
    }
    pair.wait_in_sync().await.unwrap();
    pair.fail_over().await.unwrap();
    for algorithm in AlgorithmName::ALL {
        let limiter = store(&pair.replica, learning).limiter(policy(algorithm));
        let decision = limiter.check(key("stranger"), 1).await.unwrap();
        let retry = decision.retry_after().unwrap_or_default();
        assert!(!decision.allowed() && retry <= Duration::from_millis(HOUR_MS), "{algorithm:?}");
    }
    // One refill later the period is over, for everybody: also for who comes only then.
    let fast = Policy::single("fast", AlgorithmName::TokenBucket, 100, 50, None).unwrap();
    let limiter = store(&pair.replica, learning).limiter(fast);
    wait_until("the learning period to end", PATIENT, async || {
        remaining(&limiter, "late").await == 100
    })
    .await;
    let hasty = store(&pair.replica, patient()).limiter(policy(AlgorithmName::Gcra));
    assert_eq!(remaining(&hasty, "stranger").await, 100, "who does not learn is generous");
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_learned_too() {
    let redis = infra::redis().await.unwrap();
    let learning = RedisSettings { learns: true, ..patient() };
    let limiter = store(&redis, learning)
        .limiter(Policy::single("a", AlgorithmName::Gcra, 100, 200, None).unwrap());
    wait_until("the first learning period to end", PATIENT, async || {
        remaining(&limiter, "caller").await == 100
    })
    .await;
    let slow = store(&redis, learning).limiter(policy(AlgorithmName::Gcra));
    redis.kill9().await.unwrap();
    redis.restart().await.unwrap();
    wait_until("the connection to be made anew", PATIENT, async || {
        slow.peek(key("caller")).await.is_ok()
    })
    .await;
    assert_eq!(remaining(&slow, "caller").await, 0);
}

#[tokio::test]
async fn a_replica_refuses_until_it_is_promoted_and_the_check_is_charged_once() {
    let pair = redis_replicated().await.unwrap();
    let heir = store(&pair.replica, patient());
    let limiter = Arc::new(heir.limiter(policy(AlgorithmName::TokenBucket)));
    let asked = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { limiter.check(key("caller"), 1).await }
    });
    wait_until("the replica to refuse", PATIENT, async || {
        heir.tally().refused.get("readonly").is_some_and(|count| *count > 0)
    })
    .await;
    pair.fail_over().await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().quota.remaining, 99);
}

#[tokio::test]
async fn a_primary_without_replicas_refuses_and_the_check_is_charged_once() {
    let redis = infra::redis().await.unwrap();
    run(&redis, "CONFIG SET min-replicas-to-write 1").await;
    let store = store(&redis, patient());
    let limiter = Arc::new(store.limiter(policy(AlgorithmName::Gcra)));
    let asked = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { limiter.check(key("caller"), 1).await }
    });
    wait_until("the primary to refuse", PATIENT, async || {
        store.tally().refused.get("noreplicas").is_some_and(|count| *count > 0)
    })
    .await;
    run(&redis, "CONFIG SET min-replicas-to-write 0").await;
    assert_eq!(asked.await.unwrap().unwrap().quota.remaining, 99);
}
