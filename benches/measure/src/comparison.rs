//! A comparison: all answers of a system and some peers under the same load, in turns.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::harness::{
    ClosedLoop, Environment, Load, Mode, ProgressLine, Run, Saturated, Saturation, ServerUse,
    describe, interleaved, there_and_back_ns,
};
use crate::report;
use crate::results::{Gathered, Round, Row, Table};
use crate::subject::{LoopSubject, Role, Subject};

/// A system's comparison, registered by its system.
///
/// ```no_run
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex, RwLock};
/// use std::time::Duration;
/// use measure::harness::{Keys, Load, Plan};
/// use measure::{Bench, Comparison, Ready, Scenario, Subject};
///
/// pub fn comparison() -> Comparison {
///     let about = "two maps behind two locks";
///     Comparison { system: "lru-cache", about, run: |bench| Box::pin(compare(bench)) }
/// }
///
/// async fn compare(mut bench: Bench) -> anyhow::Result<()> {
///     bench.version("std", "1.95");
///     let length = bench.pick(1, 3, 10);
///     let load = Load::new(Plan::poisson(2_000.0, Duration::from_secs(length)));
///     let keys = Keys::zipf(100_000, 0.99);
///     let scenario = Scenario::new("insert", format!("insert, {}", keys.describe()), "mutex");
///     let mutex = Subject::answer("mutex", move || async move {
///         let map = Arc::new(Mutex::new(HashMap::new()));
///         let seen = Arc::clone(&map);
///         let insert = move |shot: measure::harness::Shot| {
///             let map = Arc::clone(&map);
///             async move {
///                 let key = keys.pick(&mut shot.rng());
///                 map.lock().map_err(|_| "poisoned")?.insert(key, shot.n);
///                 Ok("inserted")
///             }
///         };
///         Ok(Ready::new(insert, move |counted| async move {
///             let held = seen.lock().map_err(|_| "poisoned")?.len();
///             let possible = held > 0 && counted.failed == 0;
///             possible.then_some(()).ok_or_else(|| format!("{held} keys held"))
///         }))
///     });
///     // ... and `Subject::answer("rwlock", ...)`, `Subject::peer("somebody's map", ...)`
///     bench.open(scenario, load, vec![mutex]).await
/// }
/// ```
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
    /// What `--only` leaves out, for who named nothing that there is.
    passed_over: std::sync::Arc<Mutex<Vec<String>>>,
}

/// Runs a comparison: prints each table as it is finished and writes JSON, SVG and HTML below
/// `results/<system>/`.
///
/// # Errors
/// When a server is missing, a result cannot be written, no scenario matched `only`, or an
/// invariant broke in any run (after everything has run).
pub async fn compare(comparison: &Comparison, options: Options) -> anyhow::Result<Vec<Table>> {
    println!("{}: {}", comparison.system, comparison.about);
    gather(comparison.system, options, comparison.run).await
}

