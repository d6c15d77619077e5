//! When to try again: exponential backoff, and jitter so that what failed together does not come
//! back together.
//!
//! After "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). Without jitter ten
//! thousand jobs that failed in one outage return in the same second, fail again, and do so for
//! ever; with full jitter they arrive spread over the whole interval.

use std::time::Duration;

/// How delays grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay before the first retry, without jitter.
    pub base: Duration,
    /// No delay is longer. Amazon SQS hides a message for at most 12 hours.
    pub cap: Duration,
    /// How it is spread.
    pub jitter: Jitter,
}

/// How a delay is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Not at all: exactly `base * 2^n`. For showing what goes wrong.
    None,
    /// Anywhere between zero and the exponential delay. The best at spreading; some come at once.
    Full,
    /// Between half of the exponential delay and all of it: spread, and never at once.
    Equal,
    /// Between the base and three times the last delay, which is itself random. Spreads like full
    /// jitter and never comes at once.
    ///
    /// Trade-off: the queue remembers how often a job was received, not how long it waited. The
    /// chain of delays is therefore drawn again each time, from the job's own seed.
    Decorrelated,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(900), jitter: Jitter::Full }
    }
}

impl Backoff {
    /// The delay after the `failures`-th failure (the first is 1), by this generator.
    ///
    /// ```
    /// use job_queue::worker::{Backoff, Jitter};
    /// use std::time::Duration;
    ///
    /// let base = Duration::from_secs(1);
    /// let backoff = Backoff { base, cap: Duration::from_secs(60), jitter: Jitter::None };
    /// let mut rng = fastrand::Rng::with_seed(7);
    /// assert_eq!(backoff.delay(1, &mut rng), Duration::from_secs(1));
    /// assert_eq!(backoff.delay(4, &mut rng), Duration::from_secs(8));
    /// assert_eq!(backoff.delay(40, &mut rng), Duration::from_secs(60));
    /// ```
    pub fn delay(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        let (base_ms, cap_ms) = (self.base.as_millis() as u64, self.cap.as_millis() as u64);
        // Beyond 2^32 the cap has long been reached; without the limit the shift would overflow.
        let doublings = failures.saturating_sub(1).min(32);
        let exponential_ms = base_ms.saturating_mul(1 << doublings).min(cap_ms);
        let delay_ms = match self.jitter {
            Jitter::None => exponential_ms,
            Jitter::Full => rng.u64(0..=exponential_ms),
            Jitter::Equal => exponential_ms / 2 + rng.u64(0..=exponential_ms.div_ceil(2)),
            Jitter::Decorrelated => (0..failures.min(64)).fold(base_ms, |last_ms, _| {
                rng.u64(base_ms..=last_ms.saturating_mul(3).max(base_ms)).min(cap_ms)
            }),
        };
        Duration::from_millis(delay_ms.min(cap_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Jitter; 4] = [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated];

    proptest! {
        #[test]
        fn no_delay_exceeds_the_cap_or_overflows(
            base_ms in 0_u64..100_000, cap_ms in 0_u64..50_000_000, failures in 0_u32..=u32::MAX,
            jitter in prop::sample::select(&ALL[..]), seed in any::<u64>(),
        ) {
            let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
            let backoff = Backoff { base, cap, jitter };
            let delay = backoff.delay(failures, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(delay <= cap, "{delay:?}");
        }
    }

    /// The share of 10 000 arrivals that fall into the fullest of 50 equal slots.
    fn peak(jitter: Jitter) -> f64 {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(600));
        let backoff = Backoff { base, cap, jitter };
        let mut rng = fastrand::Rng::with_seed(1);
        let delays: Vec<u128> =
            (0..10_000).map(|_| backoff.delay(8, &mut rng).as_millis()).collect();
        let last = delays.iter().max().copied().unwrap_or(0) + 1;
        let mut slots = [0_u32; 50];
        for delay in delays {
            slots[(delay * 50 / last) as usize] += 1;
        }
        f64::from(slots.into_iter().max().unwrap_or(0)) / 10_000.0
    }

    #[test]
    fn jitter_spreads_what_failed_together() {
        assert_eq!(peak(Jitter::None), 1.0, "without jitter all come back at once");
        assert!(peak(Jitter::Full) < 0.03, "full: {}", peak(Jitter::Full));
        assert!(peak(Jitter::Equal) < 0.06, "equal: {}", peak(Jitter::Equal));
        assert!(peak(Jitter::Decorrelated) < 0.5, "{}", peak(Jitter::Decorrelated));
    }
}
