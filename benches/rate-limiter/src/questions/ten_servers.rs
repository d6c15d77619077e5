//! N stateless servers, one limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rate_limiter::Key;

use super::{caller, check, servers, token_bucket};
use measure::harness::{Arrivals, Load, Outcome, Plan, Run};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "ten-servers-one-redis",
        asks: "Ten servers share one limit. How do you keep two of them from both taking the last \
               token, and what does it cost?",
        explanation: "Reading the bucket, deciding, and writing it back are three steps, and \
            whatever lies between them lets another server in: the classic GET-then-SET limiter \
            admits too much as soon as two servers look at the same moment. Redis runs a script \
            without interleaving any other command, so the whole step is atomic and costs one \
            round trip. INCR alone is atomic too, but it charges denied requests and knows only \
            fixed windows.",
        run: |stage| Box::pin(run(stage)),
    }
}

const RATE: u32 = 200;
const BURST: u32 = 100;
const SERVERS: usize = 10;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let redis = infra::redis().await?;
    let scene = format!(
        "{SERVERS} servers, one Redis {}, {RATE}/s burst {BURST} for one caller",
        redis.version()
    );
    stage.scene(scene);
    let length = Duration::from_secs(stage.pick(3, 20));
    // Requests of one moment, as after a cache flush or at the top of an hour: what a check that
    // is not atomic is worst at.
    let bursts = Arrivals::Burst {
        base_per_s: 500.0,
        peak_per_s: 15_000.0,
        every: Duration::from_millis(250),
        peak_for: Duration::from_millis(20),
    };
    let load = Load::new(Plan::new(bursts, length)).counting();

    let started = Instant::now();
    let policy = token_bucket(RATE, 1_000, BURST);
    let scripted = Arc::new(servers(redis.url(), &policy, SERVERS)?);
    let at = AtomicU64::new(0);
    let op = move |_| {
        let server = at.fetch_add(1, Ordering::Relaxed) as usize % SERVERS;
        let server = Arc::clone(&scripted[server]);
        async move { check(&*server, caller()).await }
    };
    let run = stage.drive("one script per check", &load, op).await;
    judge(&stage, &run, started, "the script never admits more than burst + rate x t", true);

    let started = Instant::now();
    let client = redis::Client::open(redis.url())?;
    let mut connections = Vec::new();
    for _ in 0..SERVERS {
        connections.push(client.get_multiplexed_async_connection().await?);
    }
    let connections = Arc::new(connections);
    let at = AtomicU64::new(0);
    let op = move |_| {
        let server = at.fetch_add(1, Ordering::Relaxed) as usize % SERVERS;
        let connection = connections[server].clone();
        async move { read_then_write(connection, caller()).await.unwrap_or(Err("unavailable")) }
    };
    let run = stage.drive("read, decide, write", &load, op).await;
    judge(&stage, &run, started, "reading and then writing admits more than it may", false);
    stage
        .because("between the read and the write of one server, another one reads the same tokens");
    Ok(())
}

/// Compares what was admitted with what may be; `within` says which outcome is expected.
fn judge(stage: &Stage, run: &Run, started: Instant, promise: &str, within: bool) {
    let admitted = run.count("allowed");
    let most = u64::from(BURST) + started.elapsed().as_millis() as u64 * u64::from(RATE) / 1_000;
    let as_expected = (admitted <= most) == within && run.error_count() == 0;
    stage.expect(promise, as_expected, format!("{admitted} admitted, at most {most} may be"));
}

/// The limiter from the textbook: the state is read, the decision made here, the state written.
async fn read_then_write(
    mut connection: redis::aio::MultiplexedConnection,
    key: Key<'_>,
) -> redis::RedisResult<Outcome> {
    let key = format!("naive:{}", key.as_str());
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let now_us = seconds * 1_000_000 + micros;
    let stored: Option<String> = redis::cmd("GET").arg(&key).query_async(&mut connection).await?;
    let (tokens, as_of) = stored
        .as_deref()
        .and_then(|stored| stored.split_once(' '))
        .and_then(|(tokens, as_of)| Some((tokens.parse().ok()?, as_of.parse().ok()?)))
        .unwrap_or((f64::from(BURST), now_us));
    let elapsed = now_us.saturating_sub(as_of) as f64 / 1e6;
    let tokens = (tokens + elapsed * f64::from(RATE)).min(f64::from(BURST));
    if tokens < 1.0 {
        return Ok(Ok("denied"));
    }
    let state = format!("{} {now_us}", tokens - 1.0);
    redis::cmd("SET").arg(&key).arg(state).query_async::<()>(&mut connection).await?;
    Ok(Ok("allowed"))
}
