//! Time: wall-clock milliseconds, because that is what a store compares across restarts, from the
//! system or from a test's hand. Unlike [`service::Clock`] it can also be waited on, since long
//! polls and delays wake up *at* a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Where "now" comes from. Clones share one hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<watch::Sender<u64>>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`advance_ms`](Self::advance_ms).
    pub fn manual(start_ms: u64) -> Self {
        Self(Some(Arc::new(watch::Sender::new(start_ms))))
    }

    /// Whether a test moves it.
    pub(crate) fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// The time now.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(hand) => *hand.borrow(),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
        }
    }

    /// Moves a manual clock forward; the system's is left alone.
    pub fn advance_ms(&self, by_ms: u64) {
        if let Some(hand) = &self.0 {
            hand.send_modify(|now| *now += by_ms);
        }
    }

    /// Returns when the time has come, and never for `None`.
    pub async fn sleep_until(&self, at_ms: Option<u64>) {
        let Some(at_ms) = at_ms else { return std::future::pending().await };
        match &self.0 {
            Some(hand) => {
                let reached = hand.subscribe().wait_for(|now| *now >= at_ms).await.map(drop);
                debug_assert!(reached.is_ok(), "the sender is held by this clock");
            }
            None => {
                // One at a time and never far: the wall clock may be set while we sleep.
                while let Some(left) = at_ms.checked_sub(self.now_ms()).filter(|left| *left > 0) {
                    tokio::time::sleep(Duration::from_millis(left.min(60_000))).await;
                }
            }
        }
    }
}
