//! Redis: the answer for many servers. One Lua script decides and charges in one step.
//!
//! Redis runs a script without interleaving any other command, so reading the state, deciding and
//! writing it back cannot race, whichever server asks. The time is Redis's own. All limits of a
//! caller share a hash tag, so a policy with several limits is still one atomic script on a
//! cluster ([`RedisStore::cluster`]).
//!
//! A timeout is not a denial. When the reply does not come in time the charge may have been made
//! or not; we report [`Error::Unavailable`], apply the policy's failure mode one layer up
//! ([`crate::resilience`]), and never send the command again. A call is sent again only where the
//! reply proves that nothing was applied (`MOVED`, `LOADING`, nobody listening, ...). So a check
//! charges at most once, and the price of a lost reply is at most one charge that its caller saw
//! as a failure; [`Tally`] counts both kinds.
//!
//! A failover forgets what the promoted replica had not received. [`RedisSettings`] has the two
//! answers: wait for the replicas before a charge is acknowledged, or let a new primary learn.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Script, Value};

use crate::clock::{Clock, ManualClock};
use crate::coalesce::View;
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Store};
use crate::policy::{AlgorithmName, Limit, Policy};

mod script;
mod slot;
mod refusal;
mod fence;
mod session;
mod cluster;
mod link;
mod batch;
mod one_word;

use link::{Call, Link};

pub(in crate::store) use batch::Reply;
pub(in crate::store) use link::Receipt;

pub use link::Tally;

/// Slots of a cluster.
pub(in crate::store) const SLOTS: usize = slot::SLOTS as usize;

/// How long to wait for Redis before the policy's failure mode applies. Longer than a healthy
/// Redis ever takes, shorter than what a request can afford.
pub const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(250);

/// Redis, or a Redis Cluster, as a store of counts.
#[derive(Clone)]
pub struct RedisStore {
    link: Arc<Link>,
    learns: bool,
    clock: ScriptClock,
}

/// How a store treats its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// How long a check may take before it is [`Error::Unavailable`].
    pub response_timeout: Duration,
    /// How many replicas must have a charge before it is acknowledged; 0 acknowledges at once, and
    /// a failover then forgets what its replica had not received.
    ///
    /// All replicas of a primary, or one that is the only one: Redis may promote any of them.
    pub wait_replicas: u32,
    /// Whether callers that a new primary has never seen count as ones that had used up everything
    /// when it took over: too little is admitted for one refill time, never too much. A Redis that
    /// starts empty, also for the first time, counts as a new primary.
    pub learns: bool,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { response_timeout: RESPONSE_TIMEOUT_DEFAULT, wait_replicas: 0, learns: false }
    }
}

/// Where a script takes its time from.
#[derive(Clone, Debug)]
pub enum ScriptClock {
    /// Redis's clock: what production uses.
    Server,
    /// The last argument of every call: lets the suite put a real Redis on virtual time. Not
    /// together with [`RedisSettings::learns`].
    Injected(Arc<ManualClock>),
}

impl RedisStore {
    /// The Redis at `url` (`redis://host:port/db`), with the usual settings otherwise.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn connect(url: &str, response_timeout: Duration) -> Result<Self, Error> {
        Self::with(url, RedisSettings { response_timeout, ..RedisSettings::default() })
    }

    /// The Redis at `url`. It connects with the first check, and again whenever it has to.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed URL. A Redis that is down is not an error here: every
    /// check answers [`Error::Unavailable`] until it is back.
    pub fn with(url: &str, settings: RedisSettings) -> Result<Self, Error> {
        Ok(Self::over(Link::one(url, settings)?, settings))
    }

    /// The Redis Cluster of which `urls` name some servers; the others are found through them.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn cluster(urls: &[String], settings: RedisSettings) -> Result<Self, Error> {
        Ok(Self::over(Link::cluster(urls, settings)?, settings))
    }

    fn over(link: Link, settings: RedisSettings) -> Self {
        Self { link: Arc::new(link), learns: settings.learns, clock: ScriptClock::Server }
    }

    /// What went wrong so far, and how it ended.
    pub fn tally(&self) -> Tally {
        self.link.tally()
    }

    /// The same store with its scripts on another clock. For tests.
    pub fn with_clock(self, clock: ScriptClock) -> Self {
        Self { clock, ..self }
    }
}

