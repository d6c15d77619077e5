//! A comparison: all answers of a system and some peers under the same load, in turns.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::harness::{
    ClosedLoop, Environment, Load, Mode, ProgressLine, Run, Saturated, Saturation, describe,
    interleaved,
};
use crate::report;
use crate::results::{Gathered, Round, Table};
use crate::subject::{LoopSubject, Role, Subject};

/// A system's comparison, registered by its system.
#[derive(Clone, Copy)]
pub struct Comparison {
    /// The crate's name.
    pub system: &'static str,
    /// What is compared, in a sentence.
    pub about: &'static str,
    /// Prepares servers, then calls [`Bench::open`], [`Bench::closed`] and [`Bench::in_process`]
    /// for each of its scenarios.
    pub run: fn(Bench) -> BoxFuture<'static, anyhow::Result<()>>,
}

/// How long the reader wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Well under a minute for a system: enough to see that it runs, few rounds.
    Quick,
    /// Some minutes: what the README's tables are made with.
    Normal,
    /// As long as it takes for narrow intervals.
    Long,
}

/// What the command line decides about a comparison.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to measure.
    pub length: Length,
    /// Only scenarios or subjects whose name contains this (a baseline always runs).
    pub only: Option<String>,
    /// Decides keys, arrivals and the bootstrap.
    pub seed: u64,
}

/// One load under which subjects are compared.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Short, lower case, hyphens: the file name of its results.
    pub name: &'static str,
    /// What every request does and to which keys, in a sentence.
    pub about: String,
    /// The subject all others are compared with: usually the simplest.
    pub baseline: &'static str,
    /// Rounds, when the comparison needs other than the usual number.
    pub rounds: Option<usize>,
    /// Load that runs before each measured run, on the same state, and is not counted.
    pub warm_up: Duration,
}

impl Scenario {
    /// A scenario with the usual rounds and half a second of warm-up.
    pub fn new(name: &'static str, about: impl Into<String>, baseline: &'static str) -> Scenario {
        let warm_up = Duration::from_millis(500);
        Scenario { name, about: about.into(), baseline, rounds: None, warm_up }
    }
}

/// What a comparison measures with.
pub struct Bench {
    system: &'static str,
    options: Options,
    environment: Environment,
    made: std::sync::Arc<Mutex<Vec<Table>>>,
}

/// Runs a comparison: prints each table as it is finished and writes JSON, SVG and HTML below
/// `results/<system>/`.
///
/// # Errors
/// When a server is missing, a result cannot be written, no scenario matched `only`, or an
/// invariant broke in any run (after everything has run).
pub async fn compare(comparison: &Comparison, options: Options) -> anyhow::Result<Vec<Table>> {
    let made = std::sync::Arc::<Mutex<Vec<Table>>>::default();
    let environment = Environment::capture();
    println!("{}: {}", comparison.system, comparison.about);
    println!("{}\n", environment.describe());
    if !environment.optimised {
        println!("This binary is not optimised: add --release before believing anything below.\n");
    }
    let system = comparison.system;
    let bench = Bench { system, options, environment, made: std::sync::Arc::clone(&made) };
    (comparison.run)(bench).await?;
    let tables = std::mem::take(&mut *made.lock().unwrap_or_else(|e| e.into_inner()));
    anyhow::ensure!(!tables.is_empty(), "nothing was compared: no scenario has that name");
    let broken: Vec<String> = tables.iter().flat_map(Table::broken).collect();
    anyhow::ensure!(broken.is_empty(), "invariants broke:\n  {}", broken.join("\n  "));
    Ok(tables)
}

impl Bench {
    /// `quick`, `normal` or `long`, by what was asked for.
    pub fn pick<T>(&self, quick: T, normal: T, long: T) -> T {
        match self.options.length {
            Length::Quick => quick,
            Length::Normal => normal,
            Length::Long => long,
        }
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.options.seed
    }

    /// States the version of a server or peer that takes part: ask the server, do not assume.
    pub fn version(&mut self, name: &str, version: impl Into<String>) {
        self.environment.versions.insert(name.to_owned(), version.into());
    }

