//! The answers of the rate limiter side by side: in process against `governor`, and through Redis
//! against a bare EVALSHA of the same script.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rate_limiter::clock::{Clock, Monotonic};
use rate_limiter::store::coalesced::CoalescedLimiter;
use rate_limiter::store::memory::{Memory, MemoryLimiter};
use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};

use measure::harness::{ClosedLoop, Keys, Outcome, Saturated, Saturation, Shot};
use measure::{Bench, Comparison, LoopSubject, Ready, Role, Scenario, Subject};

mod scale;
mod fronts;

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "eight algorithms in process beside governor, and through one Redis beside a bare \
                 EVALSHA of the same script";
    Comparison { system: "rate-limiter", about, run: |bench| Box::pin(compare(bench)) }
}

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    in_process(&mut bench).await?;
    scale::without_asking(&bench).await?;
    fronts::compare(&bench).await?;
    let redis = Arc::new(infra::redis().await?);
    bench.version("redis", redis.version());
    one_at_a_time(&bench, &redis).await?;
    as_fast_as_it_goes(&bench, &redis).await?;
    crowded(&bench, &redis).await?;
    scale::with_replicas(&bench).await?;
    scale::side_by_side(&bench).await
}

pub(super) const KEYS: u64 = 100_000;
/// About half of what two threads ask for on this many keys is allowed, so that both branches run.
const RATE: u32 = 100;

pub(super) fn policy(algorithm: AlgorithmName) -> Policy {
    Policy::single("bench", algorithm, RATE, 1_000, None).expect("legal numbers")
}

/// The caller's name as a request brings it: freshly written into a buffer. Names kept in an array
/// would be two cache misses per call that are the generator's and not the limiter's.
pub(super) struct Name(String);

impl Name {
    pub(super) fn new() -> Self {
        let mut name = String::with_capacity("user:000000".len());
        name.push_str("user:");
        Self(name)
    }

    /// `user:000042`.
    pub(super) fn of(&mut self, mut caller: u64) -> &String {
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit += (caller % 10) as u8;
            caller /= 10;
        }
        self.0.truncate("user:".len());
        self.0.push_str(std::str::from_utf8(&digits).unwrap_or_default());
        &self.0
    }
}

// ---- in process

/// A limiter under test, with what it admitted.
pub(super) struct Counted<L> {
    pub(super) limiter: L,
    admitted: [Lane; 2],
    started: Instant,
}

/// One thread's count on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Lane(AtomicU64);

impl<L> Counted<L> {
    pub(super) fn new(limiter: L) -> Self {
        Self { limiter, admitted: Default::default(), started: Instant::now() }
    }

    /// Only this thread writes its lane, so no read-modify-write is needed.
    pub(super) fn count(&self, thread: usize, allowed: bool) {
        let lane = &self.admitted[thread].0;
        lane.store(lane.load(Ordering::Relaxed) + u64::from(allowed), Ordering::Relaxed);
    }

    /// Over all keys no more than burst + rate x t; a window may hold twice its limit.
    pub(super) fn check(&self, measured: &Saturated, windowed: bool) -> Result<(), String> {
        let admitted: u64 = self.admitted.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum();
        let seconds = self.started.elapsed().as_secs_f64();
        let windows = if windowed { seconds + 2.0 } else { seconds + 1.0 };
        let most = KEYS as f64 * f64::from(RATE) * windows;
        let some = admitted > 0 && measured.calls > 0;
        (some && admitted as f64 <= most)
            .then_some(())
            .ok_or_else(|| format!("{admitted} admitted, at most {most:.0} may be"))
    }
}

