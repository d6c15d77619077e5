//! Beyond one Redis: deciding without asking it, and waiting for its replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use rate_limiter::clock::Monotonic;
use rate_limiter::gossip::Actor;
use rate_limiter::store::coalesced::CoalescedStore;
use rate_limiter::store::gossip::GossipStore;
use rate_limiter::store::lease::LeasedLimiter;
use rate_limiter::store::memory::{Memory, MemoryLimiter};
use rate_limiter::store::redis::{RedisSettings, RedisStore};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};

use super::{CROWD, KEYS, Name, PATIENT, REDIS_ROUNDS, word};
use measure::harness::{ClosedLoop, Keys, Saturated, Saturation, Shot};
use measure::{Bench, LoopSubject, Ready, Role, Scenario, Subject};

/// So much that it is never used up: what is measured is the path of a check that is allowed.
const PLENTY: u32 = 1_000_000_000;

pub(super) fn plenty(algorithm: AlgorithmName) -> Policy {
    Policy::single("bench", algorithm, PLENTY, 1_000, None).expect("legal numbers")
}

fn caller() -> Key<'static> {
    Key::new("user:000042").expect("a legal key")
}

/// A limiter, and how many checks it allowed: all of them, or something is broken.
struct Allowed<L> {
    limiter: L,
    allowed: AtomicU64,
}

impl<L> Allowed<L> {
    fn new(limiter: L) -> Self {
        Self { limiter, allowed: AtomicU64::new(0) }
    }

    fn count(&self, allowed: bool) {
        // One thread: no read-modify-write is needed.
        let count = self.allowed.load(Ordering::Relaxed) + u64::from(allowed);
        self.allowed.store(count, Ordering::Relaxed);
    }

    fn check(&self, measured: &Saturated) -> Result<(), String> {
        let allowed = self.allowed.load(Ordering::Relaxed);
        let all = measured.calls > 0 && allowed >= measured.calls;
        all.then_some(()).ok_or_else(|| format!("{allowed} of {} were allowed", measured.calls))
    }
}

type Node = LeasedLimiter<MemoryLimiter>;

fn in_process() -> LoopSubject {
    let make = || Allowed::new(Memory::default().limiter(plenty(AlgorithmName::TokenBucket)));
    let worker = |state: Arc<Allowed<MemoryLimiter>>, _| {
        move |_| state.count(state.limiter.check_now(caller(), 1).is_ok_and(|d| d.allowed()))
    };
    LoopSubject::new("in process", Role::Answer, make, worker, Allowed::check)
}

/// The store below is in process too, so that the few checks that ask it do not hide the others.
fn leased() -> LoopSubject {
    let make = || {
        let store = Memory::default().limiter(plenty(AlgorithmName::TokenBucket));
        let clock = Arc::new(Monotonic::default());
        Allowed::new(LeasedLimiter::new(store, clock, Duration::from_millis(100)))
    };
    let worker = |state: Arc<Allowed<Node>>, _| {
        move |_| {
            let here = state.limiter.spend(caller(), 1);
            let decision = here.map(Ok).or_else(|| state.limiter.check(caller(), 1).now_or_never());
            state.count(matches!(decision, Some(Ok(decision)) if decision.allowed()));
        }
    };
    LoopSubject::new("leased", Role::Answer, make, worker, Allowed::check)
}

fn gossiping() -> LoopSubject {
    let make = || {
        let store = GossipStore::quiet(Arc::new(Monotonic::default()), Actor(1));
        Allowed::new(store.limiter(plenty(AlgorithmName::FixedWindow)))
    };
    let worker = |state: Arc<Allowed<rate_limiter::store::gossip::GossipLimiter>>, _| {
        move |_| state.count(state.limiter.check_now(caller(), 1).is_ok_and(|d| d.allowed()))
    };
    LoopSubject::new("gossip", Role::Answer, make, worker, Allowed::check)
}

/// The checks of one busy caller that need nobody.
pub(super) async fn without_asking(bench: &Bench) -> anyhow::Result<()> {
    let about = "check of one, one caller, all allowed";
    let scenario = Scenario::new("without-asking", about, "in process");
    let slice = Duration::from_millis(bench.pick(20, 50, 100));
    let load = Saturation { slice, ..Saturation::default() }.threads(1);
    bench.in_process(scenario, load, vec![in_process(), leased(), gossiping()]).await
}

