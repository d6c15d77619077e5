//! How long a loser waits: full jitter over a window that learns, and a budget that ends storms.
//!
//! Constant back-off is wrong at both ends. An optimistic attempt that loses has already waited
//! for the winner's commit, so a window below (clients × time of an attempt) only lines the losers
//! up again, and one above it wastes the lock. The right window depends on who else is there,
//! which nobody knows; so it is learnt from wins and losses, one window for each SKU, and it
//! paces first attempts too.
//!
//! A loss multiplies the window by [`GROW`], a win by [`SHRINK`]. The two balance where
//! `losses · ln GROW = wins · ln(1/SHRINK)`: about one loss for five wins, however many clients
//! there are. Losses of attempts that began before the window last grew say nothing about the new
//! one and are not counted: thirty losers of one race are one piece of news, not thirty. With them
//! it is 1.3 to 1.4 attempts for each success. After the adaptive back-off of Ethernet and the congestion window of
//! TCP; full jitter after M. Brooker, "Exponential Backoff and Jitter" (2015).

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a lost attempt makes of the window.
pub const GROW: f64 = 1.5;

/// What a won attempt makes of it: about 1.5^(-1/5).
pub const SHRINK: f64 = 0.92;

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

/// How many times (the time of an attempt × the rivals) the first window is: where the balance
/// above settles, so that nothing has to be learnt by losing.
pub const FIRST: u64 = 5;

/// A window below this part of an attempt's time has learnt nothing yet.
const UNLEARNT: u64 = 64;

/// The range from which pauses are drawn, and when it last grew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The longest pause.
    pub width_us: u64,
    /// On the caller's clock.
    pub grown_at_us: u64,
}

/// The window after an attempt that lost, from `began_us` to `now_us`, while `rivals` requests of
/// this server (this one included) wanted the same. The first loss knows how long an attempt takes
/// and how many are in the way here; how many there are elsewhere only further losses can tell.
pub fn after_loss(window: Window, began_us: u64, now_us: u64, rivals: u64) -> Window {
    if began_us < window.grown_at_us {
        return window;
    }
    let attempt_us = (now_us - began_us).max(1);
    let width_us = match window.width_us <= attempt_us / UNLEARNT {
        true => FIRST * attempt_us * rivals,
        false => (window.width_us as f64 * GROW) as u64,
    };
    Window { width_us: width_us.min(WINDOW_US_MAX), grown_at_us: now_us }
}

/// The window after an attempt that won.
pub fn after_win(window: Window) -> Window {
    Window { width_us: (window.width_us as f64 * SHRINK) as u64, ..window }
}

/// Full jitter: anywhere in the window. `random` is uniform in 0..1.
pub fn pause(window_us: u64, random: f64) -> Duration {
    Duration::from_micros((window_us as f64 * random) as u64)
}

/// The windows of all SKUs, and the budget that they share.
#[derive(Debug)]
pub struct Pace {
    windows: Vec<Mutex<(Window, u64)>>,
    budget_milli: AtomicI64,
    hasher: foldhash::fast::RandomState,
    since: Instant,
    widest_us: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::within(WINDOW_US_MAX)
    }
}

impl Pace {
    /// With no window wider than this. Where a loser has not queued for anything, and a winner takes
    /// tens of microseconds, to stay away for longer wastes more than losing does.
    pub fn within(widest_us: u64) -> Self {
        Self {
            widest_us,
            windows: (0..WINDOWS).map(|_| Mutex::default()).collect(),
            budget_milli: AtomicI64::new(BUDGET_MILLI_MAX),
            hasher: foldhash::fast::RandomState::default(),
            since: Instant::now(),
        }
    }

    /// A request begins, and pays its part into the budget.
    pub fn enter(&self, sku: &str) -> Turn<'_> {
        let balance = self.budget_milli.fetch_add(DEPOSIT_MILLI, Ordering::Relaxed);
        if balance > BUDGET_MILLI_MAX {
            self.budget_milli.fetch_sub(DEPOSIT_MILLI, Ordering::Relaxed);
        }
        let window = &self.windows[self.hasher.hash_one(sku) as usize % WINDOWS];
        window.lock().1 += 1;
        Turn { pace: self, window }
    }
}

