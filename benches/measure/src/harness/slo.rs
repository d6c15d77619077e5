//! The highest rate that still meets a service level: a bounded search, every trial an open loop.
//!
//! Use it for "how far does one node go": it answers with a rate at which the promise held, and
//! shows every trial, because the way an answer fails says more than where.

use std::time::Duration;

use serde::Serialize;

use super::run::{Run, Summary};
use crate::units;

/// What must hold at a rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Slo {
    /// Such as 0.99.
    pub quantile: f64,
    /// The latency at that quantile, from the planned start.
    pub at_most: Duration,
    /// The share of requests that may fail or be dropped.
    pub max_error_share: f64,
}

impl Slo {
    /// p99 at most this, and at most one request in a thousand failed.
    pub fn p99(at_most: Duration) -> Slo {
        Slo { quantile: 0.99, at_most, max_error_share: 0.001 }
    }

    /// Whether `run` met it. A run that is invalid for whatever reason did not.
    pub fn met_by(&self, run: &Run) -> bool {
        run.is_valid()
            && run.quantile(self.quantile) <= self.at_most
            && run.error_share() <= self.max_error_share
    }

    /// One phrase: `p99 <= 5 ms`.
    pub fn describe(&self) -> String {
        format!("p{} <= {}", self.quantile * 100.0, units::duration(self.at_most))
    }
}

/// One trial of a search.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The rate offered.
    pub per_s: f64,
    /// Whether the service level was met.
    pub met: bool,
    /// What was measured.
    pub summary: Summary,
}

/// The outcome of a search.
#[derive(Debug, Clone, Serialize)]
pub struct Sustained {
    /// The highest rate tried that met the service level; `None` when none did.
    pub per_s: Option<f64>,
    /// Whether even the ceiling of the search met it: the true limit is higher.
    pub ceiling_reached: bool,
    /// Every trial, in order.
    pub trials: Vec<Trial>,
}

/// Bounds of a search.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The first rate to try.
    pub from_per_s: f64,
    /// The highest rate to try.
    pub to_per_s: f64,
    /// Trials at most.
    pub max_trials: usize,
}

/// Doubles the rate until the service level is missed, then halves the gap (geometrically) until
/// it is below 5 % or the trials are used up. `trial` runs the load at the rate it is given, on
/// fresh state.
pub async fn max_rate<F>(slo: Slo, search: Search, mut trial: impl FnMut(f64) -> F) -> Sustained
where
    F: Future<Output = Run>,
{
    let mut found = Sustained { per_s: None, ceiling_reached: false, trials: Vec::new() };
    let mut missed_at: Option<f64> = None;
    let mut next = search.from_per_s;
    while found.trials.len() < search.max_trials {
        let run = trial(next).await;
        let met = slo.met_by(&run);
        let summary = run.summary(&units::rate(next));
        found.trials.push(Trial { per_s: next, met, summary });
        if met {
            found.per_s = Some(next);
        } else {
            missed_at = Some(next);
        }
        next = match (found.per_s, missed_at) {
            (Some(met), None) if met >= search.to_per_s => {
                found.ceiling_reached = true;
                break;
            }
            (Some(met), None) => (met * 2.0).min(search.to_per_s),
            (Some(met), Some(missed)) if missed / met <= 1.05 => break,
            (Some(met), Some(missed)) => (met * missed).sqrt(),
            (None, _) => next / 2.0,
        };
    }
    found
}
