//! A million callers: what they cost, and what happens to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rate_limiter::clock::Monotonic;
use rate_limiter::store::coalesced::CoalescedStore;
use rate_limiter::store::memory::Memory;
use rate_limiter::store::redis::RedisStore;
use rate_limiter::{AlgorithmName, Error, Key, Limiter, Policy, Store};

use super::{PATIENT, token_bucket};
use measure::harness::histogram;
use measure::units::duration;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "a-million-keys",
        asks: "A million users, or one attacker who makes up a million names. What do they cost, and \
               what happens at the bound?",
        explanation: "A caller is a few integers. In process it is a slot of a table that is grown \
            in small steps, so no request pays for all the others, and that is bounded: at the bound \
            callers whose limit has settled are forgotten, which they cannot notice, and when there \
            is none a new caller is refused. Evicting the least recently used one instead would give \
            an attacker a fresh quota for the price of a million names. In Redis every state expires \
            by itself once it has settled, so what is kept is who asked within one refill time.",
        run: |stage| Box::pin(run(stage)),
    }
}

const CALLERS: u32 = 1_000_000;
const IN_FLIGHT: usize = 1_000;

async fn run(stage: Stage) -> anyhow::Result<()> {
    stage.scene(format!("{CALLERS} callers in process, then in one Redis"));
    let told = stage.clone();
    tokio::task::spawn_blocking(move || in_process(&told)).await??;
    in_redis(&stage).await
}

fn in_process(stage: &Stage) -> anyhow::Result<()> {
    let roomy = Memory::new(Arc::new(Monotonic::default()), 2 * CALLERS as usize);
    let limiter = roomy.limiter(token_bucket(1, 3_600_000, 10));
    let mut latencies = histogram();
    let mut name = String::new();
    for caller in 0..CALLERS {
        write_name(&mut name, caller);
        let started = Instant::now();
        limiter.check_now(Key::new(&name)?, 1)?;
        latencies.saturating_record(started.elapsed().as_nanos() as u64);
    }
    let bytes = limiter.allocated_bytes() as f64 / f64::from(CALLERS);
    stage.expect(
        "in process a caller costs at most 64 bytes",
        bytes <= 64.0,
        format!("{bytes:.1} bytes"),
    );
    let slow = Duration::from_nanos(latencies.value_at_quantile(0.9999));
    stage.expect(
        "no request pays for the growth of the table",
        slow < Duration::from_millis(1),
        format!("p99.99 {} while a million callers came", duration(slow)),
    );
    // The bound, smaller: it is the same code.
    let small = Memory::new(Arc::new(Monotonic::default()), 10_000);
    let small = small.limiter(token_bucket(1, 3_600_000, 1));
    let victim = Key::new("victim")?;
    small.check_now(victim, 1)?;
    let mut refused = 0;
    for caller in 0..100_000 {
        write_name(&mut name, caller);
        refused +=
            u32::from(matches!(small.check_now(Key::new(&name)?, 1), Err(Error::Full { .. })));
    }
    let held = !small.check_now(victim, 1)?.allowed();
    stage.expect(
        "at the bound new callers are refused, and nobody who is limited gets a fresh quota",
        held && refused > 85_000,
        format!("{refused} of 100000 strangers refused with room for 10000"),
    );
    Ok(())
}

fn write_name(name: &mut String, caller: u32) {
    use std::fmt::Write;
    name.clear();
    // Writing to a string cannot fail.
    let _ = write!(name, "user:{caller:07}");
}

async fn in_redis(stage: &Stage) -> anyhow::Result<()> {
    let callers = stage.pick(200_000, CALLERS);
    let redis = infra::redis().await?;
    let store = CoalescedStore::new(RedisStore::connect(redis.url(), PATIENT)?);
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let before = used_memory(&mut connection).await?;
    // Settled in a minute, so that all are there when they are weighed.
    let limiter = Arc::new(store.limiter(token_bucket(1, 60_000, 1)));
    let started = Instant::now();
    fill(&limiter, callers).await?;
    let rate = f64::from(callers) / started.elapsed().as_secs_f64();
    stage.observe("new callers in Redis", measure::units::rate(rate));
    let bytes = (used_memory(&mut connection).await? - before) as f64 / f64::from(callers);
    stage.expect(
        "in Redis a caller costs at most 250 bytes",
        bytes <= 250.0,
        format!("{bytes:.1} bytes"),
    );

    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
    let brief = Policy::single("brief", AlgorithmName::TokenBucket, 1, 1_000, None)?;
    fill(&Arc::new(store.limiter(brief)), callers).await?;
    let gone = Instant::now();
    let mut left = u64::MAX;
    while left > 0 && gone.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = redis::cmd("DBSIZE").query_async(&mut connection).await?;
    }
    stage.expect(
        "one refill time later Redis has forgotten all of them, unasked",
        left == 0,
        format!("{left} left after {:?}", gone.elapsed()),
    );
    stage.because("a state that has settled is equal to none, so forgetting it changes nothing");
    Ok(())
}

async fn fill<L: Limiter>(limiter: &Arc<L>, callers: u32) -> anyhow::Result<()> {
    let checks = (0..callers).map(|caller| {
        let limiter = Arc::clone(limiter);
        async move { limiter.check(Key::new(&format!("user:{caller:07}"))?, 1).await }
    });
    let mut checks = futures::stream::iter(checks).buffer_unordered(IN_FLIGHT);
    while let Some(decision) = checks.next().await {
        anyhow::ensure!(decision?.allowed(), "a caller never seen was denied");
    }
    Ok(())
}

async fn used_memory(connection: &mut redis::aio::MultiplexedConnection) -> anyhow::Result<i64> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(connection).await?;
    let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:"));
    Ok(used.unwrap_or_default().parse()?)
}
