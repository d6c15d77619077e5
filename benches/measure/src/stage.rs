//! The stage a question is told on: what happened, when, and whether it was what was expected.
//!
//! Everything said becomes an [`Event`]: printed by the command line, streamed to the console,
//! kept for the report. The order of a telling is scene, load, faults, what was seen, what was
//! expected, why.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::harness::{Load, Outcome, Progress, Run, Shot, Summary};
use crate::question::Asked;

/// A listener that falls behind by more events than this misses the oldest; the terminal and the
/// report are not listeners and miss nothing.
const EVENTS_BUFFERED: usize = 1024;

/// Something that happened on a stage.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Since the question began.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields are the words of the Stage methods that send them")]
pub enum What {
    Begin { question: String, asks: String, seed: u64, long: bool },
    Scene { text: String },
    Load { text: String },
    Fault { name: String, text: String },
    Heal { name: String },
    Progress { run: String, progress: Progress },
    Measured { summary: Box<Summary> },
    Observe { name: String, value: String },
    Expect { promise: String, holds: bool, observed: String },
    Because { text: String },
    End { passed: bool, asked: Asked, explanation: String },
}

/// A fault (or its end) at a moment, drawn as a line across the charts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Since the question began.
    pub at_ms: u64,
    /// `redis-down`, or `redis-down healed`.
    pub name: String,
}

type Sink = Box<dyn Fn(&Event) + Send + Sync>;

struct Inner {
    seed: u64,
    long: bool,
    started: Instant,
    sink: Sink,
    events: broadcast::Sender<Event>,
    told: Mutex<Told>,
}

/// What is kept of a telling for its end and its report.
#[derive(Default)]
struct Told {
    expected: usize,
    held: usize,
    runs: Vec<(u64, Summary)>,
    marks: Vec<Mark>,
}

/// Where a question is told. Cheap to clone; clones share one telling.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

impl Stage {
    /// A stage whose events go to `sink`, synchronously and in order. The question's clock starts
    /// now.
    pub fn new(seed: u64, long: bool, sink: impl Fn(&Event) + Send + Sync + 'static) -> Stage {
        Stage(Arc::new(Inner {
            seed,
            long,
            started: Instant::now(),
            sink: Box::new(sink),
            events: broadcast::channel(EVENTS_BUFFERED).0,
            told: Mutex::default(),
        }))
    }

    /// A stage nobody watches (except through [`subscribe`](Stage::subscribe)).
    pub fn silent(seed: u64, long: bool) -> Stage {
        Stage::new(seed, long, |_| {})
    }

    /// Where we are and what is running: servers, answers, keys.
    pub fn scene(&self, text: impl Into<String>) {
        self.tell(What::Scene { text: text.into() });
    }

    /// What traffic will be applied.
    pub fn load(&self, text: impl Into<String>) {
        self.tell(What::Load { text: text.into() });
    }

    /// A fault begins now. Call it when the fault is in place; `name` is the name the fault has
    /// everywhere (`redis-down`, `latency`, `kill-9`).
    pub fn fault(&self, name: impl Into<String>, text: impl Into<String>) {
        let name = name.into();
        self.told().marks.push(Mark { at_ms: self.now_ms(), name: name.clone() });
        self.tell(What::Fault { name, text: text.into() });
    }

    /// The fault of this name ends now.
    pub fn heal(&self, name: impl Into<String>) {
        let name = name.into();
        self.told().marks.push(Mark { at_ms: self.now_ms(), name: format!("{name} healed") });
        self.tell(What::Heal { name });
    }

    /// A figure worth seeing that nothing depends on.
    pub fn observe(&self, name: impl Into<String>, value: impl Display) {
        self.tell(What::Observe { name: name.into(), value: value.to_string() });
    }

    /// The outcome that was promised, whether it holds, and what was observed instead of (or in
    /// support of) it. One that does not hold makes the question fail. Returns `holds`.
    pub fn expect(&self, promise: impl Into<String>, holds: bool, observed: impl Display) -> bool {
        {
            let mut told = self.told();
            told.expected += 1;
            told.held += usize::from(holds);
        }
        let observed = observed.to_string();
        self.tell(What::Expect { promise: promise.into(), holds, observed });
        holds
    }

