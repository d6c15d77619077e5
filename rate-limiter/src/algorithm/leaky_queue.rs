//! Leaky bucket as a queue: nobody is refused while there is room, everybody is spaced out.
//!
//! Requests leave at exactly `rate`; one that arrives while others wait is told how long to hold
//! back ([`Decision::delay`](crate::Decision::delay)). The queue has room for `burst`; what does
//! not fit is refused. The queue itself is never stored: the time at which it runs empty is the
//! TAT of [`gcra`](super::gcra), and the delay is how far that time is away.
//!
//! Gives up latency: it is meant for callers who would rather wait than retry, such as a worker
//! that feeds a slow downstream service.

use super::gcra::{Gcra, Tat};
use super::rate::Rate;
use super::{Algorithm, Micros, Wait};

/// The queue's parameters.
#[derive(Clone, Copy, Debug)]
pub struct LeakyQueue {
    arrivals: Gcra,
}

impl LeakyQueue {
    /// A queue with room for `burst` that drains at `rate`.
    pub const fn new(rate: Rate, burst: u32) -> Self {
        Self { arrivals: Gcra::new(rate, burst) }
    }
}

impl Algorithm for LeakyQueue {
    type State = Tat;

    fn fresh(&self, now: Micros) -> Tat {
        self.arrivals.fresh(now)
    }

    fn limit(&self) -> u32 {
        self.arrivals.limit()
    }

    fn available(&self, state: &Tat, now: Micros) -> u32 {
        self.arrivals.available(state, now)
    }

    fn wait(&self, state: &Tat, now: Micros, cost: u32) -> Wait {
        self.arrivals.wait(state, now, cost)
    }

    fn charge(&self, state: &mut Tat, now: Micros, cost: u32) {
        self.arrivals.charge(state, now, cost);
    }

    fn refund(&self, state: &mut Tat, now: Micros, cost: u32) {
        self.arrivals.refund(state, now, cost);
    }

    fn settles_after(&self, state: &Tat, now: Micros) -> u64 {
        self.arrivals.settles_after(state, now)
    }

    /// The work that is ahead in the queue, rounded up: nobody leaves early.
    fn delay(&self, state: &Tat, now: Micros) -> u64 {
        self.arrivals.settles_after(state, now)
    }
}
