//! The primary dies and its replica takes over: what was acknowledged and is forgotten?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faultline::{Fault, Proxy};
use infra::{RedisReplicated, redis_replicated};
use rate_limiter::store::coalesced::{CoalescedLimiter, CoalescedStore};
use rate_limiter::store::redis::{RedisLimiter, RedisSettings, RedisStore};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};

use measure::harness::{ClosedLoop, Shot, median};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "failover",
        asks: "The Redis primary dies under load and its replica takes over. How many requests were \
               counted, acknowledged, and are forgotten?",
        explanation: "Replication is asynchronous, so a primary that dies takes with it whatever its \
            replica had not received: callers get those tokens a second time. min-replicas-to-write \
            makes a primary refuse writes once no replica was heard from for a while, which bounds \
            how long a primary that was cut off can go on, but not what is lost in that while. WAIT \
            returns when the replicas have what was written before, so a charge that was waited for \
            is on every server that can be promoted. Waiting per request would cost a third of the \
            throughput; one WAIT covers everything that was charged before it, so it is shared by \
            all calls in flight: where Redis is busy it costs nothing, and where it is not, the \
            time to the replica and back. Where nobody waited, a new primary can \
            learn: a caller it has never seen counts as one that had used up everything, for one \
            refill time.",
        run: |stage| Box::pin(run(stage)),
    }
}

const CALLERS: u64 = 16;
const WORKERS: usize = 64;
/// One server's worth of requests, as in the comparison of the crowd, and their callers.
const CROWD: usize = 1_000;
const MANY_CALLERS: u64 = 100_000;
const LIMIT: u32 = 50_000_000;
const YEAR_MS: u64 = 366 * 24 * 3_600_000;
/// What a caller that waits for replicas is willing to wait.
const TIMEOUT: Duration = Duration::from_millis(300);

fn policy() -> anyhow::Result<Policy> {
    Ok(Policy::single("api", AlgorithmName::FixedWindow, LIMIT, YEAR_MS, None)?)
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Async,
    MinReplicas,
    Wait,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::MinReplicas => "min-replicas-to-write 1, max-lag 1 s",
            Self::Wait => "WAIT 1",
        }
    }

    fn settings(self) -> RedisSettings {
        let wait_replicas = u32::from(self == Self::Wait);
        RedisSettings { response_timeout: TIMEOUT, wait_replicas, learns: false }
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let mut rng = fastrand::Rng::with_seed(stage.seed());
    let long_stall = Duration::from_millis(2_500);
    stage.scene(format!(
        "a primary and its replica; {WORKERS} requests in flight for {CALLERS} callers, coalesced"
    ));
    let lost = round(&stage, Mode::Async, long_stall).await?;
    stage.expect("async: what the replica did not have is forgotten", lost.0 > 0, lost.1);
    let lost = round(&stage, Mode::MinReplicas, long_stall).await?;
    let some = lost.0 > 0;
    stage.expect("min-replicas: less, and still forgotten", some, lost.1);
    let rounds = stage.pick(5, 100);
    let (mut worst, mut told) = (0, String::new());
    for _ in 0..rounds {
        let stall = Duration::from_millis(rng.u64(0..400));
        let (lost, what) = round(&stage, Mode::Wait, stall).await?;
        if lost >= worst {
            (worst, told) = (lost, what);
        }
    }
    let promise = format!("WAIT: nothing acknowledged is forgotten, in {rounds} rounds");
    stage.expect(promise, worst == 0, format!("worst round: {told}"));
    price(&stage).await
}

/// What a load left behind.
#[derive(Default)]
struct Acknowledged {
    by_caller: [AtomicU64; CALLERS as usize],
    failed: AtomicU64,
}