/// A request that wants a SKU, from its first attempt to its last. While it lives, it is a rival of
/// everybody else who does.
#[derive(Debug)]
pub struct Turn<'a> {
    pace: &'a Pace,
    window: &'a Mutex<(Window, u64)>,
}

impl Turn<'_> {
    /// Waits before an attempt, the first one too.
    pub async fn pause(&self) {
        let width_us = self.window.lock().0.width_us;
        if width_us > 0 {
            tokio::time::sleep(pause(width_us, fastrand::f64())).await;
        }
    }

    /// Learns from a win.
    pub fn won(&self) {
        let mut window = self.window.lock();
        window.0 = after_win(window.0);
    }

    /// Learns from a loss; whether there is budget for another attempt.
    pub fn lost(&self, began: Instant) -> bool {
        let pace = self.pace;
        let us = |at: Instant| at.saturating_duration_since(pace.since).as_micros() as u64;
        let mut window = self.window.lock();
        window.0 = after_loss(window.0, us(began), us(Instant::now()), window.1);
        window.0.width_us = window.0.width_us.min(pace.widest_us);
        drop(window);
        let balance = pace.budget_milli.fetch_sub(1_000, Ordering::Relaxed);
        if balance < 1_000 {
            pace.budget_milli.fetch_add(1_000, Ordering::Relaxed);
        }
        balance >= 1_000
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.window.lock().1 -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINS: u64 = 500;

    /// N clients; an attempt takes a millisecond from its look to its write, and wins when nobody
    /// else has won in between. However many there are, the share of losses must be the
    /// same, and from the start: a sale is over before a slow learner has learnt.
    fn attempts_per_success(rivals: usize, seed: u64) -> f64 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let attempt_us = 1_000;
        let (mut window, mut version, mut wins, mut attempts) = (Window::default(), 0_u64, 0, 0);
        // When each acts next, and if that is to write: which version it has read, and when.
        let mut clients: Vec<(u64, Option<(u64, u64)>)> = vec![(0, None); rivals];
        while wins < WINS {
            let next = clients.iter().enumerate().min_by_key(|(_, client)| client.0);
            let (at, &(now, read)) = next.expect("there are clients");
            clients[at] = match read {
                None => (now + attempt_us, Some((version, now))),
                Some((read, began)) => {
                    attempts += 1;
                    if read == version {
                        (version, wins) = (version + 1, wins + 1);
                        window = after_win(window);
                    } else {
                        window = after_loss(window, began, now, rivals as u64);
                    }
                    (now + 1 + pause(window.width_us, rng.f64()).as_micros() as u64, None)
                }
            };
        }
        f64::from(attempts) / WINS as f64
    }

    #[test]
    fn the_window_learns_how_many_others_there_are() {
        assert!(attempts_per_success(1, 7) <= 1.0, "alone nobody loses");
        for clients in [2, 8, 32] {
            let ratio = attempts_per_success(clients, 7);
            assert!((1.05..1.5).contains(&ratio), "{clients} clients: {ratio} attempts");
        }
    }

    #[test]
    fn a_storm_of_losses_ends_when_the_budget_does() {
        let pace = Pace::default();
        let turn = pace.enter("a");
        let allowed = (0..10_000).filter(|_| turn.lost(Instant::now())).count();
        assert_eq!(allowed as i64, BUDGET_MILLI_MAX / 1_000);
        let _others = (pace.enter("a"), pace.enter("b"));
        assert!(turn.lost(Instant::now()), "two requests pay for one retry");
        assert!(!turn.lost(Instant::now()));
        let width_us = turn.window.lock().0.width_us;
        assert!((1..=WINDOW_US_MAX).contains(&width_us), "{width_us}");
    }
}
