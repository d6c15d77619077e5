//! Token bucket: the answer everybody draws on the whiteboard.
//!
//! A bucket holds up to `burst` tokens and gains `rate` of them per second; a request takes
//! `cost` tokens or is refused. Nothing runs in the background: the bucket is refilled, on paper,
//! when somebody looks at it. Admits at most `burst + rate·t` in any window of length t.
//!
//! Gives up nothing, but its state is two words (level and time) that must change together: kept
//! in two places they race, and the limiter mints tokens. [`gcra`](super::gcra) says the same in
//! one word.

use super::rate::Rate;
use super::{Algorithm, Micros, Wait};

/// The bucket's parameters.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    rate: Rate,
    burst: u32,
}

/// What is in the bucket, as of when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// In units of [`Rate`], so that no refill is ever rounded.
    pub units: u64,
    /// The last time the bucket was looked at with effect. Never moves backwards.
    pub as_of: Micros,
}

impl TokenBucket {
    /// A bucket of `burst` tokens that refills at `rate`.
    pub const fn new(rate: Rate, burst: u32) -> Self {
        Self { rate, burst }
    }

    const fn capacity(&self) -> u64 {
        self.rate.units(self.burst)
    }

    fn refilled(&self, state: &Level, now: Micros) -> u64 {
        state.units + self.rate.accrued(now.since(state.as_of), self.capacity() - state.units)
    }
}

impl Algorithm for TokenBucket {
    type State = Level;

    fn fresh(&self, now: Micros) -> Level {
        Level { units: self.capacity(), as_of: now }
    }

    fn limit(&self) -> u32 {
        self.burst
    }

    fn available(&self, state: &Level, now: Micros) -> u32 {
        self.rate.tokens(self.refilled(state, now))
    }

    fn wait(&self, state: &Level, now: Micros, cost: u32) -> Wait {
        if cost > self.burst {
            return Wait::Never;
        }
        let missing = self.rate.units(cost).saturating_sub(self.refilled(state, now));
        match missing {
            0 => Wait::Now,
            // A clock behind `as_of` first has to catch up with it.
            _ => Wait::After(state.as_of.since(now) + self.rate.time_for(missing)),
        }
    }

    fn charge(&self, state: &mut Level, now: Micros, cost: u32) {
        let units = self.refilled(state, now) - self.rate.units(cost);
        *state = Level { units, as_of: now.max(state.as_of) };
    }

    fn refund(&self, state: &mut Level, now: Micros, cost: u32) {
        let returned = self.rate.units(cost.min(self.burst));
        let units = (self.refilled(state, now) + returned).min(self.capacity());
        *state = Level { units, as_of: now.max(state.as_of) };
    }

    fn settles_after(&self, state: &Level, now: Micros) -> u64 {
        match self.capacity() - self.refilled(state, now) {
            0 => 0,
            missing => state.as_of.since(now) + self.rate.time_for(missing),
        }
    }
}
