//! Is B faster than A, or was the machine? Interleaved rounds and a confidence interval.
//!
//! Two shared cores drift by more than most effects. So A and B run in turns, ABBA, in one
//! process: each round gives one ratio B/A in which slow drift cancels. The interval over those
//! ratios is a percentile bootstrap (Efron, "Bootstrap methods: another look at the jackknife",
//! 1979), stretched for the small number of rounds (Hesterberg, "What teachers should know about
//! the bootstrap", The American Statistician 69, 2015): unstretched it is too narrow for ten
//! rounds and would call one A/A comparison in ten a difference.

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
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mean = average(&logs);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut resample = vec![0.0; logs.len()];
    let mut draw = || {
        resample.iter_mut().for_each(|log| *log = logs[rng.usize(0..logs.len())]);
        average(&resample) - mean
    };
    let mut distances: Vec<f64> = (0..RESAMPLES).map(|_| draw()).collect();
    distances.sort_by(f64::total_cmp);
    let at = |quantile: f64| distances[((RESAMPLES - 1) as f64 * quantile).round() as usize];
    let stretch = stretch(logs.len() as f64);
    let (low, high) = (mean + stretch * at(0.025), mean + stretch * at(0.975));
    Some(Ratio { ratio: mean.exp(), low: low.exp(), high: high.exp() })
}

/// How much wider the interval of a mean of `n` values is than resampling them suggests:
/// resampling divides by `n` where `n - 1` is right, and knows no Student's t.
fn stretch(n: f64) -> f64 {
    const Z: f64 = 1.959_964;
    let freedom = n - 1.0;
    // The 97.5 % quantile of t from that of the normal distribution (Abramowitz and Stegun
    // 26.7.5): within 3 % for two degrees of freedom, 0.3 % for four.
    let t = Z
        + (Z.powi(3) + Z) / (4.0 * freedom)
        + (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / (96.0 * freedom.powi(2))
        + (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z)
            / (384.0 * freedom.powi(3));
    t / Z * (n / freedom).sqrt()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_finite_even_when_rounds_are_few_or_tie() {
        for b in [[2.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.1]] {
            let ratio = paired_ratio(&[1.0; 4], &b, 1).expect("four rounds");
            assert!(ratio.low > 1.8 && ratio.high < 2.3 && ratio.differs(), "{ratio:?}");
        }
        assert_eq!(paired_ratio(&[1.0; 2], &[2.0; 2], 1), None);
    }

    #[test]
    fn rounds_go_forwards_then_backwards() {
        assert_eq!(interleaved(2, 4), [[0, 1], [1, 0], [0, 1], [1, 0]]);
    }
}
