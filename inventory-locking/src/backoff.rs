//! How long a loser waits: full jitter over a window that learns, and a budget that ends storms.
//!
//! Constant back-off is wrong at both ends. An optimistic attempt that loses has already waited
//! for the winner's commit, so a window below (clients × time of an attempt) only lines the losers
//! up again, and one above it wastes the lock. The right window depends on who else is there,
//! which nobody knows; so it is learnt from wins and losses, one window for each SKU, and it
//! paces first attempts too.
//!
//! A loss multiplies the window by [`GROW`], a win by [`SHRINK`]. The two balance where
//! `losses · ln GROW = wins · ln(1/SHRINK)`, which is one loss for four wins: 1.25 attempts for
//! each success, however many clients there are. After M. Herlihy's and B. Metcalfe's adaptive
//! back-off; full jitter after M. Brooker, "Exponential Backoff and Jitter" (2015).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What a lost attempt makes of the window.
pub const GROW: f64 = 1.5;

/// What a won attempt makes of it: 1.5^(-1/4).
pub const SHRINK: f64 = 0.903_6;

/// The longest window. Beyond it a waiting customer would rather be told that it is busy.
pub const WINDOW_US_MAX: u64 = 400_000;

/// The most attempts for one request. More would turn contention into latency without end.
pub const ATTEMPTS_MAX: u32 = 8;

/// Windows kept. SKUs that share one also share its pace, which costs them a little time.
const WINDOWS: usize = 256;

/// What each first attempt adds to the budget of retries, in thousandths of a retry.
const DEPOSIT_MILLI: i64 = 500;

/// The most retries saved up; beyond it a storm would be paid from quieter times.
const BUDGET_MILLI_MAX: i64 = 200_000;

/// The window after an attempt that lost and took `attempt_us`. A loser knows one thing for
/// certain: somebody else needed about as long as it waited.
pub fn after_loss(window_us: u64, attempt_us: u64) -> u64 {
    let grown = (window_us as f64 * GROW) as u64;
    grown.max(attempt_us).min(WINDOW_US_MAX)
}

/// The window after an attempt that won.
pub fn after_win(window_us: u64) -> u64 {
    (window_us as f64 * SHRINK) as u64
}

/// Full jitter: anywhere in the window. `random` is uniform in 0..1.
pub fn pause(window_us: u64, random: f64) -> Duration {
    Duration::from_micros((window_us as f64 * random) as u64)
}

/// The windows of all SKUs, and the budget that they share.
#[derive(Debug)]
pub struct Pace {
    windows_us: Vec<AtomicU64>,
    budget_milli: AtomicI64,
    hasher: foldhash::fast::RandomState,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            windows_us: (0..WINDOWS).map(|_| AtomicU64::new(0)).collect(),
            budget_milli: AtomicI64::new(BUDGET_MILLI_MAX),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl Pace {
    fn window(&self, sku: &str) -> &AtomicU64 {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(sku);
        &self.windows_us[hash as usize % WINDOWS]
    }

    /// How long to wait before an attempt at `sku`.
    pub fn before(&self, sku: &str) -> Duration {
        pause(self.window(sku).load(Ordering::Relaxed), fastrand::f64())
    }

    /// Books a request's first attempt.
    pub fn first(&self) {
        let balance = self.budget_milli.fetch_add(DEPOSIT_MILLI, Ordering::Relaxed);
        if balance > BUDGET_MILLI_MAX {
            self.budget_milli.fetch_sub(DEPOSIT_MILLI, Ordering::Relaxed);
        }
    }

    /// Learns from a win. A race with another learner loses one lesson, which does not matter.
    pub fn won(&self, sku: &str) {
        let window = self.window(sku);
        window.store(after_win(window.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Learns from a loss; whether there is budget for another attempt.
    pub fn lost(&self, sku: &str, attempt: Duration) -> bool {
        let window = self.window(sku);
        let attempt_us = u64::try_from(attempt.as_micros()).unwrap_or(u64::MAX);
        window.store(after_loss(window.load(Ordering::Relaxed), attempt_us), Ordering::Relaxed);
        let balance = self.budget_milli.fetch_sub(1_000, Ordering::Relaxed);
        if balance < 1_000 {
            self.budget_milli.fetch_add(1_000, Ordering::Relaxed);
        }
        balance >= 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N clients, each attempt takes one tick of a queue, an attempt wins when nobody else won
    /// since it read. The window must settle near 1.25 attempts per success for any N.
    fn attempts_per_success(clients: usize, seed: u64) -> f64 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let attempt_us = 1_000;
        let (mut window, mut version, mut wins, mut attempts) = (0_u64, 0_u64, 0_u32, 0_u32);
        // (when it acts, the version it has read; None before it has read)
        let mut queue: Vec<(u64, Option<u64>)> = vec![(0, None); clients];
        while wins < 4_000 {
            let next = queue.iter().enumerate().min_by_key(|(_, client)| client.0);
            let (at, &(now, read)) = next.expect("there are clients");
            queue[at] = match read {
                None => (now + attempt_us, Some(version)),
                Some(read) => {
                    attempts += 1;
                    if read == version {
                        version += 1;
                        wins += 1;
                        window = after_win(window);
                    } else {
                        window = after_loss(window, attempt_us);
                    }
                    (now + 1 + pause(window, rng.f64()).as_micros() as u64, None)
                }
            };
        }
        f64::from(attempts) / f64::from(wins)
    }

    #[test]
    fn the_window_learns_how_many_others_there_are() {
        assert!(attempts_per_success(1, 7) < 1.001, "alone nobody loses");
        for clients in [2, 8, 32] {
            let ratio = attempts_per_success(clients, 7);
            assert!((1.05..1.5).contains(&ratio), "{clients} clients: {ratio} attempts");
        }
    }

    #[test]
    fn a_storm_of_losses_ends_when_the_budget_does() {
        let pace = Pace::default();
        let allowed = (0..10_000).filter(|_| pace.lost("a", Duration::from_millis(1))).count();
        assert_eq!(allowed as i64, BUDGET_MILLI_MAX / 1_000);
        pace.first();
        pace.first();
        assert!(pace.lost("a", Duration::ZERO), "two requests pay for one retry");
        assert!(!pace.lost("a", Duration::ZERO));
        assert!(pace.before("a") <= Duration::from_micros(WINDOW_US_MAX));
    }
}
