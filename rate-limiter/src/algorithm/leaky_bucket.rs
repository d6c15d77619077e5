//! Leaky bucket as a meter: the token bucket upside down.
//!
//! Each request pours `cost` into a bucket that leaks at `rate`; what would overflow is refused.
//! The water is what a token bucket lacks, so the two decide alike, and textbooks that contrast
//! them usually mean the *queue* ([`leaky_queue`](super::leaky_queue)). Kept because interviewers
//! ask for it, and because the test that proves the two equal settles the argument.
//!
//! Source: J. Turner, "New directions in communications", IEEE Communications Magazine, 1986.

use super::rate::Rate;
use super::{Algorithm, Micros, Wait};

/// The bucket's parameters.
#[derive(Clone, Copy, Debug)]
pub struct LeakyBucket {
    rate: Rate,
    burst: u32,
}

/// How much water is in the bucket, as of when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Water {
    /// In units of [`Rate`].
    pub units: u64,
    /// The last time something was poured in. Never moves backwards.
    pub as_of: Micros,
}

impl LeakyBucket {
    /// A bucket that holds `burst` and leaks at `rate`.
    pub const fn new(rate: Rate, burst: u32) -> Self {
        Self { rate, burst }
    }

    const fn capacity(&self) -> u64 {
        self.rate.units(self.burst)
    }

    fn leaked(&self, state: &Water, now: Micros) -> u64 {
        state.units - self.rate.accrued(now.since(state.as_of), state.units)
    }
}

impl Algorithm for LeakyBucket {
    type State = Water;

    fn fresh(&self, now: Micros) -> Water {
        Water { units: 0, as_of: now }
    }

    fn limit(&self) -> u32 {
        self.burst
    }

    fn available(&self, state: &Water, now: Micros) -> u32 {
        self.rate.tokens(self.capacity() - self.leaked(state, now))
    }

    fn wait(&self, state: &Water, now: Micros, cost: u32) -> Wait {
        if cost > self.burst {
            return Wait::Never;
        }
        let after = self.leaked(state, now) + self.rate.units(cost);
        match after.saturating_sub(self.capacity()) {
            0 => Wait::Now,
            over => Wait::After(state.as_of.since(now) + self.rate.time_for(over)),
        }
    }

    fn charge(&self, state: &mut Water, now: Micros, cost: u32) {
        let units = self.leaked(state, now) + self.rate.units(cost);
        *state = Water { units, as_of: now.max(state.as_of) };
    }

    fn refund(&self, state: &mut Water, now: Micros, cost: u32) {
        let returned = self.rate.units(cost.min(self.burst));
        let units = self.leaked(state, now).saturating_sub(returned);
        *state = Water { units, as_of: now.max(state.as_of) };
    }

    fn settles_after(&self, state: &Water, now: Micros) -> u64 {
        match self.leaked(state, now) {
            0 => 0,
            water => state.as_of.since(now) + self.rate.time_for(water),
        }
    }
}
