//! Where latencies are written while a run is going: a few shards, each a lock around its own
//! histograms, so that recording never waits for reading. Merged at every tick. A thread keeps to
//! its shard: histograms that move between processors cost more than writing them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Outcome;

/// Shards of a recorder: enough that two threads rarely meet, few enough to merge often.
const SHARDS: usize = 4;

/// Threads that ever recorded.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN_SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// Latencies longer than ten minutes count as ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;
const SHORTEST_NS: u64 = 32;

/// A histogram of nanoseconds with three significant digits: every percentile is within 0.1 %
/// (and 32 ns).
pub fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 3)
        .expect("the bounds are constants that HdrHistogram accepts");
    histogram.auto(false);
    histogram
}

/// Counts by class: `"allowed"`, `"denied"`, `"timeout"`.
pub type Classes = BTreeMap<&'static str, u64>;

/// What was recorded since the last collection.
pub(super) struct Books {
    /// Successful, from the planned start.
    pub(super) latency: Histogram<u64>,
    /// Successful, from the actual send: what a closed-loop tool would have told you.
    pub(super) uncorrected: Histogram<u64>,
    /// Failed, from the planned start. Kept apart: a fast refusal must not improve a p99.
    pub(super) failed: Histogram<u64>,
    /// Planned start to actual send: the generator's own lateness.
    pub(super) lag: Histogram<u64>,
    pub(super) ok: Classes,
    pub(super) errors: Classes,
    pub(super) last_done: Duration,
    /// Replies inside the plan's window; see [`Recorder::in_time`].
    pub(super) in_time: u64,
}

impl Books {
    pub(super) fn new() -> Books {
        Books {
            latency: histogram(),
            uncorrected: histogram(),
            failed: histogram(),
            lag: histogram(),
            ok: Classes::new(),
            errors: Classes::new(),
            last_done: Duration::ZERO,
            in_time: 0,
        }
    }

    pub(super) fn add(&mut self, other: &Books) {
        merge(&mut self.latency, &other.latency);
        merge(&mut self.uncorrected, &other.uncorrected);
        merge(&mut self.failed, &other.failed);
        merge(&mut self.lag, &other.lag);
        for (class, count) in &other.ok {
            *self.ok.entry(class).or_default() += count;
        }
        for (class, count) in &other.errors {
            *self.errors.entry(class).or_default() += count;
        }
        self.last_done = self.last_done.max(other.last_done);
        self.in_time += other.in_time;
    }

    fn clear(&mut self) {
        for histogram in [&mut self.latency, &mut self.uncorrected, &mut self.failed, &mut self.lag]
        {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        self.ok.clear();
        self.errors.clear();
        self.in_time = 0;
    }
}

/// Adding walks all buckets, so that nothing is added for nothing: most intervals saw no failure.
fn merge(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    if !other.is_empty() {
        sum.add(other).expect("all histograms have the same bounds");
    }
}

/// The three instants of one request, as offsets from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamps {
    pub(super) planned: Duration,
    pub(super) sent: Duration,
    pub(super) done: Duration,
}

/// Shared by the pacer, the requests in flight and the collector.
pub(super) struct Recorder {
    shards: Vec<Mutex<Books>>,
    spare: Mutex<Books>,
    window: Duration,
    from_send: bool,
    fastest_ns: AtomicU64,
    pub(super) in_flight: AtomicUsize,
    pub(super) planned: AtomicU64,
    pub(super) dropped: AtomicU64,
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    // A panic cannot leave counters half-written in a way that matters more than losing them all.
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Recorder {
    pub(super) fn new(window: Duration, from_send: bool) -> Recorder {
        Recorder {
            shards: (0..SHARDS).map(|_| Mutex::new(Books::new())).collect(),
            spare: Mutex::new(Books::new()),
            window,
            from_send,
            fastest_ns: AtomicU64::new(u64::MAX),
            in_flight: AtomicUsize::new(0),
            planned: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, at: Stamps, outcome: Outcome) {
        let shard = &self.shards[OWN_SHARD.with(|own| *own)];
        let from_plan = nanoseconds(at.done.saturating_sub(at.planned));
        let in_time = self.in_time(from_plan, at.done);
        let from_send = nanoseconds(at.done.saturating_sub(at.sent));
        let latency = if self.from_send { from_send } else { from_plan };
        let mut books = lock(shard);
        books.in_time += u64::from(in_time);
        books.lag.saturating_record(nanoseconds(at.sent.saturating_sub(at.planned)));
        books.last_done = books.last_done.max(at.done);
        match outcome {
            Ok(class) => {
                books.latency.saturating_record(latency);
                books.uncorrected.saturating_record(from_send);
                *books.ok.entry(class).or_default() += 1;
            }
            Err(class) => {
                books.failed.saturating_record(latency);
                *books.errors.entry(class).or_default() += 1;
            }
        }
    }

    /// Whether a reply counts towards the achieved rate: it came before the plan was over, plus
    /// the fastest reply's latency. A system that keeps up answers the last request a little after
    /// the plan's end; one that does not is still working off its queue then.
    fn in_time(&self, latency_ns: u64, done: Duration) -> bool {
        let mut fastest_ns = self.fastest_ns.load(Ordering::Relaxed);
        if latency_ns < fastest_ns {
            fastest_ns = self.fastest_ns.fetch_min(latency_ns, Ordering::Relaxed).min(latency_ns);
        }
        done <= self.window + Duration::from_nanos(fastest_ns)
    }

    /// Everything recorded since the last call. A shard is locked only for as long as it takes to
    /// swap in an empty one.
    pub(super) fn collect(&self) -> Books {
        let mut sum = Books::new();
        let mut spare = lock(&self.spare);
        for shard in &self.shards {
            std::mem::swap(&mut *lock(shard), &mut *spare);
            sum.add(&spare);
            spare.clear();
        }
        sum
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}
