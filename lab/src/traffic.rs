//! Load from a page: real HTTP requests to a system of this lab, over loopback, on an open loop.
//!
//! Every page that sends load does it through here, so that the bounds hold everywhere: a rate, a
//! time, a number of requests in flight, and an end when nobody watches any more. What happened is
//! streamed four times a second; a page that opens late is told the last minute first.
//!
//! The sender is [`benches::harness`]: requests leave when the plan says, and latency counts from
//! that moment. Client and server share this process, so the figures show shapes, not limits.

mod loopback;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use benches::harness::{Load, Outcome, Plan, Progress, Shot};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use service::{Connection, Problem, Shutdown};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::console::sse;
use crate::pages::Lab;

pub(crate) use loopback::Loopback;

/// The highest rate, per second. Above it the generator takes the processor from what it loads.
pub(crate) const RATE_MAX: u32 = 5_000;
/// Traffic ends by itself after this long: a forgotten page must not heat a room over night.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// Traffic ends when no page has watched for this long; a reload takes less.
const UNWATCHED_MAX: Duration = Duration::from_secs(3);
/// One more is not sent, and counted: each is a connection, and descriptors are few.
pub(crate) const IN_FLIGHT_MAX: usize = 256;
/// One more page is refused: each is a stream that is written four times a second.
const WATCHERS_MAX: usize = 16;
/// The last minute, for a page that opens late.
const HISTORY_MAX: usize = 240;
/// A page that falls behind by more than this misses the oldest.
const MOMENTS_BUFFERED: usize = 1_024;

/// Something a page draws.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Moment {
    /// Traffic began: clear the chart. Times below count from here.
    Started,
    /// What ended in the last quarter of a second.
    Tick {
        /// Since the start.
        at_ms: u64,
        /// How long the interval was.
        length_ms: u64,
        /// How many requests ended in which way.
        classes: BTreeMap<String, u64>,
        /// Median latency.
        p50_ns: u64,
        /// 99th percentile.
        p99_ns: u64,
        /// Not sent, because too many were in flight.
        dropped: u64,
    },
    /// A fault began or ended.
    Mark {
        /// Since the start.
        at_ms: u64,
        /// Its house name.
        name: &'static str,
        /// Began, or ended.
        begins: bool,
    },
    /// Traffic ended.
    Stopped {
        /// Why, for people.
        why: &'static str,
    },
    /// Anything else the page shows; a page that opens late gets the latest of each name.
    Note {
        /// What it is about.
        name: &'static str,
        /// What the page knows how to show.
        data: Value,
    },
}

/// The traffic of one page. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Inner>);

struct Inner {
    shutdown: Shutdown,
    moments: broadcast::Sender<Moment>,
    watchers: watch::Sender<usize>,
    book: Mutex<Book>,
}

struct Book {
    /// Which start this is: what an earlier one still reports is not of this one.
    run: u64,
    started: Instant,
    running: Option<AbortOnDropHandle<()>>,
    history: VecDeque<Moment>,
    notes: BTreeMap<&'static str, Value>,
    faults: BTreeSet<&'static str>,
}

impl Traffic {
    /// No traffic yet.
    pub(crate) fn new(lab: &Lab) -> Self {
        Self(Arc::new(Inner {
            shutdown: lab.shutdown.clone(),
            moments: broadcast::channel(MOMENTS_BUFFERED).0,
            watchers: watch::channel(0).0,
            book: Mutex::new(Book {
                run: 0,
                started: Instant::now(),
                running: None,
                history: VecDeque::new(),
                notes: BTreeMap::new(),
                faults: BTreeSet::new(),
            }),
        }))
    }

    /// Sends `per_s` requests a second, at random moments, until somebody stops it or a bound is
    /// reached. What was running before is stopped. `op` names how each request ended.
    ///
    /// # Panics
    /// When `per_s` is 0 or above [`RATE_MAX`]: check it where it comes in.
    pub(crate) fn start<Op, Fut>(&self, per_s: u32, op: Op)
    where
        Op: Fn(Shot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        assert!((1..=RATE_MAX).contains(&per_s), "the rate is checked where it comes in");
        let plan = Plan::poisson(f64::from(per_s), TIME_MAX).seeded(fastrand::u64(..));
        let load = Load::new(plan).in_flight(IN_FLIGHT_MAX).with_faults();
        let mut book = self.0.book();
        book.run += 1;
        book.started = Instant::now();
        book.history.clear();
        self.0.publish(&mut book, Moment::Started);
        for name in book.faults.clone() {
            self.0.publish(&mut book, Moment::Mark { at_ms: 0, name, begins: true });
        }
        let (inner, run) = (Arc::clone(&self.0), book.run);
        let running = tokio::spawn(async move {
            let closing = inner.shutdown.closing();
            let watch = |progress: &Progress| inner.tick(run, progress);
            let why = tokio::select! {
                _ = load.run_watched(op, watch) => "ten minutes are over",
                () = inner.unwatched() => "nobody was watching",
                () = closing.cancelled() => "the lab is stopping",
            };
            inner.stop(Some(run), why);
        });
        book.running = Some(AbortOnDropHandle::new(running));
    }