impl Store for RedisStore {
    type Limiter = RedisLimiter;

    fn limiter(&self, policy: Policy) -> RedisLimiter {
        let script = self.script(&policy, script::ONE);
        let batch = self.script(&policy, script::MANY);
        let one_word = one_word::counts_in_one_word(&policy)
            .then(|| self.script(&policy, script::MANY_OF_ONE_WORD));
        let parameters = policy.limits().iter().map(parameters).collect();
        let tails = policy.limits().iter().map(|limit| key_tail(&policy, limit)).collect();
        RedisLimiter { policy, store: self.clone(), script, batch, one_word, parameters, tails }
    }

    async fn ping(&self) -> Result<(), Error> {
        self.link.ping().await
    }
}

impl RedisStore {
    /// Calls a script whose keys are all in one slot, that of `key`.
    async fn call(
        &self,
        script: &Script,
        mut command: Cmd,
        key: &str,
    ) -> Result<(Value, Receipt), Error> {
        if let ScriptClock::Injected(clock) = &self.clock {
            command.arg(clock.now().0);
        }
        self.link.call(&Call { script, command, key }).await
    }

    fn script(&self, policy: &Policy, entry: &str) -> Script {
        Script::new(&script::text(policy, &self.clock, self.learns, entry))
    }
}

/// One policy, enforced in Redis.
pub struct RedisLimiter {
    policy: Policy,
    store: RedisStore,
    script: Script,
    batch: Script,
    /// The quicker script, where every state is one whole number.
    one_word: Option<Script>,
    /// Of each limit its name and numbers, as the scripts take them.
    parameters: Vec<[String; 4]>,
    /// Of each limit what follows the caller in a state's key.
    tails: Vec<String>,
}

impl RedisLimiter {
    /// One request in one call.
    async fn step(&self, op: &str, key: Key<'_>, cost: u32) -> Result<(Decision, u32), Error> {
        let keys = self.state_keys(key);
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.script.get_hash()).arg(keys.len()).arg(&keys).arg(op).arg(cost);
        for parameters in &self.parameters {
            call.arg(&parameters[..]);
        }
        let (reply, receipt) = self.store.call(&self.script, call, &keys[0]).await?;
        self.confirm([receipt]).await?;
        let reply =
            <[u64; 7]>::from_redis_value(reply).map_err(|error| unavailable(error.into()))?;
        Ok(self.decode(reply))
    }

    /// Returns once everything the receipts are for may be acknowledged.
    pub(in crate::store) async fn confirm(
        &self,
        receipts: impl IntoIterator<Item = Receipt>,
    ) -> Result<(), Error> {
        for receipt in receipts {
            self.store.link.confirm(receipt).await?;
        }
        Ok(())
    }

    fn state_keys(&self, key: Key<'_>) -> Vec<String> {
        self.tails.iter().map(|tail| state_key(key.as_str(), tail)).collect()
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
    /// The slot of a caller's states, had it one: without a cluster it is still a fair hash.
    pub(in crate::store) fn slot(&self, caller: &str) -> u16 {
        slot::slot_of(&state_key(caller, &self.tails[0]))
    }

    /// Whether there is a cluster behind this limiter.
    pub(in crate::store) fn is_clustered(&self) -> bool {
        self.store.link.is_cluster()
    }

    /// The script alone: what a comparison sends without us, to see what we add.
    pub fn bare_script(&self) -> Script {
        self.store.script(&self.policy, script::ONE)
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
///
/// Trap: a tag ends at the first closing brace and an empty one is no tag, so a caller whose name
/// begins with one would have its limits in as many slots as there are limits.
fn state_key(caller: &str, tail: &str) -> String {
    let tagged = if caller.starts_with('}') { "rl-brace:{_" } else { "rl:{" };
    [tagged, caller, tail].concat()
}

/// What follows the caller in a key: it is the same for all of them.
fn key_tail(policy: &Policy, limit: &Limit) -> String {
    let (spec, burst) = (limit.spec(), limit.burst());
    let algorithm = spec.algorithm.as_str();
    format!("}}:{}:{algorithm}/{}/{}/{burst}", policy.name(), spec.rate, spec.per_ms)
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

fn unavailable(error: redis::RedisError) -> Error {
    Error::Unavailable { what: error.to_string(), source: Some(Box::new(error)) }
}