/// One primary's death: how much was acknowledged and is forgotten, and the same in words.
async fn round(stage: &Stage, mode: Mode, stall: Duration) -> anyhow::Result<(u64, String)> {
    let pair = redis_replicated().await?;
    let link = link_of(&pair).await?;
    if mode == Mode::MinReplicas {
        let settings = "min-replicas-max-lag 1 min-replicas-to-write 1";
        command(pair.primary.url(), &format!("CONFIG SET {settings}")).await?;
    }
    let store = CoalescedStore::new(RedisStore::with(pair.primary.url(), mode.settings())?);
    let limiter = Arc::new(store.limiter(policy()?));
    // A replica that has just arrived does not count before it has said how far it is.
    while limiter.peek(Key::new("nobody")?).await.is_err() {}

    let acknowledged = Arc::new(Acknowledged::default());
    let duration = Duration::from_millis(200) + stall;
    let load = ClosedLoop { workers: WORKERS, duration, seed: stage.seed() };
    let counted = Arc::clone(&acknowledged);
    let asked = Arc::clone(&limiter);
    let running = tokio::spawn(async move {
        load.run(move |shot: Shot| {
            let (limiter, counted) = (Arc::clone(&asked), Arc::clone(&counted));
            async move { charge(&limiter, &counted, shot).await }
        })
        .await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    link.set(Fault::Partition);
    stage.fault("partition", format!("{}: the replica falls behind for {stall:?}", mode.name()));
    tokio::time::sleep(stall).await;
    pair.fail_over().await?;
    stage.fault("kill-9", "the primary; the replica is promoted");
    drop(link);
    running.await?;
    stage.heal("kill-9");

    let heir = RedisStore::with(pair.replica.url(), RedisSettings::default())?.limiter(policy()?);
    let mut forgotten = 0;
    for (caller, acknowledged) in acknowledged.by_caller.iter().enumerate() {
        let remembered = LIMIT - remaining(&heir, &format!("caller:{caller}")).await?;
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        forgotten += acknowledged.saturating_sub(u64::from(remembered));
    }
    let sum: u64 = acknowledged.by_caller.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    let refused = acknowledged.failed.load(Ordering::Relaxed);
    let told = format!("{forgotten} of {sum} acknowledged are forgotten, {refused} were refused");
    stage.observe(mode.name(), &told);
    if mode == Mode::Async {
        learning(stage, &pair).await?;
    }
    Ok((forgotten, told))
}

/// The replication link through a proxy of ours.
async fn link_of(pair: &RedisReplicated) -> anyhow::Result<Proxy> {
    let link = Proxy::start(pair.primary.url()).await?;
    let at = link.addr();
    command(pair.replica.url(), &format!("REPLICAOF {} {}", at.ip(), at.port())).await?;
    pair.wait_in_sync().await?;
    Ok(link)
}

async fn charge(
    limiter: &CoalescedLimiter,
    counted: &Acknowledged,
    shot: Shot,
) -> measure::harness::Outcome {
    let caller = shot.rng().u64(0..CALLERS);
    let name = format!("caller:{caller}");
    match limiter.check(Key::new(&name).map_err(|_| "bad key")?, 1).await {
        Ok(decision) if decision.allowed() => {
            counted.by_caller[caller as usize].fetch_add(1, Ordering::Relaxed);
            Ok("allowed")
        }
        Ok(_) => Ok("denied"),
        Err(_) => {
            counted.failed.fetch_add(1, Ordering::Relaxed);
            // Refused at once, over and over: no reason to spin.
            tokio::time::sleep(Duration::from_millis(5)).await;
            Err("unavailable")
        }
    }
}

/// A caller of which the new primary has never heard.
async fn learning(stage: &Stage, pair: &RedisReplicated) -> anyhow::Result<()> {
    let bucket = Policy::single("bucket", AlgorithmName::TokenBucket, 1_000, 3_600_000, None)?;
    let learns = RedisSettings { learns: true, ..RedisSettings::default() };
    let learner = RedisStore::with(pair.replica.url(), learns)?.limiter(bucket.clone());
    let trusting = RedisStore::with(pair.replica.url(), RedisSettings::default())?.limiter(bucket);
    let given = (remaining(&learner, "lost").await?, remaining(&trusting, "lost").await?);
    stage.expect(
        "a new primary that learns gives nothing to a caller it never saw, at first",
        given.0 <= 1 && given.1 == 1_000,
        format!("{} of 1000 tokens; {} without learning", given.0, given.1),
    );
    Ok(())
}

/// What waiting costs where Redis has as much to do as it can, in turns on one pair of servers.
async fn price(stage: &Stage) -> anyhow::Result<()> {
    let pair = redis_replicated().await?;
    // More than any of these callers asks for.
    let policy = Policy::single("api", AlgorithmName::Gcra, 1_000_000, 1_000, None)?;
    let limiter = |mode: Mode| -> anyhow::Result<_> {
        let store = RedisStore::with(pair.primary.url(), mode.settings())?;
        Ok(Arc::new(CoalescedStore::new(store).limiter(policy.clone())))
    };
    let (hasty, strict) = (limiter(Mode::Async)?, limiter(Mode::Wait)?);
    while strict.peek(Key::new("nobody")?).await.is_err() {}
    let rounds = stage.pick(4, 12);
    let mut ratios = Vec::new();
    for round in 0..rounds {
        // Who goes first alternates, so that a drift of the machine cancels out.
        let pairs = if round % 2 == 0 { [&hasty, &strict] } else { [&strict, &hasty] };
        let (first, second) = (speed(stage, pairs[0]).await, speed(stage, pairs[1]).await);
        ratios.push(if round % 2 == 0 { second / first } else { first / second });
    }
    let ratio = median(&ratios);
    // Seen and not promised, because the other core may be busy with something else:
    // `compare rate-limiter --only replicas` measures it in turns.
    let share = format!("{:.1} % of the checks per second without waiting", 100.0 * ratio);
    stage.observe("what shared waits leave", share);
    stage.because("one WAIT covers every charge before it, so all calls in flight share one");
    Ok(())
}

async fn speed(stage: &Stage, limiter: &Arc<CoalescedLimiter>) -> f64 {
    let duration = Duration::from_millis(stage.pick(500, 2_000));
    let load = ClosedLoop { workers: CROWD, duration, seed: stage.seed() };
    let asked = Arc::clone(limiter);
    let run = load.run(move |shot: Shot| {
        let limiter = Arc::clone(&asked);
        async move {
            let name = format!("caller:{}", shot.rng().u64(0..MANY_CALLERS));
            let decision = limiter.check(Key::new(&name).map_err(|_| "bad key")?, 1).await;
            decision.map_err(|_| "unavailable").and_then(|decision| match decision.allowed() {
                true => Ok("allowed"),
                false => Err("denied"),
            })
        }
    });
    run.await.achieved_per_s()
}

async fn remaining(limiter: &RedisLimiter, caller: &str) -> anyhow::Result<u32> {
    Ok(limiter.peek(Key::new(caller)?).await?.quota.remaining)
}

async fn command(url: &str, words: &str) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    command.arg(words.collect::<Vec<_>>()).query_async::<()>(&mut connection).await?;
    Ok(())
}
