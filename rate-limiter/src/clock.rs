//! Time for the in-process answer. The Redis answer asks Redis, so that all servers agree.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::algorithm::Micros;

/// Where "now" comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Micros;
}

/// The system's monotonic clock, set once to the wall clock so that fixed windows align with the
/// calendar, and never again: a step of the wall clock must not mint tokens.
///
/// Trap: reading the CPU's cycle counter directly is cheaper but not monotonic between cores;
/// governor users see false denials from it (governor issue 299).
#[derive(Debug)]
pub struct Monotonic {
    started: Instant,
    started_us: u64,
}

impl Default for Monotonic {
    fn default() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_us: wall.as_micros() as u64 }
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Micros {
        let elapsed = self.started.elapsed();
        // Not `as_micros`: it computes in 128 bits, and this runs on every check.
        Micros(self.started_us + elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros()))
    }
}

/// A clock that stands still until told otherwise: virtual time for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Micros) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }

    /// Jumps to `now`, backwards too.
    pub fn set(&self, now: Micros) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst))
    }
}
