//! Fixed window: count requests per calendar window, start again at the next.
//!
//! The cheapest counter there is (one INCR in Redis), and the one with a hole: `limit` requests
//! in the last instant of a window and `limit` more in the first instant of the next are all
//! allowed. So it admits up to 2 × limit in a window of the same length that starts elsewhere.
//! `ask rate-limiter/window-edge-burst` shows it.
//!
//! Gives up exactness at the window's edge. Right for quotas that people see as calendar periods
//! ("1,000 per day").

use super::{Algorithm, Micros, Wait};

/// The parameters.
#[derive(Clone, Copy, Debug)]
pub struct FixedWindow {
    limit: u32,
    window_us: u64,
}

/// The window that was counted last, and what was counted in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Windows since the epoch. Never moves backwards.
    pub window: u64,
    /// Charged in that window.
    pub used: u32,
}

impl FixedWindow {
    /// `limit` per window of `window_us`, aligned to the clock's epoch.
    pub const fn new(limit: u32, window_us: u64) -> Self {
        Self { limit, window_us }
    }

    fn current(&self, state: &Count, now: Micros) -> Count {
        let window = now.0 / self.window_us;
        if window > state.window { Count { window, used: 0 } } else { *state }
    }

    /// Microseconds until the window after `window` begins.
    fn until_next(&self, window: u64, now: Micros) -> u64 {
        (window + 1) * self.window_us - now.0
    }
}

impl Algorithm for FixedWindow {
    type State = Count;

    fn fresh(&self, now: Micros) -> Count {
        Count { window: now.0 / self.window_us, used: 0 }
    }

    fn limit(&self) -> u32 {
        self.limit
    }

    fn available(&self, state: &Count, now: Micros) -> u32 {
        self.limit - self.current(state, now).used
    }

    fn wait(&self, state: &Count, now: Micros, cost: u32) -> Wait {
        let current = self.current(state, now);
        if cost > self.limit {
            Wait::Never
        } else if cost <= self.limit - current.used {
            Wait::Now
        } else {
            Wait::After(self.until_next(current.window, now))
        }
    }

    fn charge(&self, state: &mut Count, now: Micros, cost: u32) {
        let current = self.current(state, now);
        *state = Count { used: current.used + cost, ..current };
    }

    fn refund(&self, state: &mut Count, now: Micros, cost: u32) {
        let current = self.current(state, now);
        *state = Count { used: current.used.saturating_sub(cost), ..current };
    }

    fn settles_after(&self, state: &Count, now: Micros) -> u64 {
        let current = self.current(state, now);
        if current.used == 0 { 0 } else { self.until_next(current.window, now) }
    }
}