/// Charges that are acknowledged at once, and charges that are acknowledged when the replica has
/// them; both on the same primary with the same replica.
pub(super) async fn with_replicas(bench: &Bench) -> anyhow::Result<()> {
    if !bench.wants_any(&["replicas"]) {
        return Ok(());
    }
    let pair = infra::redis_replicated().await?;
    for (name, keys) in
        [("replicas-uniform", Keys::uniform(KEYS)), ("replicas-zipf", Keys::zipf(KEYS, 1.1))]
    {
        let coalesced = |name, wait_replicas| {
            let url = pair.primary.url().to_owned();
            let make = move || Ok(CoalescedStore::new(store(&url, wait_replicas)?).limiter(gcra()));
            asked(name, keys, make)
        };
        let subjects =
            vec![coalesced("acknowledged at once", 0), coalesced("acknowledged by the replica", 1)];
        let load = closed(bench, CROWD);
        let about = format!("check of one, coalesced, a replica, {}", keys.describe());
        let rounds = Some(REDIS_ROUNDS);
        let scenario = Scenario { rounds, ..Scenario::new(name, about, "acknowledged at once") };
        bench.closed(scenario, load, subjects).await?;
    }
    Ok(())
}

/// Every answer for many servers, under the same load.
pub(super) async fn side_by_side(bench: &Bench) -> anyhow::Result<()> {
    if !bench.wants_any(&["answers"]) {
        return Ok(());
    }
    let (redis, pair) = (infra::redis().await?, infra::redis_replicated().await?);
    let cluster = infra::redis_cluster().await?;
    let keys = Keys::uniform(KEYS);
    let (one, primary) = (redis.url().to_owned(), pair.primary.url().to_owned());
    let (lent, packed, awaited) = (one.clone(), one.clone(), primary.clone());
    let urls = cluster.urls();
    let clock = || Arc::new(Monotonic::default());
    let subjects = vec![
        asked("one Redis", keys, move || Ok(store(&one, 0)?.limiter(gcra()))),
        asked("one Redis, coalesced", keys, move || {
            Ok(CoalescedStore::new(store(&packed, 0)?).limiter(gcra()))
        }),
        asked("a replica, async", keys, move || Ok(store(&primary, 0)?.limiter(gcra()))),
        asked("a replica, waited for", keys, move || Ok(store(&awaited, 1)?.limiter(gcra()))),
        asked("a cluster of six", keys, move || {
            Ok(RedisStore::cluster(&urls, settings(0))?.limiter(gcra()))
        }),
        asked("leases over one Redis", keys, move || {
            let store = store(&lent, 0)?.limiter(gcra());
            Ok(LeasedLimiter::new(store, clock(), Duration::from_millis(100)))
        }),
        asked("gossip", keys, move || {
            Ok(GossipStore::quiet(clock(), Actor(1)).limiter(plenty(AlgorithmName::FixedWindow)))
        }),
    ];
    let about = format!("check of one, 50 callers at a time, {}", keys.describe());
    let rounds = Some(REDIS_ROUNDS);
    let scenario = Scenario { rounds, ..Scenario::new("answers", about, "one Redis") };
    bench.closed(scenario, closed(bench, 50), subjects).await
}

fn closed(bench: &Bench, workers: usize) -> ClosedLoop {
    let duration = Duration::from_millis(bench.pick(200, 1_000, 5_000));
    ClosedLoop { workers, duration, seed: bench.seed() }
}

/// More than any of many callers asks for, at one microsecond a token.
fn gcra() -> Policy {
    Policy::single("bench", AlgorithmName::Gcra, 1_000_000, 1_000, None).expect("legal numbers")
}

fn settings(wait_replicas: u32) -> RedisSettings {
    RedisSettings { response_timeout: PATIENT, wait_replicas, learns: false }
}

fn store(url: &str, wait_replicas: u32) -> anyhow::Result<RedisStore> {
    Ok(RedisStore::with(url, settings(wait_replicas))?)
}

/// Checks of one against a fresh limiter, every one of which must be allowed.
fn asked<L: Limiter>(
    name: &str,
    keys: Keys,
    make: impl Fn() -> anyhow::Result<L> + Send + Sync + 'static,
) -> Subject {
    Subject::answer(name, move || {
        let made = make();
        async move {
            let limiter = Arc::new(made?);
            limiter.peek(caller()).await?;
            let op = move |shot: Shot| {
                let limiter = Arc::clone(&limiter);
                async move {
                    let mut name = Name::new();
                    let name = name.of(keys.pick(&mut shot.rng()));
                    let key = Key::new(name).map_err(|_| "bad key")?;
                    let decision = limiter.check(key, 1).await.map_err(|_| "unavailable")?;
                    if decision.allowed() { word(true) } else { Err("denied") }
                }
            };
            Ok(Ready::new(op, |counted: measure::harness::Summary| async move {
                let failed = counted.failed;
                (failed == 0).then_some(()).ok_or_else(|| format!("{failed} checks failed"))
            }))
        }
    })
}