    /// Stops what is running.
    pub(crate) fn stop(&self) {
        self.0.stop(None, "stopped");
    }

    /// Whether traffic is running.
    pub(crate) fn is_running(&self) -> bool {
        self.0.book().running.is_some()
    }

    /// Marks on the time line that a fault began or ended.
    pub(crate) fn mark(&self, name: &'static str, begins: bool) {
        let mut book = self.0.book();
        let changed = if begins { book.faults.insert(name) } else { book.faults.remove(name) };
        if changed {
            let at_ms = book.started.elapsed().as_millis() as u64;
            self.0.publish(&mut book, Moment::Mark { at_ms, name, begins });
        }
    }

    /// Tells every page, and those that open later.
    pub(crate) fn note(&self, name: &'static str, data: Value) {
        let mut book = self.0.book();
        book.notes.insert(name, data.clone());
        self.0.publish(&mut book, Moment::Note { name, data });
    }

    /// The stream for one page: `event: moment`, each a [`Moment`]; first what it missed.
    ///
    /// # Errors
    /// 503 when [`WATCHERS_MAX`] pages watch already.
    pub(crate) fn events(&self, connection: &Connection) -> Result<Response, Problem> {
        let watcher = Watcher::enter(&self.0)?;
        let book = self.0.book();
        let live = self.0.moments.subscribe(); // under the lock: nothing between past and live
        let past = book.past();
        drop(book);
        let live = stream::unfold((live, watcher), |(mut live, watcher)| async move {
            loop {
                match live.recv().await {
                    Ok(moment) => return Some((moment, (live, watcher))),
                    Err(RecvError::Lagged(_)) => {} // what was missed is no longer worth drawing
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let moments = stream::iter(past).chain(live).map(|moment| ("moment", moment));
        Ok(sse::stream(connection, moments).into_response())
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells pages; nobody watching is normal.
    fn publish(&self, book: &mut Book, moment: Moment) {
        if !matches!(moment, Moment::Note { .. }) {
            if book.history.len() >= HISTORY_MAX {
                book.history.pop_front();
            }
            book.history.push_back(moment.clone());
        }
        let _ = self.moments.send(moment);
    }

    fn tick(&self, run: u64, progress: &Progress) {
        let mut book = self.book();
        if book.run != run {
            return;
        }
        let latest = &progress.latest;
        let tick = Moment::Tick {
            at_ms: progress.elapsed_ms,
            length_ms: latest.length_ms,
            classes: latest.classes.clone(),
            p50_ns: latest.p50_ns,
            p99_ns: latest.p99_ns,
            dropped: latest.dropped,
        };
        self.publish(&mut book, tick);
    }

    /// Ends the given run, or whichever runs.
    fn stop(&self, run: Option<u64>, why: &'static str) {
        let mut book = self.book();
        if run.is_some_and(|run| run != book.run) {
            return;
        }
        let Some(running) = book.running.take() else { return };
        book.run += 1; // what the ended run still reports is ignored
        self.publish(&mut book, Moment::Stopped { why });
        drop(book);
        drop(running); // aborts it; its requests in flight end by their own timeout
    }

    /// Returns when no page has watched for [`UNWATCHED_MAX`].
    async fn unwatched(&self) {
        let mut watchers = self.watchers.subscribe();
        loop {
            // The sender is ours: waiting cannot fail.
            let _ = watchers.wait_for(|watching| *watching == 0).await;
            let back = watchers.wait_for(|watching| *watching > 0);
            if tokio::time::timeout(UNWATCHED_MAX, back).await.is_err() {
                return;
            }
        }
    }
}

impl Book {
    /// What a page that opens now has missed.
    fn past(&self) -> Vec<Moment> {
        let notes = self.notes.iter();
        let notes = notes.map(|(name, data)| Moment::Note { name, data: data.clone() });
        // The oldest moments may have been forgotten, and with them the start.
        let started = std::iter::once(Moment::Started);
        let history = self.history.iter().filter(|moment| !matches!(moment, Moment::Started));
        let stopped =
            self.running.is_none() && !matches!(self.history.back(), Some(Moment::Stopped { .. }));
        let stopped = stopped.then_some(Moment::Stopped { why: "" });
        started.chain(history.cloned()).chain(stopped).chain(notes).collect()
    }
}

/// A page that watches, for as long as its stream lives.
struct Watcher(Arc<Inner>);

impl Watcher {
    fn enter(inner: &Arc<Inner>) -> Result<Self, Problem> {
        let entered = inner.watchers.send_if_modified(|watching| {
            let room = *watching < WATCHERS_MAX;
            *watching += usize::from(room);
            room
        });
        if !entered {
            let detail = format!("{WATCHERS_MAX} pages watch already; close one");
            return Err(Problem::unavailable(detail, Duration::from_secs(5)));
        }
        Ok(Self(Arc::clone(inner)))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.watchers.send_modify(|watching| *watching -= 1);
    }
}
