//! From rounds to rows to files: which rounds count, what a row says, where it is written.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::comparison::Length;
use crate::harness::{
    Environment, Flaw, Interval, Mode, Percentiles, Ratio, Run, Saturated, ServerUse, curve,
    median, paired_ratio,
};
use crate::report;
use crate::subject::Role;

/// Every subject of a scenario under the same load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    /// The crate's name.
    pub system: String,
    /// The scenario's name.
    pub scenario: String,
    /// What a request does.
    pub about: String,
    /// How much of it.
    pub load: String,
    /// How it was applied.
    pub mode: Mode,
    /// The subject ratios are relative to.
    pub baseline: String,
    /// How much patience the figures are made of; quick ones are not to be quoted.
    pub length: Length,
    /// What keys, arrivals and intervals derive from.
    pub seed: u64,
    /// Where.
    pub environment: Environment,
    /// One per subject, in the order they were registered.
    pub rows: Vec<Row>,
}

/// One subject's figures: over its valid rounds, and only meaningful when `flaws` is empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The subject.
    pub name: String,
    /// Ours or a peer.
    pub role: Role,
    /// Rounds run.
    pub rounds: usize,
    /// Rounds that count. A round in which only the *generator* lagged says nothing about the
    /// subject and is left out; any other flaw invalidates the whole row.
    pub valid_rounds: usize,
    /// Why the row must not be charted; empty when it is valid.
    pub flaws: Vec<String>,
    /// Replies a second: the median round.
    pub per_s: f64,
    /// The share of requests a cache answered itself: the median round.
    #[serde(default)]
    pub hit_ratio: Option<f64>,
    /// What the server used, where it is a process of its own: the median round.
    #[serde(default)]
    pub server: Option<ServerUse>,
    /// Latencies of all valid rounds together.
    pub latency: Percentiles,
    /// The worst p99 send lag of a valid round.
    pub lag_p99_ns: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Requests never sent.
    pub dropped: u64,
    /// Relative to the baseline; `None` for the baseline itself and for invalid rows.
    pub versus: Option<Versus>,
    /// The percentile curve of all valid rounds.
    pub curve: Vec<(f64, u64)>,
    /// The time line of the last valid round.
    pub intervals: Vec<Interval>,
}

/// Ratios to the baseline, each from paired rounds. Above 1: higher rate, or longer latency.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named after what is compared")]
pub struct Versus {
    pub throughput: Option<Ratio>,
    pub p50: Option<Ratio>,
    pub p99: Option<Ratio>,
    #[serde(default)]
    pub cpu: Option<Ratio>,
}

impl Row {
    /// Whether it may be charted.
    pub fn is_valid(&self) -> bool {
        self.flaws.is_empty()
    }
}

/// One round of one subject.
pub(crate) struct Round {
    flaws: Vec<Flaw>,
    per_s: f64,
    hit_ratio: Option<f64>,
    latency: Percentiles,
    server: Option<ServerUse>,
    /// Absent for in-process rounds, which keep batch means only.
    run: Option<Run>,
}

impl Round {
    pub(crate) fn of_run(run: Run) -> Round {
        let (flaws, per_s) = (run.flaws(), run.achieved_per_s());
        let latency = Percentiles::of(&run.latency);
        Round { flaws, per_s, hit_ratio: None, latency, server: None, run: Some(run) }
    }

    pub(crate) fn served(self, server: Option<ServerUse>) -> Round {
        Round { server, ..self }
    }

    /// `checked` is the hit ratio, if there is one, or which invariant broke.
    pub(crate) fn in_process(measured: &Saturated, checked: Result<Option<f64>, String>) -> Round {
        let hit_ratio = checked.as_ref().ok().copied().flatten();
        let flaws = checked.err().map(Flaw::Broken).into_iter().collect();
        let (per_s, latency) = (measured.per_s, measured.batch_means);
        Round { flaws, per_s, hit_ratio, latency, server: None, run: None }
    }

    fn only_lagged(&self) -> bool {
        !self.flaws.is_empty() && self.flaws.iter().all(Flaw::is_lag)
    }
}

/// All rounds of a scenario, by subject.
pub(crate) struct Gathered {
    pub(crate) subjects: Vec<(String, Role)>,
    pub(crate) rounds: Vec<Vec<Round>>,
    /// How far apart the cores were before each round, in nanoseconds there and back.
    pub(crate) distances: Vec<Option<u64>>,
}

impl Gathered {
    pub(crate) fn new(subjects: Vec<(String, Role)>) -> Gathered {
        let rounds = subjects.iter().map(|_| Vec::new()).collect();
        Gathered { subjects, rounds, distances: Vec::new() }
    }

    pub(crate) fn rows(&self, baseline: &str, seed: u64) -> Vec<Row> {
        let base = self.subjects.iter().position(|(name, _)| name == baseline);
        let mut rows: Vec<Row> = (0..self.subjects.len()).map(|at| self.row(at)).collect();
        let Some(base) = base.filter(|base| rows[*base].is_valid()) else { return rows };
        for at in (0..rows.len()).filter(|at| *at != base) {
            if rows[at].is_valid() {
                rows[at].versus = Some(self.versus(base, at, seed));
            }
        }
        rows
    }

