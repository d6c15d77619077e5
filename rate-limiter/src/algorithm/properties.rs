//! Properties of the pure algorithms, on random histories that shrink.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::concurrency::Concurrency;
use super::fixed_window::FixedWindow;
use super::gcra::Gcra;
use super::leaky_bucket::LeakyBucket;
use super::leaky_queue::LeakyQueue;
use super::rate::{Rate, UNITS_MAX};
use super::sliding_counter::SlidingCounter;
use super::sliding_log::SlidingLog;
use super::token_bucket::TokenBucket;
use super::{Algorithm, Micros, Wait};

const START: u64 = 1_790_000_123_456_789;

/// (pause in microseconds, cost) pairs.
type History = Vec<(u64, u32)>;

fn history() -> impl Strategy<Value = History> {
    let pause = prop_oneof![4 => 0..3_000_u64, 1 => 0..200_000_u64];
    prop::collection::vec((pause, 1..=4_u32), 1..120)
}

/// Rates from once a year to a billion per second, with a burst that exact arithmetic can hold.
fn bucket() -> impl Strategy<Value = (Rate, u32)> {
    let per_us = prop_oneof![Just(1_000), 1_000..2_000_000_u64, Just(366 * 86_400 * 1_000_000)];
    (1..=1_000_u64, per_us, 1..=10_000_u32).prop_filter_map(
        "too large",
        |(count, per_us, burst)| {
            let rate = Rate::new(count, per_us);
            (u64::from(burst).checked_mul(rate.units_per_token)? <= UNITS_MAX)
                .then_some((rate, burst))
        },
    )
}

/// Charges whatever is allowed; returns when and how much.
fn admitted<A: Algorithm>(algorithm: A, history: &History) -> Vec<(u64, u64)> {
    let mut now = Micros(START);
    let mut state = algorithm.fresh(now);
    let mut admitted = Vec::new();
    for &(pause_us, cost) in history {
        now.0 += pause_us;
        if algorithm.wait(&state, now, cost) == Wait::Now {
            algorithm.charge(&mut state, now, cost);
            admitted.push((now.0, u64::from(cost)));
        }
    }
    admitted
}

/// The largest sum of costs in any window of `window_us` that includes its start and not its end.
fn most_in_any_window(admitted: &[(u64, u64)], window_us: u64) -> u64 {
    let (mut window, mut sum, mut most) = (VecDeque::new(), 0, 0);
    for &(at, cost) in admitted {
        window.push_back((at, cost));
        sum += cost;
        while let Some(&(first, gone)) = window.front()
            && first + window_us <= at
        {
            window.pop_front();
            sum -= gone;
        }
        most = most.max(sum);
    }
    most
}