    /// Why it came out this way, in a sentence or two.
    pub fn because(&self, text: impl Into<String>) {
        self.tell(What::Because { text: text.into() });
    }

    /// Runs a load with live progress and records what was measured. Announces the plan, so
    /// `load` is only needed for what the plan does not say. The plan's seed is mixed with the
    /// question's.
    pub async fn drive<Op, Fut>(&self, name: &str, load: &Load, op: Op) -> Run
    where
        Op: Fn(Shot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.load(format!("{name}: {}", load.plan.describe()));
        let plan = load.plan.seeded(load.plan.seed ^ self.0.seed);
        let load = Load { plan, ..load.clone() };
        let run = load.run_watched(op, |progress| self.progress(name, progress)).await;
        self.record(name, &run);
        run
    }

    /// Tells where a run is, for loads that are not driven by [`drive`](Stage::drive).
    pub fn progress(&self, name: &str, progress: &Progress) {
        let (run, progress) = (name.to_owned(), progress.clone());
        self.tell(What::Progress { run, progress });
    }

    /// Records a finished run for the report. [`drive`](Stage::drive) does this itself.
    pub fn record(&self, name: &str, run: &Run) {
        let summary = run.summary(name);
        let began_ms = run.started.saturating_duration_since(self.0.started).as_millis() as u64;
        self.told().runs.push((began_ms, summary.clone()));
        self.tell(What::Measured { summary: Box::new(summary) });
    }

    /// The seed everything random derives from; printed with the question.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Whether the long form was asked for.
    pub fn long(&self) -> bool {
        self.0.long
    }

    /// `long` in the long form, else `short`.
    pub fn pick<T>(&self, short: T, long: T) -> T {
        if self.0.long { long } else { short }
    }

    /// Since the question began.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Every event from now on, for a page that shows live progress. Ends when the last clone of
    /// the stage is gone; the last event of a question is [`What::End`].
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// The runs recorded so far, each with its start in milliseconds since the question began.
    pub fn runs(&self) -> Vec<(u64, Summary)> {
        self.told().runs.clone()
    }

    /// The faults so far.
    pub fn marks(&self) -> Vec<Mark> {
        self.told().marks.clone()
    }

    /// Expectations checked, and held.
    pub(crate) fn expectations(&self) -> (usize, usize) {
        let told = self.told();
        (told.expected, told.held)
    }

    pub(crate) fn tell(&self, what: What) {
        let event = Event { at_ms: self.now_ms(), what };
        (self.0.sink)(&event);
        // Nobody listening is the normal case on the command line.
        let _ = self.0.events.send(event);
    }

    fn now_ms(&self) -> u64 {
        self.elapsed().as_millis() as u64
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Pacing, Plan};

    #[tokio::test(start_paused = true)]
    async fn what_is_told_arrives_in_order_with_its_time_and_faults_are_marked() {
        let stage = Stage::silent(1, false);
        let mut events = stage.subscribe();
        stage.scene("a room");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stage.fault("redis-down", "killed");
        let load = Load::new(Plan::constant(100.0, Duration::from_secs(1))).paced(Pacing::Timer);
        let run = stage.drive("steady", &load, |_| async { Ok("allowed") }).await;
        stage.heal("redis-down");
        assert!(stage.expect("all allowed", run.count("allowed") == 100, run.count("allowed")));

        assert_eq!(stage.marks()[0], Mark { at_ms: 1500, name: "redis-down".to_owned() });
        assert_eq!(stage.marks()[1].name, "redis-down healed");
        assert_eq!(stage.runs()[0].0, 1500);
        let (mut names, mut progressed) = (Vec::new(), 0);
        while let Ok(event) = events.try_recv() {
            let json = serde_json::to_value(&event).expect("events are data");
            match json["event"].as_str() {
                Some("progress") => progressed += 1,
                name => names.push(name.expect("every event is named").to_owned()),
            }
        }
        assert_eq!(names, ["scene", "fault", "load", "measured", "heal", "expect"]);
        assert!(progressed >= 4, "{progressed} progress events for four ticks");
    }
}
