//! What a run produced: the histograms, the time line, and the summary that goes into reports.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::recorder::{Books, Classes};
use super::verdict::{self, Flaw};

/// How the load was applied. Printed in every table, because the two do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Requests left on a plan; latency counts from the plan.
    Open,
    /// Requests left on a plan; latency counts from when they really left. For operations of
    /// tens of microseconds; see [`Load::timed_from_send`](super::Load::timed_from_send).
    OpenFromSend,
    /// Each worker waited for its reply: a maximum rate, whose latencies hide all queueing.
    Closed,
    /// Threads in a tight loop in this process; latencies are means of batches.
    InProcess,
}

impl Mode {
    /// Whether requests left on a plan, whatever the replies did.
    pub fn is_open(self) -> bool {
        matches!(self, Mode::Open | Mode::OpenFromSend)
    }

    /// The label of a table.
    pub fn label(self) -> &'static str {
        match self {
            Mode::Open => "Open loop, latency from the planned send time",
            Mode::OpenFromSend => {
                "Open loop, latency from the actual send: the sender's lag is listed, not included"
            }
            Mode::Closed => "Closed loop (saturation): a maximum rate; its latencies hide queueing",
            Mode::InProcess => "In-process loop (saturation): latencies are means of batches",
        }
    }
}

/// Percentiles in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is the percentile it is named after")]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Percentiles {
    /// Reads them off a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: if histogram.is_empty() { 0 } else { histogram.max() },
        }
    }
}

/// One point of the time line. Requests belong to the interval in which they *ended*.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Start, from the start of the run.
    pub at_ms: u64,
    /// Length; a tick, except for the last.
    pub length_ms: u64,
    /// Requests that ended well.
    pub completed: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Requests never sent, because too many were in flight.
    pub dropped: u64,
    /// Median latency from the planned start.
    pub p50_ns: u64,
    /// 99th percentile latency from the planned start.
    pub p99_ns: u64,
    /// Counts by class, errors included.
    pub classes: BTreeMap<String, u64>,
}

impl Interval {
    pub(super) fn new(since: Duration, length: Duration, books: &Books, dropped: u64) -> Interval {
        let classes = books.ok.iter().chain(&books.errors);
        Interval {
            at_ms: since.as_millis() as u64,
            length_ms: length.as_millis().max(1) as u64,
            completed: books.latency.len(),
            failed: books.failed.len(),
            dropped,
            p50_ns: books.latency.value_at_quantile(0.5),
            p99_ns: books.latency.value_at_quantile(0.99),
            classes: classes.map(|(class, count)| ((*class).to_owned(), *count)).collect(),
        }
    }

    /// Requests that ended well, a second.
    pub fn per_s(&self) -> f64 {
        self.completed as f64 * 1000.0 / self.length_ms.max(1) as f64
    }
}

/// Where a run is, reported at every tick.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// Since the start.
    pub elapsed_ms: u64,
    /// How long the plan is.
    pub planned_ms: u64,
    /// Requests that ended well so far.
    pub completed: u64,
    /// Requests that ended in an error so far.
    pub failed: u64,
    /// Requests not sent so far.
    pub dropped: u64,
    /// Requests sent and not ended.
    pub in_flight: u64,
    /// The last interval.
    pub latest: Interval,
}

/// A finished run.
#[derive(Debug, Clone)]
pub struct Run {
    /// How the load was applied.
    pub mode: Mode,
    /// When the first request was due.
    pub started: Instant,
    /// How long the plan was.
    pub planned_duration: Duration,
    /// Until the last reply, at least the plan's length.
    pub took: Duration,
    /// Requests that were due.
    pub offered: u64,
    /// Replies, errors included, before the plan was over (plus the fastest reply's latency).
    pub in_time: u64,
    /// Of those offered, how many were never sent because too many were in flight.
    pub dropped: u64,
    /// Successful requests, from the planned start (or the send: see [`Mode`]).
    pub latency: Histogram<u64>,
    /// Successful requests, from the actual send.
    pub uncorrected: Histogram<u64>,
    /// Failed requests, from the planned start.
    pub failed: Histogram<u64>,
    /// The generator's own lateness.
    pub lag: Histogram<u64>,
    /// Successful requests by class.
    pub ok: Classes,
    /// Failed requests by class.
    pub errors: Classes,
    /// The time line.
    pub intervals: Vec<Interval>,
    /// See [`Load::may_fall_behind`](super::Load::may_fall_behind).
    pub may_fall_behind: bool,
    /// See [`Load::counts_only`](super::Load::counts_only).
    pub counts_only: bool,
    /// The invariant that did not hold at the end of the run; see [`Run::check`].
    pub broken: Option<String>,
}