/// Runs scenarios and returns their tables, or what broke in any of them.
pub(crate) async fn gather<Fut>(
    system: &'static str,
    options: Options,
    run: impl FnOnce(Bench) -> Fut,
) -> anyhow::Result<Vec<Table>>
where
    Fut: Future<Output = anyhow::Result<()>>,
{
    let made = std::sync::Arc::<Mutex<Vec<Table>>>::default();
    let environment = Environment::capture();
    println!("{}\n", environment.describe());
    if !environment.optimised {
        println!("This binary is not optimised: add --release before believing anything below.\n");
    }
    let passed_over = std::sync::Arc::<Mutex<Vec<String>>>::default();
    let only = options.only.clone().unwrap_or_default();
    let (made_here, passed_here) = (made.clone(), passed_over.clone());
    run(Bench { system, options, environment, made: made_here, passed_over: passed_here }).await?;
    let tables = std::mem::take(&mut *made.lock().unwrap_or_else(|e| e.into_inner()));
    let there_are = passed_over.lock().unwrap_or_else(|e| e.into_inner()).join(", ");
    anyhow::ensure!(
        !tables.is_empty(),
        "nothing was compared: no scenario and no subject has {only:?} in its name; \
         the scenarios are: {there_are}"
    );
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

    /// A finished row: what a comparison needs to say whether a goal was reached.
    pub fn row(&self, scenario: &str, subject: &str) -> Option<Row> {
        let made = self.made.lock().unwrap_or_else(|e| e.into_inner());
        let table = made.iter().find(|table| table.scenario == scenario)?;
        table.rows.iter().find(|row| row.name == subject && row.is_valid()).cloned()
    }

    /// Whether any scenario whose name begins like this is to be run: for what is expensive to
    /// prepare.
    pub fn wants_any(&self, beginnings: &[&str]) -> bool {
        let only = self.options.only.as_deref();
        let names = |only: &str| {
            beginnings.iter().any(|begins| only.starts_with(begins) || begins.contains(only))
        };
        let wants = only.is_none_or(names);
        if !wants {
            beginnings.iter().for_each(|begins| self.pass_over(&format!("{begins}...")));
        }
        wants
    }

    fn pass_over(&self, scenario: &str) {
        let mut passed_over = self.passed_over.lock().unwrap_or_else(|e| e.into_inner());
        if !passed_over.iter().any(|other| other == scenario) {
            passed_over.push(scenario.to_owned());
        }
    }

    /// Whether `--only` names this scenario (it may also name a subject).
    fn wants(&self, scenario: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| scenario.contains(only.as_str()))
    }

    /// Compares under an open-loop load: the way to compare latencies.
    pub async fn open(
        &self,
        scenario: Scenario,
        load: Load,
        subjects: Vec<Subject>,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(!load.counts_only, "a comparison is about latencies");
        let load = Load { plan: load.plan.seeded(self.options.seed), ..load };
        let about = load.plan.describe();
        let mode = load.mode();
        let how = How::Open(Box::new(load));
        self.loops(scenario, mode, about, how, subjects).await
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
        let Saturation { threads, slices, slice, .. } = load;
        let about = format!("{threads} threads, median of {slices} slices of {slice:?}");
        self.in_process_for(scenario, about, load, subjects).await
    }

    /// As [`Bench::in_process`], for subjects with a loop of their own, described by `about`.
    pub async fn in_process_for(
        &self,
        scenario: Scenario,
        about: String,
        load: Saturation,
        subjects: Vec<LoopSubject>,
    ) -> anyhow::Result<()> {
        let subjects = self.chosen(&scenario, subjects, |subject| &subject.name)?;
        let named = subjects.iter().map(|s| (s.name.clone(), s.role)).collect();
        let mut gathered = Gathered::new(named);
        let mut line = ProgressLine::new(scenario.name);
        for (round, order) in self.rounds(&scenario, subjects.len()).iter().enumerate() {
            gathered.distances.push(tokio::task::spawn_blocking(there_and_back_ns).await?);
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
            gathered.distances.push(tokio::task::spawn_blocking(there_and_back_ns).await?);
            for &at in order {
                let subject = &subjects[at];
                let label = format!("{} round {} {}", scenario.name, round + 1, subject.name);
                let line = ProgressLine::new(label);
                let run = one_run(&scenario, &how, subject, line).await;
                let (run, server) =
                    run.with_context(|| format!("{} of {}", subject.name, scenario.name))?;
                gathered.rounds[at].push(Round::of_run(run).served(server));
            }
        }
        self.finish(&scenario, mode, about, gathered)
    }

    fn rounds(&self, scenario: &Scenario, subjects: usize) -> Vec<Vec<usize>> {
        let usual = self.pick(4, 8, 20);
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
            self.pass_over(scenario.name);
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
        let mut environment = self.environment.clone();
        gathered.distances.iter().for_each(|apart| environment.note_distance(*apart));
        let table = Table {
            system: self.system.to_owned(),
            scenario: scenario.name.to_owned(),
            about: scenario.about.clone(),
            load,
            mode,
            baseline: scenario.baseline.to_owned(),
            length: self.options.length,
            seed: self.options.seed,
            environment,
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

/// Fresh state, warm-up, measurement, check; and what the server used during the measurement.
async fn one_run(
    scenario: &Scenario,
    how: &How,
    subject: &Subject,
    mut line: ProgressLine,
) -> anyhow::Result<(Run, Option<ServerUse>)> {
    let ready = (subject.prepare)().await?;
    let op = move |op: &std::sync::Arc<dyn Fn(_) -> BoxFuture<'static, _> + Send + Sync>| {
        let op = std::sync::Arc::clone(op);
        move |shot| op(shot)
    };
    let warm = !scenario.warm_up.is_zero();
    let cpu_us = || ready.server.and_then(|server| server.cpu_us());
    let before_us;
    let mut run = match how {
        How::Open(load) => {
            if warm {
                let mut plan = load.plan.seeded(!load.plan.seed);
                plan.duration = plan.duration.min(scenario.warm_up);
                Load { plan, ..(**load).clone() }.run(op(&ready.op)).await;
            }
            before_us = cpu_us();
            load.run_watched(op(&ready.op), |progress| line.show(progress)).await
        }
        How::Closed(load) => {
            if warm {
                let duration = load.duration.min(scenario.warm_up);
                ClosedLoop { duration, seed: !load.seed, ..*load }.run(op(&ready.op)).await;
            }
            before_us = cpu_us();
            load.run_watched(op(&ready.op), |progress| line.say(&describe(progress))).await
        }
    };
    let used_us = cpu_us().zip(before_us).map(|(after, before)| after - before);
    let resident = ready.server.and_then(|server| server.resident_bytes());
    let server = used_us.zip(resident).filter(|_| run.completed() > 0);
    let server = server.map(|(used_us, resident_bytes)| ServerUse {
        cpu_us: used_us / run.completed() as f64,
        resident_bytes,
    });
    let checked = (ready.check)(run.summary(&subject.name)).await;
    run.check(checked);
    Ok((run, server))
}

/// The role of a row, for tables.
pub(crate) fn role_label(role: Role) -> &'static str {
    match role {
        Role::Answer => "",
        Role::Peer => " (peer)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Ready;

    fn bench(only: Option<&str>) -> Bench {
        let only = only.map(str::to_owned);
        let options = Options { length: Length::Quick, only, seed: 1 };
        let environment = Environment::capture();
        let (made, passed_over) = Default::default();
        Bench { system: "test", options, environment, made, passed_over }
    }

    fn subject(name: &str, takes_ms: u64, check: Result<(), String>) -> Subject {
        Subject::answer(name, move || {
            let check = check.clone();
            async move {
                let op = move |_| async move {
                    tokio::time::sleep(Duration::from_millis(takes_ms)).await;
                    Ok("ok")
                };
                Ok(Ready::new(op, |_| async { check }))
            }
        })
    }

    async fn rows(subjects: Vec<Subject>) -> Vec<crate::results::Row> {
        let plan = crate::harness::Plan::constant(200.0, Duration::from_secs(2));
        let load = Load::new(plan).paced(crate::harness::Pacing::Timer);
        let scenario = Scenario::new("test", "sleeps", "slow");
        let named = subjects.iter().map(|s| (s.name.clone(), s.role)).collect();
        let mut gathered = Gathered::new(named);
        for order in bench(None).rounds(&scenario, subjects.len()) {
            for at in order {
                let how = How::Open(Box::new(load.clone()));
                let run = one_run(&scenario, &how, &subjects[at], ProgressLine::new("test")).await;
                gathered.rounds[at].push(Round::of_run(run.expect("subjects prepare").0));
            }
        }
        gathered.rows("slow", 1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_faster_subject_is_found_faster_and_a_wrong_one_never_wins() {
        let wrong = subject("wrong", 20, Err("sold twice".to_owned()));
        let rows =
            rows(vec![subject("slow", 80, Ok(())), subject("fast", 40, Ok(())), wrong]).await;
        let fast = rows[1].versus.expect("two valid rows").p50.expect("three rounds");
        assert!(fast.differs() && (0.48..0.53).contains(&fast.ratio), "{fast:?}");
        assert!(rows[0].is_valid() && rows[0].versus.is_none());
        assert_eq!(rows[2].flaws, ["invariant broken: sold twice"]);
        assert!(rows[2].versus.is_none());
    }

    #[tokio::test]
    async fn who_names_no_scenario_is_told_which_there_are() {
        let only = Some("nothing".to_owned());
        let options = Options { length: Length::Quick, only, seed: 1 };
        let run = |bench: Bench| async move {
            let scenario = Scenario::new("steady", "", "slow");
            assert!(bench.chosen(&scenario, vec!["slow".to_owned()], |name| name)?.is_empty());
            assert!(!bench.wants_any(&["http-"]));
            Ok(())
        };
        let error = gather("test", options, run).await.unwrap_err().to_string();
        assert!(error.contains("\"nothing\""), "{error}");
        assert!(error.ends_with("the scenarios are: steady, http-..."), "{error}");
    }

    #[test]
    fn only_may_be_any_part_of_a_name() {
        assert!(bench(Some("half")).wants_any(&["half-load"]));
        assert!(bench(Some("load")).wants_any(&["half-load"]));
        assert!(bench(Some("http-send")).wants_any(&["http-"]));
        assert!(!bench(Some("http")).wants_any(&["half-load"]));
    }

    #[test]
    fn only_keeps_the_named_subject_and_the_baseline() {
        let scenario = Scenario::new("steady", "", "slow");
        let names = || ["slow", "fast", "other"].map(str::to_owned).to_vec();
        let chosen = |only| bench(only).chosen(&scenario, names(), |name| name);
        assert_eq!(chosen(None).expect("has a baseline").len(), 3);
        assert_eq!(chosen(Some("stead")).expect("has a baseline").len(), 3);
        assert_eq!(chosen(Some("fast")).expect("has a baseline"), ["slow", "fast"]);
        assert!(chosen(Some("nothing")).expect("has a baseline").is_empty());
        let scenario = Scenario::new("steady", "", "absent");
        assert!(bench(None).chosen(&scenario, names(), |name| name).is_err());
    }
}
