//! Redis: the answer for many servers. One Lua script decides and charges in one step.
//!
//! Redis runs a script without interleaving any other command, so reading the state, deciding and
//! writing it back cannot race, whichever server asks. The time is Redis's own. All limits of a
//! caller share a hash tag, so a policy with several limits is still one atomic script on a
//! cluster.
//!
//! A timeout is not a denial. When the reply does not come in time the charge may have been made
//! or not; we report [`Error::Unavailable`], apply the policy's failure mode one layer up
//! ([`crate::resilience`]), and never send the command again. So a check charges at most once, and
//! the price of a lost reply is at most one charge that its caller saw as a failure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisResult, Script, ServerErrorKind, Value};

use crate::clock::{Clock, ManualClock};
use crate::coalesce::View;
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Store};
use crate::policy::{AlgorithmName, Limit, Policy};

mod batch;

/// How long to wait for Redis before the policy's failure mode applies. Longer than a healthy
/// Redis ever takes, shorter than what a request can afford.
pub const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(250);

/// Redis as a store of counts.
#[derive(Clone)]
pub struct RedisStore {
    connection: ConnectionManager,
    response_timeout: Duration,
    clock: ScriptClock,
}

/// Where a script takes its time from.
#[derive(Clone, Debug)]
pub enum ScriptClock {
    /// Redis's clock: what production uses.
    Server,
    /// The last argument of every call: lets the suite put a real Redis on virtual time.
    Injected(Arc<ManualClock>),
}

impl RedisStore {
    /// Connects to `url` (`redis://host:port/db`); the connection repairs itself from then on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed URL. A Redis that is down is not an error here: every
    /// check answers [`Error::Unavailable`] until it is back.
    pub fn connect(url: &str, response_timeout: Duration) -> Result<Self, Error> {
        let client =
            Client::open(url).map_err(|error| Error::invalid("store", error.to_string()))?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(response_timeout))
            .set_connection_timeout(Some(response_timeout))
            // Reconnecting is worth repeating, and happens beside the checks; a check is not.
            .set_min_delay(Duration::from_millis(10))
            .set_max_delay(Duration::from_millis(500));
        let connection =
            ConnectionManager::new_lazy_with_config(client, config).map_err(unavailable)?;
        Ok(Self { connection, response_timeout, clock: ScriptClock::Server })
    }

    /// The same store with its scripts on another clock. For tests.
    pub fn with_clock(self, clock: ScriptClock) -> Self {
        Self { clock, ..self }
    }
}

impl Store for RedisStore {
    type Limiter = RedisLimiter;

    fn limiter(&self, policy: Policy) -> RedisLimiter {
        let script = Script::new(&script_text(&policy, &self.clock, DRIVER));
        let batch = Script::new(&script_text(&policy, &self.clock, BATCH));
        let parameters = policy.limits().iter().map(parameters).collect();
        RedisLimiter { policy, store: self.clone(), script, batch, parameters }
    }

    async fn ping(&self) -> Result<(), Error> {
        let mut connection = self.connection.clone();
        self.in_time(redis::cmd("PING").query_async::<()>(&mut connection)).await
    }
}

impl RedisStore {
    /// Trap: the client's own response timeout starts when a command is written. While it
    /// reconnects nothing is written, and a check would wait for all of its attempts.
    async fn in_time<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, Error> {
        match tokio::time::timeout(self.response_timeout, call).await {
            Ok(reply) => reply.map_err(unavailable),
            Err(_) => {
                let what = format!("no reply within {:?}", self.response_timeout);
                Err(Error::Unavailable { what, source: None })
            }
        }
    }
}

impl RedisStore {
    /// Calls a script: the only place from which one is sent.
    ///
    /// EVALSHA; only when Redis says NOSCRIPT (a restart or a failover emptied its cache) is the
    /// script loaded and called again. NOSCRIPT means that nothing ran.
    async fn call(&self, script: &Script, call: &Cmd) -> Result<Value, Error> {
        let mut connection = self.connection.clone();
        let sent = async {
            match call.query_async::<Value>(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    script.prepare_invoke().load_async(&mut connection).await?;
                    call.query_async(&mut connection).await
                }
                reply => reply,
            }
        };
        self.in_time(sent).await
    }
}

/// One policy, enforced in Redis.
pub struct RedisLimiter {
    policy: Policy,
    store: RedisStore,
    script: Script,
    batch: Script,
    parameters: Vec<[String; 4]>,
}