impl Run {
    /// Attaches the invariant check that ends every run: a fast wrong answer must not win.
    pub fn check(&mut self, invariant: Result<(), String>) {
        self.broken = invariant.err();
    }

    /// Requests that ended well.
    pub fn completed(&self) -> u64 {
        self.latency.len()
    }

    /// Requests that ended well, in this class.
    pub fn count(&self, class: &str) -> u64 {
        self.ok.get(class).or_else(|| self.errors.get(class)).copied().unwrap_or(0)
    }

    /// Requests that ended in an error.
    pub fn error_count(&self) -> u64 {
        self.failed.len()
    }

    /// The share of offered requests that ended in an error or were never sent.
    pub fn error_share(&self) -> f64 {
        (self.error_count() + self.dropped) as f64 / self.offered.max(1) as f64
    }

    /// The rate the plan asked for (closed loops: none was asked for, so what was achieved).
    pub fn offered_per_s(&self) -> f64 {
        self.offered as f64 / self.planned_duration.as_secs_f64()
    }

    /// Replies a second, errors included, while the plan lasted; see [`Run::in_time`].
    pub fn achieved_per_s(&self) -> f64 {
        self.in_time as f64 / self.planned_duration.as_secs_f64()
    }

    /// Latency of successful requests from the planned start at `quantile` (0.99 is p99).
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }

    /// Why this run must not be charted; empty when it is valid.
    pub fn flaws(&self) -> Vec<Flaw> {
        verdict::flaws(self)
    }

    /// Whether its figures may be published.
    pub fn is_valid(&self) -> bool {
        self.flaws().is_empty()
    }

    /// What goes into reports and JSON.
    pub fn summary(&self, name: &str) -> Summary {
        let owned = |classes: &Classes| {
            classes.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect()
        };
        Summary {
            name: name.to_owned(),
            mode: self.mode,
            duration_ms: self.planned_duration.as_millis() as u64,
            offered: self.offered,
            offered_per_s: self.offered_per_s(),
            achieved_per_s: self.achieved_per_s(),
            completed: self.completed(),
            failed: self.error_count(),
            dropped: self.dropped,
            ok: owned(&self.ok),
            errors: owned(&self.errors),
            counts_only: self.counts_only,
            latency: Percentiles::of(&self.latency),
            uncorrected: Percentiles::of(&self.uncorrected),
            failed_latency: Percentiles::of(&self.failed),
            lag: Percentiles::of(&self.lag),
            curve: curve(&self.latency),
            intervals: self.intervals.clone(),
            counts_hold: self.flaws().iter().all(Flaw::is_lag),
            flaws: self.flaws().iter().map(ToString::to_string).collect(),
        }
    }
}

/// The figures of a run, as they are stored and charted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// What ran.
    pub name: String,
    /// How the load was applied.
    pub mode: Mode,
    /// How long the plan was.
    pub duration_ms: u64,
    /// Requests due.
    pub offered: u64,
    /// Rate asked for.
    pub offered_per_s: f64,
    /// Rate of replies.
    pub achieved_per_s: f64,
    /// Requests that ended well.
    pub completed: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Requests never sent.
    pub dropped: u64,
    /// Successful requests by class.
    pub ok: BTreeMap<String, u64>,
    /// Failed requests by class.
    pub errors: BTreeMap<String, u64>,
    /// Latencies were not the point and are not to be shown.
    pub counts_only: bool,
    /// From the planned start (or the send: see [`Mode`]).
    pub latency: Percentiles,
    /// From the actual send.
    pub uncorrected: Percentiles,
    /// Of failed requests, from the planned start.
    pub failed_latency: Percentiles,
    /// The generator's lateness.
    pub lag: Percentiles,
    /// `(quantile, nanoseconds)`, for the percentile chart.
    pub curve: Vec<(f64, u64)>,
    /// The time line.
    pub intervals: Vec<Interval>,
    /// Nothing worse than lag happened: how many requests ended how may be shown, even where
    /// their latencies may not.
    pub counts_hold: bool,
    /// Why the run is invalid; empty when it is valid.
    pub flaws: Vec<String>,
}

impl Summary {
    /// Whether it may be charted.
    pub fn is_valid(&self) -> bool {
        self.flaws.is_empty()
    }
}

/// The percentile curve: ten points per nine, up to what the count of samples can support.
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let samples = histogram.len() as f64;
    let steps = (0..=50).map(|step| 10f64.powf(-f64::from(step) / 10.0));
    let supported = steps.take_while(|above| above * samples >= 1.0);
    supported.map(|above| (1.0 - above, histogram.value_at_quantile(1.0 - above))).collect()
}
