//! The same history through ours and through `governor`, which implements GCRA too.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use rate_limiter::clock::ManualClock;
use rate_limiter::conformance::EPOCH;
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, Memory};
use rate_limiter::{AlgorithmName, Key, Policy, Store};
use testkit::seed::Seed;

/// A million decisions, at rates whose interval is whole nanoseconds, so that governor's rounding
/// does not enter.
#[test]
fn a_million_decisions_equal_governors() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    for (rate, burst) in [(50, 1), (1_000, 10), (8, 100), (125_000, 7)] {
        let policy =
            Policy::single("p", AlgorithmName::TokenBucket, rate, 1_000, Some(burst)).unwrap();
        let ours_clock = Arc::new(ManualClock::at(EPOCH));
        let ours = Memory::new(Arc::clone(&ours_clock), KEYS_MAX_DEFAULT).limiter(policy);
        let theirs_clock = FakeRelativeClock::default();
        let quota = Quota::per_second(NonZeroU32::new(rate).unwrap())
            .allow_burst(NonZeroU32::new(burst).unwrap());
        let theirs = RateLimiter::direct_with_clock(quota, theirs_clock.clone());
        let interval_us = 1_000_000 / u64::from(rate);
        let key = Key::new("caller").unwrap();
        for step in 0..250_000 {
            let pause = Duration::from_micros(rng.u64(0..=2 * interval_us));
            ours_clock.advance(pause);
            theirs_clock.advance(pause);
            let cost = rng.u32(1..=burst.min(3));
            let ours = ours.check_now(key, cost).unwrap().allowed();
            let theirs = matches!(theirs.check_n(NonZeroU32::new(cost).unwrap()), Ok(Ok(())));
            assert_eq!(ours, theirs, "step {step} at {rate}/s burst {burst}, cost {cost}");
        }
    }
}