fn ours(algorithm: AlgorithmName) -> LoopSubject {
    let make = move || Counted::new(Memory::default().limiter(policy(algorithm)));
    let worker = |state: Arc<Counted<MemoryLimiter>>, thread| {
        let mut rng = fastrand::Rng::with_seed(thread as u64);
        let (keys, mut name) = (Keys::uniform(KEYS), Name::new());
        move |_| {
            let key = Key::new(name.of(keys.pick(&mut rng))).expect("a legal key");
            let decision = state.limiter.check_now(key, 1).expect("room for every key");
            state.count(thread, decision.allowed());
        }
    };
    let windowed = !algorithm.has_burst();
    let check =
        move |state: &Counted<MemoryLimiter>, measured: &Saturated| state.check(measured, windowed);
    LoopSubject::new(algorithm.as_str(), Role::Answer, make, worker, check)
}

/// What every limiter of this table pays before it has decided anything: choosing and writing the
/// key, and reading the monotonic clock once. No limiter can be quicker than this.
fn floor() -> LoopSubject {
    let make = || Counted::new(Monotonic::default());
    let worker = |state: Arc<Counted<Monotonic>>, thread| {
        let mut rng = fastrand::Rng::with_seed(thread as u64);
        let (keys, mut name) = (Keys::uniform(KEYS), Name::new());
        move |_| {
            let key = Key::new(name.of(keys.pick(&mut rng))).expect("a legal key");
            std::hint::black_box((key, state.limiter.now()));
        }
    };
    let check = |_: &Counted<Monotonic>, measured: &Saturated| {
        (measured.calls > 0).then_some(()).ok_or_else(|| "nothing was called".to_owned())
    };
    LoopSubject::new("key and clock alone", Role::Peer, make, worker, check)
}

#[cfg(not(feature = "peers"))]
fn peers() -> Option<LoopSubject> {
    None
}

#[cfg(feature = "peers")]
fn peers() -> Option<LoopSubject> {
    Some(governor())
}

#[cfg(feature = "peers")]
fn governor() -> LoopSubject {
    use std::num::NonZeroU32;

    use governor::clock::MonotonicClock;
    use governor::middleware::NoOpMiddleware;
    use governor::state::keyed::DefaultKeyedStateStore;
    use governor::{Quota, RateLimiter};

    type Governor = RateLimiter<
        String,
        DefaultKeyedStateStore<String>,
        MonotonicClock,
        NoOpMiddleware<Instant>,
    >;
    let make = || {
        let quota = Quota::per_second(NonZeroU32::new(RATE).expect("not zero"));
        let limiter: Governor =
            RateLimiter::new(quota, DefaultKeyedStateStore::default(), MonotonicClock);
        Counted::new(limiter)
    };
    let worker = |state: Arc<Counted<Governor>>, thread| {
        let mut rng = fastrand::Rng::with_seed(thread as u64);
        let (keys, mut name) = (Keys::uniform(KEYS), Name::new());
        move |_| {
            let allowed = state.limiter.check_key(name.of(keys.pick(&mut rng))).is_ok();
            state.count(thread, allowed);
        }
    };
    let check = |state: &Counted<Governor>, measured: &Saturated| state.check(measured, false);
    LoopSubject::new("governor (monotonic clock)", Role::Peer, make, worker, check)
}

async fn in_process(bench: &mut Bench) -> anyhow::Result<()> {
    let subjects = || {
        let answers = AlgorithmName::ALL.iter().map(|&algorithm| ours(algorithm));
        answers.chain(peers()).chain([floor()]).collect::<Vec<_>>()
    };
    #[cfg(feature = "peers")]
    bench.version("governor", "0.10.4");
    let about = format!("check of one, {}", Keys::uniform(KEYS).describe());
    for (name, threads) in [("in-process-one-thread", 1), ("in-process-two-threads", 2)] {
        let baseline =
            if cfg!(feature = "peers") { "governor (monotonic clock)" } else { "token-bucket" };
        let scenario = Scenario::new(name, about.clone(), baseline);
        let slice = Duration::from_millis(bench.pick(20, 50, 100));
        let load = Saturation { slice, ..Saturation::default() }.threads(threads);
        bench.in_process(scenario, load, subjects()).await?;
    }
    memory_per_key()
}

