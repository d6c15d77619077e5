//! The algorithms: pure, integer-only functions over a state and a time.
//!
//! None of them knows a clock, a store or a lock, so the same code runs under virtual time in the
//! tests, in the in-process answer, and as the model that the Lua scripts must match bit for bit.
//!
//! | algorithm | admits in any window of length t | state | gives up |
//! |---|---|---|---|
//! | [`token_bucket`] | burst + rate·t | two integers | nothing, but two words must change together |
//! | [`gcra`] | burst + rate·t | one time | readability: the bucket is implied |
//! | [`leaky_bucket`] | burst + rate·t | two integers | nothing: it is the token bucket upside down |
//! | [`leaky_queue`] | burst + rate·t, spaced evenly | one time | latency: callers wait their turn |
//! | [`fixed_window`] | 2 × limit per window | two integers | exactness at the window's edge |
//! | [`sliding_log`] | limit per window | one entry per request | memory |
//! | [`sliding_counter`] | 2 × limit per window, limit on smooth traffic | three integers | exactness under bursts |
//! | [`concurrency`] | limit at the same time | one entry per holder | it limits parallelism, not rate |

use crate::limiter::Quota;

pub mod rate;
pub mod token_bucket;
pub mod gcra;
pub mod leaky_bucket;
pub mod leaky_queue;
pub mod fixed_window;
pub mod sliding_log;
pub mod sliding_counter;
pub mod concurrency;

/// A point in time, in microseconds since an epoch that only its clock knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// Microseconds from `earlier` to `self`, or zero when the clock went backwards.
    pub fn since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whether a request can be charged now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Yes.
    Now,
    /// Not before this many microseconds have passed (at least one).
    After(u64),
    /// Never: it costs more than the limit can hold.
    Never,
}

/// One way of limiting. The parameters are in `self`; the caller's history is in the state.
///
/// Contract for implementors, checked by the property tests of this module:
/// - a denied request leaves no trace: `wait` and `available` take the state by shared reference;
/// - `now` may go backwards, and then nothing is admitted that would not have been before;
/// - once `settles_after` has passed, the state behaves exactly like [`fresh`](Self::fresh), so a
///   store may forget it.
pub trait Algorithm: Copy + Send + Sync + 'static {
    /// What is remembered about one caller. The default is a placeholder of stores; nobody asks it.
    type State: Clone + Default + Send + 'static;

    /// The state of a caller that was never seen.
    fn fresh(&self, now: Micros) -> Self::State;

    /// The most that can be available.
    fn limit(&self) -> u32;

    /// How much can be charged at `now`.
    fn available(&self, state: &Self::State, now: Micros) -> u32;

    /// Whether, or when, `cost` can be charged. Exact: at the returned time and not before.
    fn wait(&self, state: &Self::State, now: Micros, cost: u32) -> Wait;

    /// Charges `cost`. Call only after [`wait`](Self::wait) said [`Wait::Now`] for the same time.
    fn charge(&self, state: &mut Self::State, now: Micros, cost: u32);

    /// Gives back `cost` that was charged before, at most up to the limit.
    fn refund(&self, state: &mut Self::State, now: Micros, cost: u32);

    /// Microseconds until the state is indistinguishable from a fresh one, if nobody acts.
    fn settles_after(&self, state: &Self::State, now: Micros) -> u64;

    /// How long a request that is charged at `now` should be held back, in microseconds.
    fn delay(&self, _state: &Self::State, _now: Micros) -> u64 {
        0
    }

    /// The caller's view of the state.
    fn quota(&self, state: &Self::State, now: Micros) -> Quota {
        Quota {
            limit: self.limit(),
            remaining: self.available(state, now),
            reset_after: std::time::Duration::from_micros(self.settles_after(state, now)),
        }
    }
}

#[cfg(test)]
mod properties;
