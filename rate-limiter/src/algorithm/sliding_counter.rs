//! Sliding counter: two fixed windows, the older one fading out.
//!
//! Counts per fixed window like [`fixed_window`](super::fixed_window), but weighs the previous
//! window by the part of it that the sliding window still covers: `previous × (1 - elapsed) +
//! current`. The weight assumes that the previous window's requests were spread evenly. Where
//! they were, the answer is exact; where they all came at its end, up to 2 × limit pass.
//!
//! Gives up exactness under bursts for three integers per caller. Time is weighed in whole
//! milliseconds, rounded against the caller, so that the products stay exact integers.
//!
//! Source: Cloudflare, "How we built rate limiting capable of scaling to millions of domains",
//! 2017.

use super::{Algorithm, Micros, Wait};

const US_PER_MS: u64 = 1_000;

/// The parameters.
#[derive(Clone, Copy, Debug)]
pub struct SlidingCounter {
    limit: u32,
    window_ms: u64,
}

/// Two neighbouring windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The current window, in windows since the epoch. Never moves backwards.
    pub window: u64,
    /// Charged in the current window.
    pub current: u32,
    /// Charged in the window before it.
    pub previous: u32,
}

impl SlidingCounter {
    /// About `limit` in any window of `window_ms` milliseconds.
    pub const fn new(limit: u32, window_ms: u64) -> Self {
        Self { limit, window_ms }
    }

    fn window_us(&self) -> u64 {
        self.window_ms * US_PER_MS
    }

    fn rolled(&self, state: &Counts, now: Micros) -> Counts {
        let window = now.0 / self.window_us();
        match window.saturating_sub(state.window) {
            0 => *state,
            1 => Counts { window, current: 0, previous: state.current },
            _ => Counts { window, current: 0, previous: 0 },
        }
    }

    /// Whole milliseconds into `window`; zero while the clock is behind it.
    fn elapsed_ms(&self, window: u64, now: Micros) -> u64 {
        now.0.saturating_sub(window * self.window_us()) / US_PER_MS
    }

    /// What the previous window still weighs, in requests × milliseconds.
    fn fading(&self, counts: &Counts, now: Micros) -> u64 {
        u64::from(counts.previous) * (self.window_ms - self.elapsed_ms(counts.window, now))
    }

    /// Milliseconds into a window after which `fading` weighs at most `room` requests.
    fn faded_ms(&self, fading: u32, room: u32) -> u64 {
        let room = u64::from(room) * self.window_ms;
        self.window_ms - (room / u64::from(fading).max(1)).min(self.window_ms)
    }
}

impl Algorithm for SlidingCounter {
    type State = Counts;

    fn fresh(&self, now: Micros) -> Counts {
        Counts { window: now.0 / self.window_us(), current: 0, previous: 0 }
    }

    fn limit(&self) -> u32 {
        self.limit
    }

    fn available(&self, state: &Counts, now: Micros) -> u32 {
        let counts = self.rolled(state, now);
        let room = u64::from(self.limit - counts.current) * self.window_ms;
        // At most the limit, which is a u32.
        (room.saturating_sub(self.fading(&counts, now)) / self.window_ms) as u32
    }

    fn wait(&self, state: &Counts, now: Micros, cost: u32) -> Wait {
        if cost > self.limit {
            return Wait::Never;
        }
        if cost <= self.available(state, now) {
            return Wait::Now;
        }
        let counts = self.rolled(state, now);
        let room = self.limit - cost;
        // Either the previous window fades far enough while this one lasts, or this one has to
        // become the previous one and fade in its turn.
        let (window, elapsed_ms) = if counts.current <= room {
            (counts.window, self.faded_ms(counts.previous, room - counts.current))
        } else {
            (counts.window + 1, self.faded_ms(counts.current, room))
        };
        Wait::After(window * self.window_us() + elapsed_ms * US_PER_MS - now.0)
    }

    fn charge(&self, state: &mut Counts, now: Micros, cost: u32) {
        *state = self.rolled(state, now);
        state.current += cost;
    }

    /// Takes back from the current window only: what has moved into the previous one fades.
    fn refund(&self, state: &mut Counts, now: Micros, cost: u32) {
        *state = self.rolled(state, now);
        state.current = state.current.saturating_sub(cost);
    }

    fn settles_after(&self, state: &Counts, now: Micros) -> u64 {
        let counts = self.rolled(state, now);
        let windows = match counts {
            Counts { current: 0, previous: 0, .. } => return 0,
            Counts { current: 0, .. } => 1,
            _ => 2,
        };
        (counts.window + windows) * self.window_us() - now.0
    }
}
