//! A circuit breaker, as a pure state machine over time.
//!
//! When the store is down every check would wait for its timeout first, and a limiter that adds
//! its timeout to every request is worse than none. After a few failures in a row the breaker
//! opens: checks go straight to the fallback, and once per interval one of them is let through to
//! see whether the store is back. There is no half-open state to get stuck in: a probe that never
//! returns is simply followed by the next one.

use crate::algorithm::Micros;

/// Failures in a row after which the store counts as down. One is too few: a single lost reply
/// would switch a whole server to its fallback.
pub const FAILURES_TO_OPEN: u32 = 5;
/// Time between two probes of a store that is down.
pub const PROBE_INTERVAL_US: u64 = 250_000;

/// Whether calls should go to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    next_probe: Micros,
}

impl Breaker {
    /// Whether the store counts as down.
    pub fn is_open(&self) -> bool {
        self.failures >= FAILURES_TO_OPEN
    }

    /// Whether this call should go to the store. While open, true once per interval.
    pub fn lets_through(&mut self, now: Micros) -> bool {
        if !self.is_open() {
            return true;
        }
        if now < self.next_probe {
            return false;
        }
        self.next_probe = Micros(now.0 + PROBE_INTERVAL_US);
        true
    }

    /// The store answered.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The store did not answer.
    pub fn failed(&mut self, now: Micros) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == FAILURES_TO_OPEN {
            self.next_probe = Micros(now.0 + PROBE_INTERVAL_US);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_at(now: Micros) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.lets_through(now));
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::default();
        for _ in 0..10 * FAILURES_TO_OPEN {
            breaker.failed(Micros(0));
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
        assert!(open_at(Micros(0)).is_open());
    }

    #[test]
    fn while_open_one_call_per_interval_goes_through() {
        let mut breaker = open_at(Micros(0));
        let passed = (0..10 * PROBE_INTERVAL_US)
            .step_by(1_000)
            .filter(|&at| breaker.lets_through(Micros(at)))
            .count();
        assert_eq!(passed, 9);
    }

    #[test]
    fn one_success_closes_it() {
        let mut breaker = open_at(Micros(0));
        assert!(breaker.lets_through(Micros(PROBE_INTERVAL_US)));
        breaker.succeeded();
        assert!(breaker.lets_through(Micros(PROBE_INTERVAL_US)));
        assert!(breaker.lets_through(Micros(PROBE_INTERVAL_US)));
    }
}
