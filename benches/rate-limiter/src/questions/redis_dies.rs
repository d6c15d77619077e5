//! The store dies in the middle of traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rate_limiter::clock::Monotonic;
use rate_limiter::resilience::Resilient;
use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{
    AlgorithmName, LimitSpec, Limiter, OnStoreFailure, Policy, PolicySpec, Source, Store,
};

use super::caller;
use measure::harness::{Load, Outcome, Plan};
use measure::units::duration;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "redis-dies",
        asks: "Redis dies in the middle of traffic. Do you let everything through, refuse \
               everything, or something in between?",
        explanation: "It depends on what the limit protects, so it is a property of the policy: \
            open for comfort, closed for something that breaks, local for most things: each server \
            enforces its share of the limit until the store is back. Two things matter more than \
            the choice. A timeout is not a denial and is never retried, because the charge may have \
            been made. And nobody may pay the timeout on every request: after a few failures a \
            breaker sends checks straight to the fallback and probes the store a few times a second.",
        run: |stage| Box::pin(run(stage)),
    }
}

const RATE: u32 = 500;
const SERVERS: u32 = 5;
const OFFERED_PER_S: f64 = 1_000.0;
const TIMEOUT: Duration = Duration::from_millis(50);

type Server = Resilient<RedisLimiter>;

#[derive(Default)]
struct Sources {
    open: AtomicU64,
    closed: AtomicU64,
    local: AtomicU64,
    store_after: AtomicU64,
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let redis = Arc::new(infra::redis().await?);
    stage.scene(format!(
        "one of {SERVERS} servers, {RATE}/s for each policy, Redis {} behind it, {TIMEOUT:?} of patience",
        redis.version()
    ));
    let store = RedisStore::connect(redis.url(), TIMEOUT)?;
    let server = |mode| {
        anyhow::Ok(Arc::new(Resilient::new(
            store.limiter(policy(mode)?),
            SERVERS,
            Arc::new(Monotonic::default()),
        )))
    };
    let modes = [OnStoreFailure::Open, OnStoreFailure::Closed, OnStoreFailure::Local];
    let all: Arc<Vec<Arc<Server>>> =
        Arc::new(modes.map(server).into_iter().collect::<Result<_, _>>()?);
    let down_for = Duration::from_secs(stage.pick(2, 10));
    let around = Duration::from_secs(2);
    let load = Load::new(Plan::constant(OFFERED_PER_S, around + down_for + around)).with_faults();
    let sources = Arc::new(Sources::default());

    let outage = tokio::spawn(outage(stage.clone(), Arc::clone(&redis), around, down_for));
    let (servers, seen) = (Arc::clone(&all), Arc::clone(&sources));
    let op = move |shot: measure::harness::Shot| {
        let (server, seen) = (Arc::clone(&servers[shot.n as usize % 3]), Arc::clone(&seen));
        async move { ask(&server, &seen).await }
    };
    let run = stage.drive("three policies in turn", &load, op).await;
    outage.await??;

    let [open, closed, local, after] =
        [&sources.open, &sources.closed, &sources.local, &sources.store_after]
            .map(|count| count.load(Ordering::Relaxed));
    let offered = OFFERED_PER_S / 3.0 * down_for.as_secs_f64();
    stage.expect("open lets (nearly) all of its traffic pass", open as f64 > 0.8 * offered, open);
    stage.expect("closed lets nothing pass without the store", closed == 0, closed);
    let share = f64::from(RATE / SERVERS) * (down_for.as_secs_f64() + 2.0);
    let within = local > 0 && (local as f64) <= share;
    stage.expect("local admits this server's share", within, format!("{local}, share {share:.0}"));
    stage.expect("the store decides again after the restart", after > 0, after);
    let slow = run.quantile(0.99);
    let bound = 6 * TIMEOUT;
    stage.expect(
        "no check waits long for a dead store",
        slow < bound,
        format!("p99 {}", duration(slow)),
    );
    stage
        .because("after five failures in a row the breaker opens and checks stop asking the store");
    Ok(())
}

fn policy(on_store_failure: OnStoreFailure) -> anyhow::Result<Policy> {
    let algorithm = AlgorithmName::TokenBucket;
    let limit = LimitSpec { name: None, algorithm, rate: RATE, per_ms: 1_000, burst: None };
    let name = format!("{on_store_failure:?}").to_lowercase();
    Ok(Policy::new(&name, &PolicySpec { limits: vec![limit], on_store_failure })?)
}

/// What a server granted without the store, by the reason it gives.
async fn ask(server: &Server, seen: &Sources) -> Outcome {
    let decision = server.check(caller(), 1).await.map_err(|_| "error")?;
    let count = match (decision.source, decision.allowed()) {
        (Source::FailOpen, true) => Some(&seen.open),
        (Source::FailClosed, true) => Some(&seen.closed),
        (Source::LocalShare, true) => Some(&seen.local),
        _ => None,
    };
    if let Some(count) = count {
        count.fetch_add(1, Ordering::Relaxed);
    }
    let outage_was_seen = seen.open.load(Ordering::Relaxed) > 0;
    if decision.source == Source::Store && outage_was_seen {
        seen.store_after.fetch_add(1, Ordering::Relaxed);
    }
    Ok(if decision.allowed() { "allowed" } else { "denied" })
}

async fn outage(
    stage: Stage,
    redis: Arc<infra::Redis>,
    before: Duration,
    down_for: Duration,
) -> anyhow::Result<()> {
    tokio::time::sleep(before).await;
    redis.kill9().await?;
    stage.fault("redis-down", "SIGKILL");
    tokio::time::sleep(down_for).await;
    redis.restart().await?;
    stage.heal("redis-down");
    Ok(())
}
