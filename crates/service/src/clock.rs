//! The one clock a service takes time from, so that tests can hold it.
//!
//! It tells wall-clock milliseconds, because that is what systems store and compare across
//! restarts.
//!
//! Trap: wall time may step back when the machine's clock is corrected. A pure core that gets
//! `now_ms` must stay right when it does; durations inside one process want `tokio::time`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z: from the system, or from a test's hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance_ms`]; clones share it.
    pub fn manual(start_ms: u64) -> Self {
        Self(Some(Arc::new(AtomicU64::new(start_ms))))
    }

    /// The time now. Costs a vDSO call, some 20 ns.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(held) => held.load(Ordering::SeqCst),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    /// On the system clock, which nobody moves.
    pub fn advance_ms(&self, by_ms: u64) {
        self.held().fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Sets a manual clock to any time, also back: the `clock-jump` fault.
    ///
    /// # Panics
    /// On the system clock, which nobody sets.
    pub fn set_ms(&self, now_ms: u64) {
        self.held().store(now_ms, Ordering::SeqCst);
    }

    fn held(&self) -> &AtomicU64 {
        self.0.as_deref().expect("only a manual clock is moved by hand")
    }
}
