//! Waiting for a condition instead of a duration.
//!
//! A sleep is either too short (a flaky test) or too long (a slow one). These look at the state
//! itself, again and again with a short back-off, until it holds; a condition that became true
//! before the first look is seen all the same.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use crate::conformance::{Broken, Verdict};

const BACK_OFF_MIN: Duration = Duration::from_millis(1);
const BACK_OFF_MAX: Duration = Duration::from_millis(25);

struct TimedOut {
    elapsed: Duration,
    looks: u32,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {:?} ({} looks)", self.elapsed, self.looks)
    }
}

/// Returns once `condition` holds.
///
/// # Panics
/// After `timeout`, naming `what`, the time that passed and the caller.
#[track_caller]
pub fn wait_until<Fut: Future<Output = bool>>(
    what: &str,
    timeout: Duration,
    condition: impl FnMut() -> Fut,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        if let Err(timed_out) = poll(timeout, condition).await {
            panic!("waited until {what}: {timed_out}, at {caller}");
        }
    }
}

/// Like [`wait_until`] for the check of a promise: the timeout is a verdict, not a panic.
///
/// # Errors
/// After `timeout`, [`Broken`] naming `what` and the time that passed.
pub async fn eventually<Fut: Future<Output = bool>>(
    what: &str,
    timeout: Duration,
    condition: impl FnMut() -> Fut,
) -> Verdict {
    poll(timeout, condition)
        .await
        .map_err(|timed_out| Broken::because(format!("expected that {what}: {timed_out}")))
}

async fn poll<Fut: Future<Output = bool>>(
    timeout: Duration,
    mut condition: impl FnMut() -> Fut,
) -> Result<(), TimedOut> {
    let begun = Instant::now();
    let mut looks = 0;
    let holds = async {
        let mut back_off = BACK_OFF_MIN;
        loop {
            looks += 1;
            if condition().await {
                return;
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    };
    // The timeout is around the condition too: one that never returns must not hang the test.
    let in_time = tokio::time::timeout(timeout, holds).await;
    in_time.map_err(|_| TimedOut { elapsed: begun.elapsed(), looks })
}

/// [`wait_until`] for code without a runtime.
///
/// # Panics
/// After `timeout`, naming `what` and the time that passed.
#[track_caller]
pub fn wait_until_blocking(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    let mut looks = 0;
    let mut back_off = BACK_OFF_MIN;
    loop {
        looks += 1;
        if condition() {
            return;
        }
        let elapsed = begun.elapsed();
        if elapsed >= timeout {
            panic!("waited until {what}: {}", TimedOut { elapsed, looks });
        }
        std::thread::sleep(back_off.min(timeout - elapsed));
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sees_a_condition_that_becomes_true_later() {
        let looks = AtomicU32::new(0);
        wait_until("three looks were taken", Duration::from_secs(1), || async {
            looks.fetch_add(1, SeqCst) == 2
        })
        .await;
        assert_eq!(looks.load(SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "waited until pigs fly: not within 1s")]
    async fn names_what_it_waited_for() {
        wait_until("pigs fly", Duration::from_secs(1), || async { false }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_never_returns_is_a_timeout_and_in_a_check_a_verdict() {
        let verdict = eventually("it answers", Duration::from_secs(1), std::future::pending).await;
        let broken = verdict.expect_err("a pending condition never holds");
        assert!(broken.what().starts_with("expected that it answers: not within 1"), "{broken}");
    }

    #[test]
    #[should_panic(expected = "waited until pigs fly: not within")]
    fn the_blocking_variant_is_bounded_too() {
        wait_until_blocking("pigs fly", Duration::from_millis(5), || false);
    }
}