/// Prints what a tracked caller costs, from the allocator's view of the tables.
fn memory_per_key() -> anyhow::Result<()> {
    let mut name = Name::new();
    let key_bytes = name.of(0).len();
    println!("memory per caller in process, bytes ({KEYS} callers, keys of {} bytes)", key_bytes);
    for algorithm in AlgorithmName::ALL {
        let limiter = Memory::default().limiter(policy(algorithm));
        for caller in 0..KEYS {
            limiter.check_now(Key::new(name.of(caller))?, 1)?;
        }
        let bytes = limiter.allocated_bytes() as f64 / limiter.tracked() as f64;
        println!("  {:<16} {bytes:>6.1}", algorithm.as_str());
    }
    println!();
    Ok(())
}

// ---- through Redis

const PATIENT: Duration = Duration::from_secs(5);
/// Nine subjects take a while; five rounds are the fewest that give an interval.
const REDIS_ROUNDS: usize = 5;

/// Empties Redis and returns a limiter.
async fn fresh(redis: &infra::Redis, algorithm: AlgorithmName) -> anyhow::Result<RedisLimiter> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
    Ok(RedisStore::connect(redis.url(), PATIENT)?.limiter(policy(algorithm)))
}

fn word(allowed: bool) -> Outcome {
    Ok(if allowed { "allowed" } else { "denied" })
}

fn through_redis(redis: &Arc<infra::Redis>, algorithm: AlgorithmName, keys: Keys) -> Subject {
    checks(redis, algorithm.as_str().to_owned(), algorithm, keys, |limiter| limiter)
}

fn coalesced(redis: &Arc<infra::Redis>, algorithm: AlgorithmName, keys: Keys) -> Subject {
    let name = format!("{}, coalesced", algorithm.as_str());
    checks(redis, name, algorithm, keys, CoalescedLimiter::new)
}

/// Checks of one against the limiter that `wrap` makes of a fresh one.
fn checks<L: Limiter>(
    redis: &Arc<infra::Redis>,
    name: String,
    algorithm: AlgorithmName,
    keys: Keys,
    wrap: fn(RedisLimiter) -> L,
) -> Subject {
    let redis = Arc::clone(redis);
    Subject::answer(&name, move || {
        let redis = Arc::clone(&redis);
        async move {
            let limiter = Arc::new(wrap(fresh(&redis, algorithm).await?));
            let probe = Arc::clone(&limiter);
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
            Ok(Ready::new(op, move |_| async move { grants_its_burst(&*probe).await }))
        }
    })
}

/// After any load, a caller never seen gets exactly the burst.
async fn grants_its_burst<L: Limiter>(limiter: &L) -> Result<(), String> {
    let key = Key::new("a caller nobody saw").map_err(|error| error.to_string())?;
    let grant = limiter.take_up_to(key, 2 * RATE).await.map_err(|error| error.to_string())?;
    (grant.granted == RATE)
        .then_some(())
        .ok_or_else(|| format!("granted {} of {RATE}", grant.granted))
}

/// What the network and Redis cost without us: the token bucket's own script and arguments, sent
/// by the client library and nothing else.
fn bare_evalsha(redis: &Arc<infra::Redis>, keys: Keys) -> Subject {
    let redis = Arc::clone(redis);
    Subject::peer("bare EVALSHA", move || {
        let redis = Arc::clone(&redis);
        async move {
            let limiter = fresh(&redis, AlgorithmName::TokenBucket).await?;
            let client = redis::Client::open(redis.url())?;
            let connection = client.get_multiplexed_async_connection().await?;
            let script = Arc::new(limiter.bare_script());
            let _: String = script.prepare_invoke().load_async(&mut connection.clone()).await?;
            let failed = Arc::new(AtomicU32::new(0));
            let seen = Arc::clone(&failed);
            let op = move |shot: Shot| {
                let (script, mut connection) = (Arc::clone(&script), connection.clone());
                let failed = Arc::clone(&failed);
                async move {
                    let key = format!("rl:{{user:{:06}}}:bench:tb", keys.pick(&mut shot.rng()));
                    let mut call = script.prepare_invoke();
                    call.key(key).arg(&["check", "1", "token-bucket", "1", "10000", "100"][..]);
                    match call.invoke_async::<[u64; 7]>(&mut connection).await {
                        Ok([outcome, ..]) => word(outcome == 0),
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            Err("unavailable")
                        }
                    }
                }
            };
            let check = move |_| async move {
                let failed = seen.load(Ordering::Relaxed);
                (failed == 0).then_some(()).ok_or_else(|| format!("{failed} calls failed"))
            };
            Ok(Ready::new(op, check))
        }
    })
}