impl RedisLimiter {
    /// One request in one call.
    async fn step(&self, op: &str, key: Key<'_>, cost: u32) -> Result<(Decision, u32), Error> {
        let limits = self.policy.limits();
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.script.get_hash()).arg(limits.len());
        for limit in limits {
            call.arg(state_key(&self.policy, limit, key));
        }
        call.arg(op).arg(cost);
        for parameters in &self.parameters {
            call.arg(&parameters[..]);
        }
        if let ScriptClock::Injected(clock) = &self.store.clock {
            call.arg(clock.now().0);
        }
        let reply = self.store.call(&self.script, &call).await?;
        let reply =
            <[u64; 7]>::from_redis_value(reply).map_err(|error| unavailable(error.into()))?;
        Ok(self.decode(reply))
    }

    fn decode(&self, reply: [u64; 7]) -> (Decision, u32) {
        view(reply, 0).decision(self.policy.limits())
    }
}

/// A reply of decide.lua.
fn view(reply: [u64; 7], rounding: u64) -> View {
    let [outcome, limit_index, remaining, wait_us, settles_us, delay_us, granted] = reply;
    View {
        outcome,
        limit_index: limit_index as usize,
        remaining: remaining as u32,
        wait_us,
        settles_us,
        delay_us,
        granted: granted as u32,
        rounding,
    }
}

impl RedisLimiter {
    /// The script alone: what a comparison sends without us, to see what we add.
    pub fn bare_script(&self) -> Script {
        Script::new(&script_text(&self.policy, &self.store.clock, DRIVER))
    }
}

impl Limiter for RedisLimiter {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.step("check", key, cost).await?.0)
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        Ok(self.step("peek", key, 0).await?.0)
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        let (decision, granted) = self.step("take", key, at_most).await?;
        Ok(Grant { granted, decision })
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.step("refund", key, cost).await?.0)
    }
}

/// `rl:{user:1}:api:token-bucket/50/1000/100`: the caller first and alone in the hash tag, then
/// what is limited. The numbers are part of the key, so a changed limit starts afresh instead of
/// reading a state that meant something else.
fn state_key(policy: &Policy, limit: &Limit, key: Key<'_>) -> String {
    let spec = limit.spec();
    let algorithm = spec.algorithm.as_str();
    let (policy, key) = (policy.name(), key.as_str());
    format!("rl:{{{key}}}:{policy}:{algorithm}/{}/{}/{}", spec.rate, spec.per_ms, limit.burst())
}

fn parameters(limit: &Limit) -> [String; 4] {
    let spec = limit.spec();
    let [a, b] = match spec.algorithm {
        AlgorithmName::SlidingCounter => [spec.per_ms, 0],
        name if name.has_burst() => [limit.ratio().units_per_us, limit.ratio().units_per_token],
        _ => [spec.per_ms * 1_000, 0],
    };
    [spec.algorithm.as_str().to_owned(), a.to_string(), b.to_string(), limit.burst().to_string()]
}

/// One request per call.
const DRIVER: &str = include_str!("lua/driver.lua");
/// Many requests per call.
const BATCH: &str = include_str!("lua/batch.lua");

/// A script for a policy: the clock, the algorithms it uses, how to decide, and the entry point.
fn script_text(policy: &Policy, clock: &ScriptClock, entry: &str) -> String {
    let time = match clock {
        ScriptClock::Server => include_str!("lua/time_server.lua"),
        ScriptClock::Injected(_) => include_str!("lua/time_injected.lua"),
    };
    let sources: BTreeSet<_> = policy
        .limits()
        .iter()
        .flat_map(|limit| algorithm_sources(limit.spec().algorithm))
        .collect();
    let mut text = format!("{time}\nlocal algorithms = {{}}\n");
    for (_, source) in sources {
        text.push_str(source);
    }
    text.push_str(include_str!("lua/decide.lua"));
    text.push_str(entry);
    text
}

/// The Lua files of an algorithm, numbered in the order in which they need each other.
fn algorithm_sources(algorithm: AlgorithmName) -> Vec<(u8, &'static str)> {
    const GCRA: (u8, &str) = (0, include_str!("lua/gcra.lua"));
    const SLIDING_LOG: (u8, &str) = (1, include_str!("lua/sliding_log.lua"));
    match algorithm {
        AlgorithmName::TokenBucket => vec![(2, include_str!("lua/token_bucket.lua"))],
        AlgorithmName::Gcra => vec![GCRA],
        AlgorithmName::LeakyBucket => vec![(3, include_str!("lua/leaky_bucket.lua"))],
        AlgorithmName::LeakyQueue => vec![GCRA, (4, include_str!("lua/leaky_queue.lua"))],
        AlgorithmName::FixedWindow => vec![(5, include_str!("lua/fixed_window.lua"))],
        AlgorithmName::SlidingLog => vec![SLIDING_LOG],
        AlgorithmName::SlidingCounter => vec![(6, include_str!("lua/sliding_counter.lua"))],
        AlgorithmName::Concurrency => vec![SLIDING_LOG, (7, include_str!("lua/concurrency.lua"))],
    }
}

fn unavailable(error: redis::RedisError) -> Error {
    Error::Unavailable { what: error.to_string(), source: Some(Box::new(error)) }
}