    /// Whether a scenario would run: lets a comparison skip starting servers nobody asked for.
    pub fn wants(&self, scenario: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| scenario.contains(only.as_str()))
    }

    /// Compares under an open-loop load: the way to compare latencies.
    pub async fn open(
        &self,
        scenario: Scenario,
        load: Load,
        subjects: Vec<Subject>,
    ) -> anyhow::Result<()> {
        let load = Load { plan: load.plan.seeded(self.options.seed), ..load };
        let about = load.plan.describe();
        let how = How::Open(Box::new(load));
        self.loops(scenario, Mode::Open, about, how, subjects).await
    }

    /// Compares the highest rates, closed loop: latencies in this table hide queueing.
    pub async fn closed(
        &self,
        scenario: Scenario,
        load: ClosedLoop,
        subjects: Vec<Subject>,
    ) -> anyhow::Result<()> {
        let seconds = load.duration.as_secs_f64();
        let about = format!("{} workers for {seconds:.1} s", load.workers);
        let how = How::Closed(ClosedLoop { seed: self.options.seed, ..load });
        self.loops(scenario, Mode::Closed, about, how, subjects).await
    }

    /// Compares operations of nanoseconds in this process.
    pub async fn in_process(
        &self,
        scenario: Scenario,
        load: Saturation,
        subjects: Vec<LoopSubject>,
    ) -> anyhow::Result<()> {
        let subjects = self.chosen(&scenario, subjects, |subject| &subject.name)?;
        let Saturation { threads, slices, slice, .. } = load;
        let about = format!("{threads} threads, median of {slices} slices of {slice:?}");
        let named = subjects.iter().map(|s| (s.name.clone(), s.role)).collect();
        let mut gathered = Gathered::new(named);
        let mut line = ProgressLine::new(scenario.name);
        for (round, order) in self.rounds(&scenario, subjects.len()).iter().enumerate() {
            for &at in order {
                let subject = &subjects[at];
                line.say(&format!("round {}, {}", round + 1, subject.name));
                let run = std::sync::Arc::clone(&subject.run);
                let (measured, checked): (Saturated, _) =
                    tokio::task::spawn_blocking(move || run(load)).await?;
                gathered.rounds[at].push(Round::in_process(&measured, checked));
            }
        }
        drop(line);
        self.finish(&scenario, Mode::InProcess, about, gathered)
    }

    async fn loops(
        &self,
        scenario: Scenario,
        mode: Mode,
        about: String,
        how: How,
        subjects: Vec<Subject>,
    ) -> anyhow::Result<()> {
        let subjects = self.chosen(&scenario, subjects, |subject| &subject.name)?;
        let named = subjects.iter().map(|s| (s.name.clone(), s.role)).collect();
        let mut gathered = Gathered::new(named);
        for (round, order) in self.rounds(&scenario, subjects.len()).iter().enumerate() {
            for &at in order {
                let subject = &subjects[at];
                let label = format!("{} round {} {}", scenario.name, round + 1, subject.name);
                let line = ProgressLine::new(label);
                let run = one_run(&scenario, &how, subject, line).await;
                let run = run.with_context(|| format!("{} of {}", subject.name, scenario.name))?;
                gathered.rounds[at].push(Round::of_run(run));
            }
        }
        self.finish(&scenario, mode, about, gathered)
    }

    fn rounds(&self, scenario: &Scenario, subjects: usize) -> Vec<Vec<usize>> {
        let usual = self.pick(3, 8, 20);
        interleaved(subjects, scenario.rounds.unwrap_or(usual))
    }

    /// The subjects `--only` leaves: all when the scenario itself is named.
    fn chosen<S>(
        &self,
        scenario: &Scenario,
        subjects: Vec<S>,
        name: impl Fn(&S) -> &String,
    ) -> anyhow::Result<Vec<S>> {
        let baseline = subjects.iter().any(|subject| name(subject) == scenario.baseline);
        anyhow::ensure!(baseline, "{}: no subject {}", scenario.name, scenario.baseline);
        if self.wants(scenario.name) {
            return Ok(subjects);
        }
        let only = self.options.only.clone().unwrap_or_default();
        if !subjects.iter().any(|subject| name(subject).contains(&only)) {
            return Ok(Vec::new());
        }
        let keep =
            |subject: &S| name(subject).contains(&only) || name(subject) == scenario.baseline;
        Ok(subjects.into_iter().filter(keep).collect())
    }

    fn finish(
        &self,
        scenario: &Scenario,
        mode: Mode,
        load: String,
        gathered: Gathered,
    ) -> anyhow::Result<()> {
        if gathered.subjects.is_empty() {
            return Ok(());
        }
        let table = Table {
            system: self.system.to_owned(),
            scenario: scenario.name.to_owned(),
            about: scenario.about.clone(),
            load,
            mode,
            baseline: scenario.baseline.to_owned(),
            length: self.options.length,
            seed: self.options.seed,
            environment: self.environment.clone(),
            rows: gathered.rows(scenario.baseline, self.options.seed),
        };
        println!("{}", report::text(&table));
        let written = table.write().context("writing the results")?;
        println!("  {}\n", written.display());
        self.made.lock().unwrap_or_else(|e| e.into_inner()).push(table);
        Ok(())
    }
}

enum How {
    Open(Box<Load>),
    Closed(ClosedLoop),
}

/// Fresh state, warm-up, measurement, check.
async fn one_run(
    scenario: &Scenario,
    how: &How,
    subject: &Subject,
    mut line: ProgressLine,
) -> anyhow::Result<Run> {
    let ready = (subject.prepare)().await?;
    let op = move |op: &std::sync::Arc<dyn Fn(_) -> BoxFuture<'static, _> + Send + Sync>| {
        let op = std::sync::Arc::clone(op);
        move |shot| op(shot)
    };
    let warm = !scenario.warm_up.is_zero();
    let mut run = match how {
        How::Open(load) => {
            if warm {
                let mut plan = load.plan.seeded(!load.plan.seed);
                plan.duration = plan.duration.min(scenario.warm_up);
                Load { plan, ..(**load).clone() }.run(op(&ready.op)).await;
            }
            load.run_watched(op(&ready.op), |progress| line.show(progress)).await
        }
        How::Closed(load) => {
            if warm {
                let duration = load.duration.min(scenario.warm_up);
                ClosedLoop { duration, seed: !load.seed, ..*load }.run(op(&ready.op)).await;
            }
            load.run_watched(op(&ready.op), |progress| line.say(&describe(progress))).await
        }
    };
    let checked = (ready.check)(run.summary(&subject.name)).await;
    run.check(checked);
    Ok(run)
}

/// The role of a row, for tables.
pub(crate) fn role_label(role: Role) -> &'static str {
    match role {
        Role::Answer => "",
        Role::Peer => " (peer)",
    }
}
