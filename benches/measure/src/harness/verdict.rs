//! When a run must not be believed. An invalid run is reported with its reasons and never charted.

use std::fmt;
use std::time::Duration;

use super::run::{Mode, Percentiles, Run};
use crate::units::{duration, duration_ns, rate};

/// The generator may be late by this share of the p99 it reports; later, and the figure is about
/// the generator.
pub const MAX_LAG_SHARE: f64 = 0.10;
/// The same limit for a load that is timed from the send: later, and what arrived was no longer
/// the planned load.
pub const MAX_LAG_FROM_SEND: Duration = Duration::from_millis(1);
/// At least this share of the offered rate must have been achieved; less, and percentiles describe
/// how long the run was rather than how fast the system is.
pub const MIN_ACHIEVED_SHARE: f64 = 0.99;
/// At most this share of requests may have been dropped by the in-flight limit.
pub const MAX_DROPPED_SHARE: f64 = 0.001;

/// One reason why a run is invalid.
#[derive(Debug, Clone, PartialEq)]
pub enum Flaw {
    /// Nothing succeeded, so there is nothing to report.
    NothingSucceeded,
    /// The generator lagged its own plan.
    Lagged {
        /// Its 99th percentile lateness.
        lag_p99_ns: u64,
        /// The p99 it would have reported.
        p99_ns: u64,
    },
    /// The generator lagged too far for a load that is timed from the send.
    LostItsPlan {
        /// Its 99th percentile lateness.
        lag_p99_ns: u64,
    },
    /// The system did not keep up.
    FellBehind {
        /// Rate asked for.
        offered_per_s: f64,
        /// Rate of replies.
        achieved_per_s: f64,
    },
    /// Requests were not sent because too many were in flight.
    Dropped {
        /// How many.
        dropped: u64,
        /// Of how many.
        offered: u64,
    },
    /// The invariant checked at the end of the run did not hold.
    Broken(String),
}

impl Flaw {
    /// Only the generator was late: says nothing about the subject.
    pub fn is_lag(&self) -> bool {
        matches!(self, Flaw::Lagged { .. } | Flaw::LostItsPlan { .. })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NothingSucceeded => write!(f, "no request succeeded"),
            Flaw::Lagged { lag_p99_ns, p99_ns } => write!(
                f,
                "the generator lagged: its p99 lag {} is more than {:.0} % of the reported p99 {}",
                duration_ns(*lag_p99_ns),
                MAX_LAG_SHARE * 100.0,
                duration_ns(*p99_ns)
            ),
            Flaw::LostItsPlan { lag_p99_ns } => write!(
                f,
                "the generator lagged: its p99 lag {} is more than {}",
                duration_ns(*lag_p99_ns),
                duration(MAX_LAG_FROM_SEND)
            ),
            Flaw::FellBehind { offered_per_s, achieved_per_s } => write!(
                f,
                "the offered rate was not met: {} of {}",
                rate(*achieved_per_s),
                rate(*offered_per_s)
            ),
            Flaw::Dropped { dropped, offered } => {
                write!(f, "{dropped} of {offered} requests were dropped: too many in flight")
            }
            Flaw::Broken(invariant) => write!(f, "invariant broken: {invariant}"),
        }
    }
}

/// Every reason why `run` is invalid.
pub(super) fn flaws(run: &Run) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if run.completed() == 0 {
        flaws.push(Flaw::NothingSucceeded);
    }
    if run.mode.is_open() {
        let (lag, latency) = (Percentiles::of(&run.lag), Percentiles::of(&run.latency));
        let timed = run.completed() > 0 && !run.counts_only;
        let from_send = run.mode == Mode::OpenFromSend;
        if timed && from_send && u128::from(lag.p99) > MAX_LAG_FROM_SEND.as_nanos() {
            flaws.push(Flaw::LostItsPlan { lag_p99_ns: lag.p99 });
        }
        if timed && !from_send && lag.p99 as f64 > MAX_LAG_SHARE * latency.p99 as f64 {
            flaws.push(Flaw::Lagged { lag_p99_ns: lag.p99, p99_ns: latency.p99 });
        }
        let (offered_per_s, achieved_per_s) = (run.offered_per_s(), run.achieved_per_s());
        if !run.may_fall_behind && achieved_per_s < MIN_ACHIEVED_SHARE * offered_per_s {
            flaws.push(Flaw::FellBehind { offered_per_s, achieved_per_s });
        }
        if run.dropped as f64 > MAX_DROPPED_SHARE * run.offered as f64 {
            flaws.push(Flaw::Dropped { dropped: run.dropped, offered: run.offered });
        }
    }
    if let Some(invariant) = &run.broken {
        flaws.push(Flaw::Broken(invariant.clone()));
    }
    flaws
}
