//! A real Redis Cluster of six nodes: whole, while slots move, and while a primary dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use infra::{RedisCluster, redis_cluster};
use rate_limiter::clock::ManualClock;
use rate_limiter::conformance::{EPOCH, Fixture, promises};
use rate_limiter::store::coalesced::{CoalescedLimiter, CoalescedStore};
use rate_limiter::store::redis::{RedisLimiter, RedisSettings, RedisStore, ScriptClock};
use rate_limiter::{
    AlgorithmName, Key, LimitSpec, Limiter, OnStoreFailure, Policy, PolicySpec, Store,
};
use testkit::wait_until;
use tokio::task::JoinSet;

/// Longer than a failover takes, so that a call which is refused for now outlives it.
const PATIENT: Duration = Duration::from_secs(15);
const YEAR_MS: u64 = 366 * 24 * 3_600_000;
const LIMIT: u32 = 1_000_000;

fn patient() -> RedisSettings {
    RedisSettings { response_timeout: PATIENT, ..RedisSettings::default() }
}

fn key(name: &str) -> Key<'_> {
    Key::new(name).unwrap()
}

/// Two limits of one caller: two keys in one slot.
fn two_limits() -> Policy {
    let limit = |name: &str, per_ms| LimitSpec {
        name: Some(name.to_owned()),
        algorithm: AlgorithmName::FixedWindow,
        rate: LIMIT,
        per_ms,
        burst: None,
    };
    let limits = vec![limit("year", YEAR_MS), limit("half", YEAR_MS / 2)];
    Policy::new("api", &PolicySpec { limits, on_store_failure: OnStoreFailure::Closed }).unwrap()
}

