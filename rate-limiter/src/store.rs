//! The answers: where the counts are kept.

use std::time::Duration;

use crate::algorithm::Wait;
use crate::limiter::{Decision, Outcome, Quota, Source};

pub mod memory;
mod slots;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod coalesced;
pub mod lease;
pub mod split;
#[cfg(feature = "gossip")]
pub mod gossip;

/// What one limit says about a request: the input to [`decide`].
#[derive(Clone, Copy, Debug)]
struct Opinion {
    wait: Wait,
    quota: Quota,
    delay_us: u64,
}

/// Joins the opinions of all limits of a policy into one decision. The limit that is reported is
/// the one the caller must care about: one that can never grant the cost, else the longest wait,
/// else the least remaining. The driver script does the same in Lua.
fn decide(opinions: impl Iterator<Item = Opinion>) -> Decision {
    let rank = |opinion: &Opinion| match opinion.wait {
        Wait::Never => (2, 0, 0),
        Wait::After(us) => (1, us, 0),
        Wait::Now => (0, 0, u32::MAX - opinion.quota.remaining),
    };
    let mut delay_us = 0;
    let mut binding: Option<(usize, Opinion)> = None;
    for (index, opinion) in opinions.enumerate() {
        delay_us = delay_us.max(opinion.delay_us);
        if binding.is_none_or(|(_, current)| rank(&opinion) > rank(&current)) {
            binding = Some((index, opinion));
        }
    }
    let (limit_index, opinion) = binding.expect("a policy has at least one limit");
    let outcome = match opinion.wait {
        Wait::Now => Outcome::Allowed,
        Wait::After(us) => Outcome::Denied { retry_after: Duration::from_micros(us) },
        Wait::Never => Outcome::TooLarge,
    };
    let delay_us = if outcome == Outcome::Allowed { delay_us } else { 0 };
    Decision {
        outcome,
        limit_index,
        quota: opinion.quota,
        delay: Duration::from_micros(delay_us),
        source: Source::Store,
    }
}
