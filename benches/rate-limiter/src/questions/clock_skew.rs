//! Servers whose clocks disagree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rate_limiter::Limiter;

use super::{caller, servers, token_bucket};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "clock-skew",
        asks: "One of your servers has a clock that is ten seconds fast. What happens to the limit?",
        explanation: "If servers send their own time, the fast one sees a bucket that has been \
            refilling for ten seconds more and mints that many tokens; and because the bucket is \
            then stamped with a time in the future, the others are refused until their clocks have \
            caught up. The script asks Redis for the time, so there is only one clock. What is left \
            is a step of that one clock, for instance after a failover: the state never moves \
            backwards, so a step back refuses for its length and a step forward of s seconds \
            admits at most rate x s more.",
        run: |stage| Box::pin(run(stage)),
    }
}

const RATE: u32 = 10;
const BURST: u32 = 10;
const SKEW: Duration = Duration::from_secs(10);

/// The token bucket of the official samples: the caller's clock comes as an argument.
const CLIENT_CLOCK: &str = r"
local tokens, as_of = tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'as_of')
if stored[1] then tokens, as_of = tonumber(stored[1]), tonumber(stored[2]) end
local now = tonumber(ARGV[3])
tokens = math.min(tonumber(ARGV[2]), tokens + math.max(now - as_of, 0) * tonumber(ARGV[1]))
local allowed = 0
if tokens >= 1 then tokens, allowed = tokens - 1, 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'as_of', tostring(math.max(now, as_of)))
return allowed
";

async fn run(stage: Stage) -> anyhow::Result<()> {
    let redis = infra::redis().await?;
    stage.scene(format!(
        "two servers, one Redis, {RATE}/s burst {BURST}; server B is {SKEW:?} fast"
    ));
    stage.load("server A uses up the burst, then server B asks 30 times, then A asks again");
    stage.fault("clock-jump", format!("server B's clock is {SKEW:?} ahead"));
    let mut connection =
        redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;

    let script = redis::Script::new(CLIENT_CLOCK);
    let mut ask = async |skew: Duration| -> anyhow::Result<u32> {
        let now = (SystemTime::now().duration_since(UNIX_EPOCH)? + skew).as_secs_f64();
        let mut call = script.prepare_invoke();
        call.key("naive").arg(RATE).arg(BURST).arg(now);
        Ok(call.invoke_async(&mut connection).await?)
    };
    let (mut by_a, mut by_b, mut by_a_again) = (0, 0, 0);
    for _ in 0..BURST {
        by_a += ask(Duration::ZERO).await?;
    }
    for _ in 0..30 {
        by_b += ask(SKEW).await?;
    }
    for _ in 0..30 {
        by_a_again += ask(Duration::ZERO).await?;
    }
    stage.observe("with the callers' clocks", format!("A {by_a}, B {by_b}, then A {by_a_again}"));
    stage.expect("the fast server mints tokens", by_a + by_b >= 2 * BURST, by_a + by_b);

    let policy = token_bucket(RATE, 1_000, BURST);
    let both = servers(redis.url(), &policy, 2)?;
    let started = std::time::Instant::now();
    let mut admitted = 0;
    for server in [0; BURST as usize].iter().chain(&[1; 30]) {
        admitted += u32::from(both[*server].check(caller(), 1).await?.allowed());
    }
    let most = BURST + (started.elapsed().as_millis() as u32 * RATE).div_ceil(1_000);
    let observed = format!("{admitted} admitted, at most {most} may be");
    stage.expect("with Redis's clock nothing is minted", admitted <= most, observed);
    stage.because("a server's clock never enters the decision: the script calls TIME itself");
    Ok(())
}