/// Everything that can be asked of an algorithm, asked of every one along a history.
fn keeps_its_contract<A: Algorithm>(algorithm: A, history: &History) -> Result<(), TestCaseError> {
    let mut now = Micros(START);
    let mut state = algorithm.fresh(now);
    for &(pause_us, cost) in history {
        now.0 += pause_us;
        let remaining = algorithm.available(&state, now);
        prop_assert!(remaining <= algorithm.limit());
        match algorithm.wait(&state, now, cost) {
            Wait::Now => {
                prop_assert!(cost <= remaining);
                algorithm.charge(&mut state, now, cost);
                prop_assert_eq!(algorithm.available(&state, now), remaining - cost);
            }
            Wait::After(us) => {
                prop_assert!(cost > remaining && us > 0);
                let early = Micros(now.0 + us - 1);
                prop_assert!(
                    algorithm.wait(&state, early, cost) != Wait::Now,
                    "a microsecond early"
                );
                prop_assert_eq!(algorithm.wait(&state, Micros(now.0 + us), cost), Wait::Now);
            }
            Wait::Never => prop_assert!(cost > algorithm.limit()),
        }
        // Forgetting a settled caller is invisible: to every later question the old state answers
        // like a fresh one.
        let settled = Micros(now.0 + algorithm.settles_after(&state, now));
        let fresh = algorithm.fresh(settled);
        for later_us in [0, 1, 999, 1_000_000] {
            let later = Micros(settled.0 + later_us);
            prop_assert_eq!(algorithm.quota(&state, later), algorithm.quota(&fresh, later));
            prop_assert_eq!(algorithm.delay(&state, later), algorithm.delay(&fresh, later));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_buckets_keep_their_contract((rate, burst) in bucket(), history in history()) {
        keeps_its_contract(TokenBucket::new(rate, burst), &history)?;
        keeps_its_contract(Gcra::new(rate, burst), &history)?;
        keeps_its_contract(LeakyBucket::new(rate, burst), &history)?;
        keeps_its_contract(LeakyQueue::new(rate, burst), &history)?;
    }

    #[test]
    fn the_windows_keep_their_contract(
        limit in 1..=40_u32, window_ms in 1..=300_u64, history in history(),
    ) {
        keeps_its_contract(FixedWindow::new(limit, window_ms * 1_000), &history)?;
        keeps_its_contract(SlidingLog::new(limit, window_ms * 1_000), &history)?;
        keeps_its_contract(SlidingCounter::new(limit, window_ms), &history)?;
        keeps_its_contract(Concurrency::new(limit, window_ms * 1_000), &history)?;
    }

    #[test]
    fn token_bucket_gcra_and_leaky_bucket_decide_alike((rate, burst) in bucket(), history in history()) {
        let expected = admitted(TokenBucket::new(rate, burst), &history);
        prop_assert_eq!(&admitted(Gcra::new(rate, burst), &history), &expected);
        prop_assert_eq!(&admitted(LeakyBucket::new(rate, burst), &history), &expected);
    }

    #[test]
    fn buckets_never_admit_more_than_burst_plus_rate_times_t(
        (rate, burst) in bucket(), history in history(),
    ) {
        let admitted = admitted(TokenBucket::new(rate, burst), &history);
        for (index, &(first, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for &(last, cost) in &admitted[index..] {
                sum += cost;
                let refilled = (last - first) * rate.units_per_us / rate.units_per_token;
                prop_assert!(sum <= u64::from(burst) + refilled);
            }
        }
    }

    #[test]
    fn the_sliding_log_is_exact_and_the_counters_admit_less_than_twice_the_limit(
        limit in 1..=40_u32, window_ms in 1..=300_u64, history in history(),
    ) {
        let (limit64, window_us) = (u64::from(limit), window_ms * 1_000);
        let exact = admitted(SlidingLog::new(limit, window_us), &history);
        prop_assert!(most_in_any_window(&exact, window_us) <= limit64);
        let counter = admitted(SlidingCounter::new(limit, window_ms), &history);
        prop_assert!(most_in_any_window(&counter, window_us) <= 2 * limit64);
        let fixed = admitted(FixedWindow::new(limit, window_us), &history);
        prop_assert!(most_in_any_window(&fixed, window_us) <= 2 * limit64);
    }

    #[test]
    fn the_queue_spaces_departures_by_the_rate(history in history()) {
        let rate = Rate::new(1, 1_000);
        let queue = LeakyQueue::new(rate, 50);
        let (mut now, mut free_at) = (Micros(START), 0);
        let mut state = queue.fresh(now);
        for (pause_us, cost) in history {
            now.0 += pause_us;
            if queue.wait(&state, now, cost) == Wait::Now {
                let departs = now.0 + queue.delay(&state, now);
                prop_assert!(departs >= free_at, "left before the work ahead was done");
                free_at = departs + u64::from(cost) * 1_000;
                queue.charge(&mut state, now, cost);
            }
        }
    }
}

/// No rounding is lost over a million steps at rates whose interval is no whole microsecond.
#[test]
fn a_million_steps_do_not_drift() {
    for (count, per_us) in [(7, 1_000_000), (6_000, 1_000_000), (999_983, 1_000_000), (3, 7_000)] {
        // With room for two, a request that comes as told, a fraction of a microsecond late, does
        // not lose that fraction.
        let gcra = Gcra::new(Rate::new(count, per_us), 2);
        let mut now = Micros(START);
        let mut tat = gcra.fresh(now);
        let admitted = 1_000_000;
        for _ in 0..admitted {
            if let Wait::After(us) = gcra.wait(&tat, now, 1) {
                now.0 += us;
            }
            gcra.charge(&mut tat, now, 1);
        }
        // The k-th request is due exactly k - 2 intervals after the start, rounded up once.
        let due_us = (u128::from(admitted as u64 - 2) * u128::from(per_us)).div_ceil(count.into());
        assert_eq!(u128::from(now.0 - START), due_us, "{count} per {per_us} us");
    }
}

#[test]
fn fast_rates_in_the_year_2100_and_a_clock_far_behind_do_not_overflow() {
    let gcra = Gcra::new(Rate::new(1_000_000_000, 1_000_000), u32::MAX);
    let now = Micros(4_102_444_800_000_000);
    let mut tat = gcra.fresh(now);
    gcra.charge(&mut tat, now, u32::MAX);
    for behind in [Micros(0), Micros(1), Micros(now.0 - 1)] {
        assert_eq!(gcra.available(&tat, behind), 0);
        assert!(matches!(gcra.wait(&tat, behind, u32::MAX), Wait::After(_)));
        gcra.refund(&mut tat.clone(), behind, u32::MAX);
    }
}