fn redis_subjects(redis: &Arc<infra::Redis>, keys: Keys) -> Vec<Subject> {
    let mut subjects = vec![bare_evalsha(redis, keys)];
    subjects
        .extend(AlgorithmName::ALL.iter().map(|&algorithm| through_redis(redis, algorithm, keys)));
    subjects.push(coalesced(redis, AlgorithmName::TokenBucket, keys));
    subjects
}

async fn one_at_a_time(bench: &Bench, redis: &Arc<infra::Redis>) -> anyhow::Result<()> {
    let keys = Keys::uniform(KEYS);
    // One caller that waits for each reply: nothing queues, so a closed loop hides nothing here,
    // and the generator's own wake-ups do not drown the tens of microseconds we look for.
    let duration = Duration::from_millis(bench.pick(200, 1_000, 5_000));
    let load = ClosedLoop { workers: 1, duration, seed: bench.seed() };
    let about = format!("check of one, one after the other, {}", keys.describe());
    let scenario = Scenario {
        rounds: Some(REDIS_ROUNDS),
        ..Scenario::new("redis-latency", about, "bare EVALSHA")
    };
    bench.closed(scenario, load, redis_subjects(redis, keys)).await
}

async fn as_fast_as_it_goes(bench: &Bench, redis: &Arc<infra::Redis>) -> anyhow::Result<()> {
    let keys = Keys::uniform(KEYS);
    let duration = Duration::from_millis(bench.pick(200, 1_000, 5_000));
    let load = ClosedLoop { workers: 50, duration, seed: bench.seed() };
    let about = format!("check of one as fast as it goes, {}", keys.describe());
    let scenario = Scenario {
        rounds: Some(REDIS_ROUNDS),
        ..Scenario::new("redis-throughput", about, "bare EVALSHA")
    };
    bench.closed(scenario, load, redis_subjects(redis, keys)).await
}

/// Callers at a time in the crowded scenarios: one API server's worth of requests in flight.
const CROWD: usize = 1_000;

/// More requests than calls: what coalescing is for.
async fn crowded(bench: &Bench, redis: &Arc<infra::Redis>) -> anyhow::Result<()> {
    let scenarios = [
        ("redis-crowd-uniform", Keys::uniform(KEYS)),
        ("redis-crowd-zipf", Keys::zipf(KEYS, 1.1)),
        ("redis-crowd-one-key", Keys::uniform(1)),
    ];
    for (name, keys) in scenarios {
        let mut subjects = vec![bare_evalsha(redis, keys)];
        for algorithm in [AlgorithmName::TokenBucket, AlgorithmName::Gcra] {
            subjects.push(through_redis(redis, algorithm, keys));
            subjects.push(coalesced(redis, algorithm, keys));
        }
        let duration = Duration::from_millis(bench.pick(200, 1_000, 5_000));
        let load = ClosedLoop { workers: CROWD, duration, seed: bench.seed() };
        let about = format!("check of one as fast as it goes, {}", keys.describe());
        let rounds = Some(REDIS_ROUNDS);
        let scenario = Scenario { rounds, ..Scenario::new(name, about, "gcra") };
        bench.closed(scenario, load, subjects).await?;
    }
    Ok(())
}
