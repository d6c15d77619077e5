//! The front for clients of Redis: `CL.THROTTLE`, as the module redis-cell answers it, so that its
//! client libraries work unchanged and `redis-benchmark` measures it.
//!
//! ```text
//! CL.THROTTLE user:1 15 30 60 1      key, max_burst, count per period, seconds, quantity
//! 1) 0       1 when limited
//! 2) 16      the limit: max_burst + 1
//! 3) 15      left
//! 4) -1      seconds until a retry can succeed; -1 when it was not limited, or never can
//! 5) 2       seconds until all is back
//! RL.CHECK api user:1 1              the same five numbers, for a policy by its name
//! ```
//!
//! redis-cell says the limit with every call, so each set of numbers is a policy of its own, made
//! when it is first seen. Seconds are rounded up: who waits as told does not come early.

use std::collections::HashMap;
use std::sync::Arc;

use ::resp::frame::{Reply, Version};
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::limiter::{Decision, Error, Key, Limiter, Outcome, Store};
use crate::policy::{AlgorithmName, Policy};
use crate::registry::Registry;

mod command;
mod server;

use command::{Command, Throttle};
pub use server::{CONNECTIONS_MAX, serve, serve_on_a_thread};

/// Different sets of numbers that clients may use. More means that somebody computes them per
/// caller, and each would be a table of its own.
pub const RULES_MAX: usize = 1_000;

/// Executes commands over the policies and the store of a service.
pub struct Front<S: Store> {
    registry: Arc<Registry<S>>,
    rules: ArcSwap<Rules<S>>,
    making: Mutex<()>,
}

type Rules<S> = HashMap<Rule, Arc<<S as Store>::Limiter>, RandomState>;

/// A limit as `CL.THROTTLE` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rule {
    burst: u32,
    count: u32,
    period_s: u32,
}

impl<S: Store> Front<S> {
    /// A front of a service's registry.
    pub fn new(registry: Arc<Registry<S>>) -> Self {
        let (rules, making) = Default::default();
        Self { registry, rules, making }
    }

    /// Does what a request asks for. `HELLO` changes `version`.
    async fn execute(&self, arguments: &[&[u8]], version: &mut Version) -> Reply {
        let command = match command::parse(arguments) {
            Ok(command) => command,
            Err(complaint) => return Reply::Error(complaint),
        };
        match command {
            Command::Throttle(throttle) => self.throttle(throttle).await,
            Command::Check { policy, key, cost } => {
                let Some(limiter) = self.registry.get(policy) else {
                    return Reply::Error(format!("ERR there is no policy '{policy}'"));
                };
                answer(limiter.check(key, cost).await)
            }
            Command::Ping(None) => Reply::Status("PONG"),
            Command::Ping(Some(text)) => Reply::Bulk(text.into()),
            Command::Hello(wanted) => {
                *version = wanted.unwrap_or(*version);
                hello(*version)
            }
            Command::Nothing => Reply::Array(Vec::new()),
            Command::Config(name) => Reply::Array(vec![Reply::Bulk(name.into()), Reply::text("")]),
            Command::Agree | Command::Quit => Reply::Status("OK"),
        }
    }

    async fn throttle(&self, throttle: Throttle<'_>) -> Reply {
        let Throttle { key, burst, count, period_s, quantity } = throttle;
        let rule = Rule { burst, count, period_s };
        let limiter = self.rules.load().get(&rule).cloned();
        let limiter = match limiter.map_or_else(|| self.make(rule), Ok) {
            Ok(limiter) => limiter,
            Err(complaint) => return Reply::Error(complaint),
        };
        answer(limiter.check(key, quantity).await)
    }

    /// The limiter of a rule that was not seen before.
    fn make(&self, rule: Rule) -> Result<Arc<S::Limiter>, String> {
        let _one_at_a_time = self.making.lock();
        let rules = self.rules.load();
        if let Some(limiter) = rules.get(&rule) {
            return Ok(Arc::clone(limiter));
        }
        if rules.len() >= RULES_MAX {
            return Err(format!("ERR more than {RULES_MAX} different limits are in use"));
        }
        let per_ms = u64::from(rule.period_s) * 1_000;
        let store = self.registry.store();
        let policy =
            Policy::single("cl", AlgorithmName::Gcra, rule.count, per_ms, Some(rule.burst))
                .and_then(|policy| store.accepts(&policy).map(|()| policy))
                .map_err(|error| format!("ERR {error}"))?;
        let limiter = Arc::new(store.limiter(policy));
        let mut more = Rules::<S>::clone(&rules);
        more.insert(rule, Arc::clone(&limiter));
        self.rules.store(Arc::new(more));
        Ok(limiter)
    }
}

/// The five numbers of redis-cell.
fn answer(decision: Result<Decision, Error>) -> Reply {
    let decision = match decision {
        Ok(decision) => decision,
        Err(error @ Error::Unavailable { .. }) => {
            return Reply::Error(format!("UNAVAILABLE {error}"));
        }
        Err(error) => return Reply::Error(format!("ERR {error}")),
    };
    let retry_s = match decision.outcome {
        Outcome::Denied { retry_after } => seconds(retry_after),
        Outcome::Allowed | Outcome::TooLarge => -1,
    };
    let numbers = [
        i64::from(!decision.allowed()),
        i64::from(decision.quota.limit),
        i64::from(decision.quota.remaining),
        retry_s,
        seconds(decision.quota.reset_after),
    ];
    Reply::Array(numbers.map(Reply::Integer).to_vec())
}

fn seconds(time: std::time::Duration) -> i64 {
    (time.as_micros() as u64).div_ceil(1_000_000) as i64
}

fn hello(version: Version) -> Reply {
    let number = if version == Version::Resp3 { 3 } else { 2 };
    Reply::Map(vec![
        ("server", Reply::text("rate-limiter")),
        ("version", Reply::text(env!("CARGO_PKG_VERSION"))),
        ("proto", Reply::Integer(number)),
        ("mode", Reply::text("standalone")),
        ("role", Reply::text("master")),
        ("modules", Reply::Array(Vec::new())),
    ])
}

/// A caller, or the text of the error reply.
fn key(argument: &[u8]) -> Result<Key<'_>, String> {
    let text = std::str::from_utf8(argument).map_err(|_| "ERR key must be UTF-8".to_owned())?;
    Key::new(text).map_err(|error| format!("ERR {error}"))
}