async fn slot_of(cluster: &RedisCluster, tag: &str) -> u16 {
    let client = redis::Client::open(cluster.urls()[0].as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CLUSTER").arg("KEYSLOT").arg(tag).query_async(&mut connection).await.unwrap()
}

/// The suite on one cluster: each promise uses policies of its own.
struct ClusterFixture {
    urls: Vec<String>,
    algorithm: AlgorithmName,
    clock: Arc<ManualClock>,
}

impl ClusterFixture {
    fn server(&self, policy: &Policy) -> RedisLimiter {
        let store = RedisStore::cluster(&self.urls, patient()).unwrap();
        store.with_clock(ScriptClock::Injected(Arc::clone(&self.clock))).limiter(policy.clone())
    }
}

impl Fixture for ClusterFixture {
    type Limiter = RedisLimiter;

    fn algorithm(&self) -> AlgorithmName {
        self.algorithm
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<RedisLimiter> {
        (0..count).map(|_| self.server(&policy)).collect()
    }
}

/// The same behind servers that coalesce.
struct CoalescedFixture(ClusterFixture);

impl Fixture for CoalescedFixture {
    type Limiter = CoalescedLimiter;

    fn algorithm(&self) -> AlgorithmName {
        self.0.algorithm
    }

    fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<CoalescedLimiter> {
        (0..count).map(|_| CoalescedLimiter::new(self.0.server(&policy))).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_every_promise() {
    let cluster = redis_cluster().await.unwrap();
    let fixture = |algorithm| ClusterFixture {
        urls: cluster.urls(),
        algorithm,
        clock: Arc::new(ManualClock::at(EPOCH)),
    };
    let mut kept = BTreeMap::new();
    for algorithm in [AlgorithmName::TokenBucket, AlgorithmName::SlidingLog] {
        for promise in promises::<ClusterFixture>() {
            let verdict = (promise.check)(Arc::new(fixture(algorithm))).await;
            kept.insert(format!("{algorithm:?}: {}", promise.name), verdict.err());
        }
    }
    // Its own policies: the ones above are used up.
    for promise in promises::<CoalescedFixture>() {
        let coalesced = CoalescedFixture(fixture(AlgorithmName::Gcra));
        let verdict = (promise.check)(Arc::new(coalesced)).await;
        kept.insert(format!("coalesced: {}", promise.name), verdict.err());
    }
    for (promise, broken) in kept {
        assert!(broken.is_none(), "{promise}: {}", broken.unwrap());
    }
}

/// Tasks that check without a pause, and what became of it.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start<L: Limiter>(limiter: &Arc<L>, callers: &[&'static str], tasks: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            failed: Arc::default(),
            tasks: JoinSet::new(),
        };
        for task in 0..tasks {
            let (limiter, caller) = (Arc::clone(limiter), callers[task % callers.len()]);
            let (stop, acknowledged) = (Arc::clone(&load.stop), Arc::clone(&load.acknowledged));
            let failed = Arc::clone(&load.failed);
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match limiter.check(key(caller), 1).await {
                        Ok(decision) => {
                            assert!(decision.allowed(), "the limit is beyond reach");
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        load
    }

    fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    async fn more(&self, count: u32) {
        let goal = self.acknowledged() + count;
        wait_until("more checks to pass", PATIENT, async || self.acknowledged() >= goal).await;
    }

    async fn end(mut self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        (self.acknowledged(), self.failed.load(Ordering::Relaxed))
    }
}

async fn charged(limiter: &impl Limiter, callers: &[&str]) -> u32 {
    let mut sum = 0;
    for caller in callers {
        sum += LIMIT - limiter.peek(key(caller)).await.unwrap().quota.remaining;
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_costs_no_check_and_charges_none_twice() {
    let cluster = redis_cluster().await.unwrap();
    let store = RedisStore::cluster(&cluster.urls(), patient()).unwrap();
    let single = Arc::new(store.limiter(two_limits()));
    let coalesced = Arc::new(CoalescedStore::new(store.clone()).limiter(two_limits()));
    let callers = ["mover", "stayer"];
    let (one, many) = (Load::start(&single, &callers, 4), Load::start(&coalesced, &callers, 8));
    one.more(50).await;

    let slot = slot_of(&cluster, "mover").await;
    let from = cluster.primary_of(slot).await.unwrap().id().to_owned();
    let to = cluster.nodes()[..3].iter().find(|node| node.id() != from).unwrap();
    let moving = cluster.begin_slot_move(slot, to).await.unwrap();
    // One of the caller's two states is here and one there: nobody can run the script.
    assert_eq!(moving.move_keys(1).await.unwrap(), 1);
    wait_until("a script to meet half of its keys", PATIENT, async || {
        store.tally().refused.get("tryagain").is_some_and(|count| *count > 0)
    })
    .await;
    while moving.move_keys(10).await.unwrap() > 0 {}
    wait_until("the old owner to send somebody on", PATIENT, async || {
        store.tally().refused.get("ask").is_some_and(|count| *count > 0)
    })
    .await;
    moving.finish().await.unwrap();
    wait_until("the new owner to be learned", PATIENT, async || {
        store.tally().refused.get("moved").is_some_and(|count| *count > 0)
    })
    .await;
    one.more(50).await;
    many.more(50).await;

    let ((one, one_failed), (many, many_failed)) = (one.end().await, many.end().await);
    assert_eq!((one_failed, many_failed), (0, 0), "{:?}", store.tally());
    assert_eq!(charged(&*single, &callers).await, one + many, "{:?}", store.tally());
    assert!(store.tally().unknown.is_empty(), "{:?}", store.tally());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_dies_under_load_takes_nothing_acknowledged_with_it() {
    let cluster = redis_cluster().await.unwrap();
    let store =
        RedisStore::cluster(&cluster.urls(), RedisSettings { wait_replicas: 1, ..patient() });
    let store = store.unwrap();
    let limiter = Arc::new(CoalescedStore::new(store.clone()).limiter(two_limits()));
    let callers = ["caller"];
    let load = Load::start(&limiter, &callers, 16);
    load.more(200).await;

    let slot = slot_of(&cluster, "caller").await;
    let killed = cluster.kill_primary_of(slot).await.unwrap();
    cluster.wait_healthy().await.unwrap();
    // The new primary has no replica, so nothing is acknowledged until one is back.
    killed.redis().restart().await.unwrap();
    load.more(200).await;
    let (acknowledged, failed) = load.end().await;

    let reader = RedisStore::cluster(&cluster.urls(), patient()).unwrap().limiter(two_limits());
    let charged = charged(&reader, &callers).await;
    assert!(charged >= acknowledged, "{acknowledged} acknowledged, {charged} remembered");
    let most = acknowledged + failed;
    assert!(charged <= most, "{charged} charged for {acknowledged} and {failed} unknown");
    let tally = store.tally();
    assert!(tally.refused.contains_key("unreachable"), "{tally:?}");
}
