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
    let pair = Arc::new(infra::redis_replicated().await?);
    for (name, keys) in
        [("replicas-uniform", Keys::uniform(KEYS)), ("replicas-zipf", Keys::zipf(KEYS, 1.1))]
    {
        let subjects = vec![
            through(&pair, "acknowledged at once", 0, keys),
            through(&pair, "acknowledged by the replica", 1, keys),
        ];
        let duration = Duration::from_secs(bench.pick(1, 1, 5));
        let load = ClosedLoop { workers: CROWD, duration, seed: bench.seed() };
        let about = format!("check of one, coalesced, a replica, {}", keys.describe());
        let rounds = Some(REDIS_ROUNDS);
        let scenario = Scenario { rounds, ..Scenario::new(name, about, "acknowledged at once") };
        bench.closed(scenario, load, subjects).await?;
    }
    Ok(())
}

fn through(
    pair: &Arc<infra::RedisReplicated>,
    name: &str,
    wait_replicas: u32,
    keys: Keys,
) -> Subject {
    let pair = Arc::clone(pair);
    Subject::answer(name, move || {
        let pair = Arc::clone(&pair);
        async move {
            let settings =
                RedisSettings { response_timeout: PATIENT, wait_replicas, learns: false };
            let store = CoalescedStore::new(RedisStore::with(pair.primary.url(), settings)?);
            let limiter = Arc::new(store.limiter(plenty(AlgorithmName::TokenBucket)));
            limiter.peek(caller()).await?;
            let op = move |shot: Shot| {
                let limiter = Arc::clone(&limiter);
                async move {
                    let mut name = Name::new();
                    let key =
                        Key::new(name.of(keys.pick(&mut shot.rng()))).map_err(|_| "bad key")?;
                    let decision = limiter.check(key, 1).await.map_err(|_| "unavailable")?;
                    word(decision.allowed())
                }
            };
            Ok(Ready::new(op, |counted: measure::harness::Summary| async move {
                let failed = counted.failed;
                (failed == 0).then_some(()).ok_or_else(|| format!("{failed} checks failed"))
            }))
        }
    })
}
