//! Is B faster than A, or was the machine? Interleaved rounds and a confidence interval.
//!
//! Two shared cores drift by more than most effects. So A and B run in turns, ABBA, in one
//! process: each round gives one ratio B/A in which slow drift cancels. The interval over those
//! ratios is a studentized bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap",
//! 1993, chapter 12): the plain percentile bootstrap is too narrow for ten rounds and would
//! call one A/A comparison in ten a difference.

use serde::{Deserialize, Serialize};

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2_000;

/// The order of `subjects` in each of `rounds`: forwards, then backwards (ABBA), so that a steady
/// drift favours nobody.
pub fn interleaved(subjects: usize, rounds: usize) -> Vec<Vec<usize>> {
    let forwards: Vec<usize> = (0..subjects).collect();
    let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
    (0..rounds).map(|r| if r % 2 == 0 { &forwards } else { &backwards }.clone()).collect()
}

/// A ratio with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// B/A.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Ratio {
    /// Whether the interval excludes 1: a difference at the 5 % level.
    pub fn differs(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// The ratio `b / a` from paired rounds, with a 95 % interval from a bootstrap with this seed.
///
/// `None` when there are fewer than three rounds with both figures above zero: no interval can
/// be had from two. Cost: 2,000 resamples of the rounds.
pub fn paired_ratio(a: &[f64], b: &[f64], seed: u64) -> Option<Ratio> {
    let pairs = a.iter().zip(b).filter(|(a, b)| **a > 0.0 && **b > 0.0);
    let logs: Vec<f64> = pairs.map(|(a, b)| (b / a).ln()).collect();
    if logs.len() < 3 {
        return None;
    }
    let (mean, error) = mean_and_error(&logs);
    if error == 0.0 {
        return Some(Ratio { ratio: mean.exp(), low: mean.exp(), high: mean.exp() });
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut resample = vec![0.0; logs.len()];
    let mut distances = Vec::with_capacity(RESAMPLES);
    while distances.len() < RESAMPLES {
        resample.iter_mut().for_each(|log| *log = logs[rng.usize(0..logs.len())]);
        let (resampled_mean, resampled_error) = mean_and_error(&resample);
        // All draws the same round: infinitely far away, on the side it fell.
        distances.push((resampled_mean - mean) / resampled_error.max(f64::MIN_POSITIVE));
    }
    distances.sort_by(f64::total_cmp);
    let at = |quantile: f64| distances[((RESAMPLES - 1) as f64 * quantile).round() as usize];
    let low = (mean - at(0.975) * error).exp();
    let high = (mean - at(0.025) * error).exp();
    Some(Ratio { ratio: mean.exp(), low, high })
}

/// Mean, and the standard error of it.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
