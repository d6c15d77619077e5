//! Sliding log: remember when every admitted request came, count those in the last window.
//!
//! The only window that is exact: never more than `limit` in any window of its length, wherever
//! it starts. It pays with one entry per admitted request, which is why the limit is bounded by
//! [`LOG_LIMIT_MAX`]: a limit of a million would cost megabytes per caller.
//!
//! Gives up memory, and time linear in the limit where the state is one value (Redis).

use std::collections::VecDeque;

use super::{Algorithm, Micros, Wait};

/// The largest limit of a sliding log and of a concurrency limit: above it one caller's state no
/// longer fits a few kilobytes, and the script that rewrites it would block Redis.
pub const LOG_LIMIT_MAX: u32 = 1_000;

/// The parameters.
#[derive(Clone, Copy, Debug)]
pub struct SlidingLog {
    limit: u32,
    window_us: u64,
}

/// Admitted requests, oldest first.
pub type Log = VecDeque<Entry>;

/// One admitted request. Requests of the same microsecond share an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was admitted.
    pub at: Micros,
    /// What it cost.
    pub cost: u32,
}

impl SlidingLog {
    /// `limit` in any window of `window_us`.
    pub const fn new(limit: u32, window_us: u64) -> Self {
        Self { limit, window_us }
    }

    /// The time to judge by: never before the newest entry, so that a clock that went backwards
    /// cannot make room.
    fn clamped(log: &Log, now: Micros) -> Micros {
        log.back().map_or(now, |newest| newest.at.max(now))
    }

    fn live<'a>(&self, log: &'a Log, now: Micros) -> impl Iterator<Item = &'a Entry> {
        let now = Self::clamped(log, now);
        let window_us = self.window_us;
        log.iter().filter(move |entry| entry.at.0 + window_us > now.0)
    }

    fn used(&self, log: &Log, now: Micros) -> u32 {
        self.live(log, now).map(|entry| entry.cost).sum()
    }
}

impl Algorithm for SlidingLog {
    type State = Log;

    fn fresh(&self, _now: Micros) -> Log {
        Log::new()
    }

    fn limit(&self) -> u32 {
        self.limit
    }

    fn available(&self, log: &Log, now: Micros) -> u32 {
        self.limit - self.used(log, now)
    }

    fn wait(&self, log: &Log, now: Micros, cost: u32) -> Wait {
        if cost > self.limit {
            return Wait::Never;
        }
        let mut excess = (self.used(log, now) + cost).saturating_sub(self.limit);
        if excess == 0 {
            return Wait::Now;
        }
        for entry in self.live(log, now) {
            excess = excess.saturating_sub(entry.cost);
            if excess == 0 {
                return Wait::After(entry.at.0 + self.window_us - now.0);
            }
        }
        unreachable!("a cost within the limit fits once the whole log has expired")
    }

    fn charge(&self, log: &mut Log, now: Micros, cost: u32) {
        let now = Self::clamped(log, now);
        while log.front().is_some_and(|oldest| oldest.at.0 + self.window_us <= now.0) {
            log.pop_front();
        }
        match log.back_mut() {
            Some(newest) if newest.at == now => newest.cost += cost,
            _ if cost > 0 => log.push_back(Entry { at: now, cost }),
            _ => {}
        }
    }

    /// Takes back the newest entries: they are the ones just charged.
    fn refund(&self, log: &mut Log, now: Micros, cost: u32) {
        // First drop what has expired: once the newest entry is gone, a clock that went backwards
        // would count it again.
        self.charge(log, now, 0);
        let mut left = cost;
        while let Some(newest) = log.back_mut() {
            let returned = newest.cost.min(left);
            newest.cost -= returned;
            left -= returned;
            if newest.cost > 0 {
                break;
            }
            log.pop_back();
        }
    }

    fn settles_after(&self, log: &Log, now: Micros) -> u64 {
        self.live(log, now).last().map_or(0, |newest| newest.at.0 + self.window_us - now.0)
    }
}