    fn row(&self, at: usize) -> Row {
        let (name, role) = self.subjects[at].clone();
        let all = &self.rounds[at];
        let valid: Vec<&Round> = all.iter().filter(|round| round.flaws.is_empty()).collect();
        let spoiled = all.iter().filter(|round| !round.flaws.is_empty() && !round.only_lagged());
        let mut flaws: Vec<String> =
            spoiled.flat_map(|round| &round.flaws).map(ToString::to_string).collect();
        // A row from a few lucky rounds would be a selection, not a measurement.
        if flaws.is_empty() && valid.len() * 2 < all.len() {
            flaws = all.iter().flat_map(|round| &round.flaws).map(ToString::to_string).collect();
        }
        flaws.dedup();
        flaws.truncate(3);
        let runs: Vec<&Run> = valid.iter().filter_map(|round| round.run.as_ref()).collect();
        let mut merged = crate::harness::histogram();
        for run in &runs {
            merged.add(&run.latency).expect("all histograms have the same bounds");
        }
        let in_process = all.iter().all(|round| round.run.is_none());
        let medians = |of: fn(&Percentiles) -> u64| {
            median(&valid.iter().map(|round| of(&round.latency) as f64).collect::<Vec<_>>()) as u64
        };
        let batch_means = || Percentiles {
            p50: medians(|p| p.p50),
            p90: medians(|p| p.p90),
            p95: medians(|p| p.p95),
            p99: medians(|p| p.p99),
            p999: medians(|p| p.p999),
            max: medians(|p| p.max),
        };
        Row {
            name,
            role,
            rounds: all.len(),
            valid_rounds: valid.len(),
            flaws,
            per_s: median(&valid.iter().map(|round| round.per_s).collect::<Vec<_>>()),
            hit_ratio: median_of(valid.iter().filter_map(|round| round.hit_ratio)),
            server: median_use(valid.iter().filter_map(|round| round.server)),
            latency: if in_process { batch_means() } else { Percentiles::of(&merged) },
            lag_p99_ns: runs.iter().map(|r| r.lag.value_at_quantile(0.99)).max().unwrap_or(0),
            failed: runs.iter().map(|run| run.error_count()).sum(),
            dropped: runs.iter().map(|run| run.dropped).sum(),
            versus: None,
            curve: curve(&merged),
            intervals: runs.last().map(|run| run.intervals.clone()).unwrap_or_default(),
        }
    }

    fn versus(&self, base: usize, at: usize, seed: u64) -> Versus {
        let pairs = self.rounds[base].iter().zip(&self.rounds[at]);
        let pairs: Vec<_> =
            pairs.filter(|(a, b)| a.flaws.is_empty() && b.flaws.is_empty()).collect();
        let ratio = |of: fn(&Round) -> f64| {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (of(a), of(b))).unzip();
            paired_ratio(&a, &b, seed)
        };
        Versus {
            throughput: ratio(|round| round.per_s),
            p50: ratio(|round| round.latency.p50 as f64),
            p99: ratio(|round| round.latency.p99 as f64),
            cpu: ratio(|round| round.server.map_or(0.0, |server| server.cpu_us)),
        }
    }
}

fn median_use(uses: impl Iterator<Item = ServerUse> + Clone) -> Option<ServerUse> {
    let resident = median_of(uses.clone().map(|used| used.resident_bytes as f64))?;
    let cpu_us = median_of(uses.map(|used| used.cpu_us))?;
    Some(ServerUse { cpu_us, resident_bytes: resident as u64 })
}

/// The median, if there is anything.
fn median_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| median(&values))
}

impl Table {
    /// `<system>/<scenario>: <subject>: <what broke>` for every broken invariant.
    pub(crate) fn broken(&self) -> Vec<String> {
        let flaws = self.rows.iter().flat_map(|row| row.flaws.iter().map(move |f| (row, f)));
        let broken = flaws.filter(|(_, flaw)| flaw.starts_with("invariant broken"));
        let name = |row: &Row| format!("{}/{}: {}", self.system, self.scenario, row.name);
        broken.map(|(row, flaw)| format!("{}: {flaw}", name(row))).collect()
    }

    /// Writes `results/<system>/<scenario>.{json,svg,html}`; returns the path of the HTML.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self) -> std::io::Result<PathBuf> {
        let directory = results_directory().join(&self.system);
        std::fs::create_dir_all(&directory)?;
        let file = |extension: &str| directory.join(format!("{}.{extension}", self.scenario));
        let json = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(file("json"), json + "\n")?;
        std::fs::write(file("svg"), report::chart(self))?;
        std::fs::write(file("html"), report::page_of_table(self))?;
        Ok(file("html"))
    }

    /// Reads back what [`write`](Table::write) wrote.
    ///
    /// # Errors
    /// Those of the file system, and `InvalidData` for JSON of another shape.
    pub fn read(path: &Path) -> std::io::Result<Table> {
        let json = std::fs::read_to_string(path)?;
        serde_json::from_str(&json).map_err(std::io::Error::other)
    }
}

/// `results/` of the workspace this process was started in, or of the current directory when it
/// was not started inside one.
pub fn results_directory() -> PathBuf {
    workspace().join("results")
}

/// The directory, at or above the current one, that holds the workspace.
pub fn workspace() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let root = here.ancestors().find(|directory| {
        std::fs::read_to_string(directory.join("Cargo.toml"))
            .is_ok_and(|manifest| manifest.contains("[workspace]"))
    });
    root.map_or_else(|| here.clone(), Path::to_path_buf)
}
