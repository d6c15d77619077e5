//! Open-loop load: requests leave when the plan says, not when the last reply allows it.
//!
//! Use it for every latency you publish of an operation that takes a microsecond or more (Redis,
//! SQL, HTTP). For operations of nanoseconds use [`Saturation`](super::Saturation), because here
//! spawning the request would be most of what is measured.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::recorder::{Books, Recorder, Stamps};
use super::run::{Interval, Mode, Progress, Run};
use super::{Plan, Schedule};

/// How one request ended: `Ok("allowed")`, `Ok("denied")`, `Err("timeout")`. The words are the
/// classes of the report; `Ok` latencies and `Err` latencies are kept in separate histograms.
pub type Outcome = Result<&'static str, &'static str>;

/// More requests in flight than this are dropped and counted, unless the load says otherwise:
/// without a limit an overloaded server would make the generator run out of memory first.
pub const MAX_IN_FLIGHT: usize = 10_000;

/// How often what was recorded is collected into one point of the time line.
pub const TICK: Duration = Duration::from_millis(250);

/// How long requests may still take after the last one was sent; then they are aborted.
pub const DRAIN: Duration = Duration::from_secs(5);

/// An aborted request ends at its next await point; one that blocks its thread is left behind
/// after this long (and still counted as unfinished).
const ABORTING: Duration = Duration::from_secs(1);

/// How the sender waits for the next due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// A thread of its own that sleeps: some ten microseconds late, costs little. The default.
    /// (Spinning for the last stretch was tried: with two cores it takes one of them from the
    /// requests, and the p99 lag grew a hundredfold.)
    Sleep,
    /// Tokio's timer, a millisecond coarse. The only one that works in virtual time
    /// (`tokio::time::pause`), where it is exact enough and costs nothing.
    Timer,
    /// A thread of its own that never sleeps and runs the requests, too: for tens of thousands of
    /// requests a second from a core that has nothing else to do. With the sender and the requests
    /// in one thread, nobody waits for the kernel to switch between them. Requests must not block.
    Spin,
}

/// One request of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    /// Its number, from 0.
    pub n: u64,
    /// When it was due, from the start of the run.
    pub planned: Duration,
    seed: u64,
}

impl Shot {
    pub(super) fn new(n: u64, planned: Duration, seed: u64) -> Shot {
        Shot { n, planned, seed }
    }

    /// Randomness that belongs to this request: the same in every run with the same seed, in
    /// whatever order requests are sent.
    pub fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ self.n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// An open-loop load: a plan and the limits of carrying it out.
#[derive(Debug, Clone)]
pub struct Load {
    /// When requests are due.
    pub plan: Plan,
    /// See [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// See [`TICK`].
    pub tick: Duration,
    /// See [`DRAIN`].
    pub drain: Duration,
    /// How the sender waits.
    pub pacing: Pacing,
    /// The system is being broken on purpose: falling behind the offered rate is then a result,
    /// not a defect of the measurement. Lag and drops still invalidate the run.
    pub may_fall_behind: bool,
    /// Only outcomes are counted: the lag of the generator is then no flaw, and latencies are not
    /// reported.
    pub counts_only: bool,
    /// Latency counts from the actual send; see [`Load::timed_from_send`].
    pub from_send: bool,
}

impl Load {
    /// The plan with the default limits.
    pub fn new(plan: Plan) -> Load {
        Load {
            plan,
            max_in_flight: MAX_IN_FLIGHT,
            tick: TICK,
            drain: DRAIN,
            pacing: Pacing::Sleep,
            may_fall_behind: false,
            counts_only: false,
            from_send: false,
        }
    }

    /// For operations of tens of microseconds, such as a Redis on the same machine: waking the
    /// request's task takes as long as the operation, so that a p99 from the plan would be about
    /// this process. Sends still follow the plan and never wait for a reply, so nothing is
    /// omitted; the lag is listed beside the latency instead of inside it, and more than
    /// [`MAX_LAG_FROM_SEND`](super::MAX_LAG_FROM_SEND) of it invalidates the run.
    #[must_use]
    pub fn timed_from_send(self) -> Load {
        Load { from_send: true, ..self }
    }

    /// How runs of this load are labelled.
    pub fn mode(&self) -> Mode {
        if self.from_send { Mode::OpenFromSend } else { Mode::Open }
    }

    /// With at most this many requests in flight.
    #[must_use]
    pub fn in_flight(self, max_in_flight: usize) -> Load {
        Load { max_in_flight, ..self }
    }

    /// With another way to wait.
    #[must_use]
    pub fn paced(self, pacing: Pacing) -> Load {
        Load { pacing, ..self }
    }

    /// For runs during which faults are injected; see [`Load::may_fall_behind`].
    #[must_use]
    pub fn with_faults(self) -> Load {
        Load { may_fall_behind: true, ..self }
    }

    /// For runs that ask how many, not how fast: see [`Load::counts_only`]. The right form for
    /// operations so short that sending them takes longer.
    #[must_use]
    pub fn counting(self) -> Load {
        Load { counts_only: true, ..self }
    }

    /// Carries out the plan: calls `op` once for each due request, each in its own task.
    ///
    /// `op` should have its own timeout: requests unfinished [`drain`](Load::drain) after the
    /// last send are aborted and counted as the error `unfinished`.
    pub async fn run<Op, Fut>(&self, op: Op) -> Run
    where
        Op: Fn(Shot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.run_watched(op, |_| {}).await
    }

    /// [`run`](Load::run), reporting progress at every tick.
    pub async fn run_watched<Op, Fut>(&self, op: Op, mut watch: impl FnMut(&Progress)) -> Run
    where
        Op: Fn(Shot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let recorder = Arc::new(Recorder::new(self.plan.duration, self.from_send));
        let started = Instant::now();
        let sender = Sender {
            op: Arc::new(op),
            recorder: Arc::clone(&recorder),
            started,
            max_in_flight: self.max_in_flight,
            seed: self.plan.seed,
            runtime: match self.pacing {
                Pacing::Spin => spinning().clone(),
                Pacing::Sleep | Pacing::Timer => Handle::current(),
            },
            open: Vec::new(),
        };
        // Dropping this future (a question that is cancelled) must stop the sender as well.
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let mut pacer = sender.start(self.pacing, self.plan.schedule(), Arc::clone(&stop.0));
        let mut collected = Collected::new(self.plan.duration);
        let mut ticks = tokio::time::interval_at(started + self.tick, self.tick);
        let open = loop {
            tokio::select! {
                open = &mut pacer => break open.expect("the sender does not panic"),
                _ = ticks.tick() => watch(&collected.tick(&recorder, started.elapsed())),
            }
        };
        let deadline = Instant::now() + self.drain;
        while recorder.in_flight() > 0 && Instant::now() < deadline {
            tokio::select! {
                _ = ticks.tick() => watch(&collected.tick(&recorder, started.elapsed())),
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        // An aborted request records itself as unfinished when its task is dropped.
        open.iter().for_each(AbortHandle::abort);
        let abandoned = Instant::now() + ABORTING;
        while recorder.in_flight() > 0 && Instant::now() < abandoned {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        watch(&collected.tick(&recorder, started.elapsed()));
        let run = collected.into_run(self.mode(), &recorder, started);
        let Load { may_fall_behind, counts_only, .. } = *self;
        Run { may_fall_behind, counts_only, ..run }
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Sends what is due. Lives on its own thread, or in a task for virtual time.
struct Sender<Op> {
    op: Arc<Op>,
    recorder: Arc<Recorder>,
    started: Instant,
    max_in_flight: usize,
    seed: u64,
    runtime: Handle,
    open: Vec<AbortHandle>,
}

/// A sender looks at its stop flag at least this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

impl<Op, Fut> Sender<Op>
where
    Op: Fn(Shot) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn start(
        self,
        pacing: Pacing,
        schedule: Schedule,
        stop: Arc<AtomicBool>,
    ) -> tokio::sync::oneshot::Receiver<Vec<AbortHandle>> {
        let (finished, pacer) = tokio::sync::oneshot::channel();
        match pacing {
            Pacing::Timer => {
                tokio::spawn(async move {
                    let _ = finished.send(self.send_by_timer(schedule, &stop).await);
                });
            }
            Pacing::Spin => {
                spinning().spawn(async move {
                    let _ = finished.send(self.send_by_spinning(schedule, &stop).await);
                });
            }
            Pacing::Sleep => {
                let name = std::thread::Builder::new().name("load sender".to_owned());
                let spawned = name.spawn(move || {
                    let _ = finished.send(self.send_by_thread(schedule, &stop));
                });
                spawned.expect("the system can start one more thread");
            }
        }
        pacer
    }

    fn send_by_thread(mut self, schedule: Schedule, stop: &AtomicBool) -> Vec<AbortHandle> {
        ask_for_exact_timers();
        for (n, planned) in (0..).zip(schedule) {
            loop {
                let early = planned.saturating_sub(self.started.elapsed());
                if early.is_zero() {
                    break;
                }
                if stop.load(Ordering::Acquire) {
                    return self.open;
                }
                std::thread::sleep(early.min(LONGEST_SLEEP));
            }
            self.send(n, planned);
        }
        self.open
    }

    async fn send_by_timer(mut self, schedule: Schedule, stop: &AtomicBool) -> Vec<AbortHandle> {
        for (n, planned) in (0..).zip(schedule) {
            if planned > self.started.elapsed() {
                tokio::time::sleep_until(self.started + planned).await;
            }
            if stop.load(Ordering::Acquire) {
                break;
            }
            self.send(n, planned);
        }
        self.open
    }

    async fn send_by_spinning(mut self, schedule: Schedule, stop: &AtomicBool) -> Vec<AbortHandle> {
        for (n, planned) in (0..).zip(schedule) {
            while planned > self.started.elapsed() {
                if stop.load(Ordering::Acquire) {
                    return self.open;
                }
                tokio::task::yield_now().await; // to the requests, and to what arrived for them
            }
            self.send(n, planned);
        }
        self.open
    }

    fn send(&mut self, n: u64, planned: Duration) {
        self.recorder.planned.fetch_add(1, Ordering::Relaxed);
        if self.recorder.in_flight() >= self.max_in_flight {
            self.recorder.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let shot = Shot::new(n, planned, self.seed);
        let flight = Flight::start(Arc::clone(&self.recorder), shot, self.started);
        let op = Arc::clone(&self.op);
        let task = self.runtime.spawn(async move {
            let mut flight = flight;
            flight.sent = Some(flight.started.elapsed());
            let outcome = op(shot).await;
            flight.land(outcome);
        });
        self.open.push(task.abort_handle());
        // Finished tasks stay in memory as long as their handle does: forget them now and then.
        if self.open.len() >= 2 * self.max_in_flight + 1024 {
            self.open.retain(|task| !task.is_finished());
        }
    }
}

/// The runtime of [`Pacing::Spin`]. One for all runs: connections are driven by the runtime they
/// were made in, and later runs use them again.
fn spinning() -> &'static Handle {
    static SPINNING: OnceLock<Handle> = OnceLock::new();
    SPINNING.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system can give one more epoll");
        let handle = runtime.handle().clone();
        let name = std::thread::Builder::new().name("load spinner".to_owned());
        let spawned = name.spawn(move || runtime.block_on(std::future::pending::<()>()));
        spawned.expect("the system can start one more thread");
        handle
    })
}

/// Linux lets the timers of ordinary threads fire 50 µs late, to save power. The sender asks for
/// exactness, for its own thread only; where that is refused it is merely later.
fn ask_for_exact_timers() {
    let Ok(this_thread) = std::fs::read_link("/proc/thread-self") else { return };
    if let Some(thread_id) = this_thread.file_name().and_then(|name| name.to_str()) {
        let _ = std::fs::write(format!("/proc/{thread_id}/timerslack_ns"), "1");
    }
}

/// A request in flight. It always lands in the books: also when its task panics or is aborted.
struct Flight {
    recorder: Arc<Recorder>,
    shot: Shot,
    started: Instant,
    sent: Option<Duration>,
    landed: bool,
}

impl Flight {
    fn start(recorder: Arc<Recorder>, shot: Shot, started: Instant) -> Flight {
        recorder.in_flight.fetch_add(1, Ordering::AcqRel);
        Flight { recorder, shot, started, sent: None, landed: false }
    }

    fn land(&mut self, outcome: Outcome) {
        self.landed = true;
        let done = self.started.elapsed();
        let stamps = Stamps { planned: self.shot.planned, sent: self.sent.unwrap_or(done), done };
        self.recorder.record(stamps, outcome);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            let panicked = std::thread::panicking();
            self.land(Err(if panicked { "panicked" } else { "unfinished" }));
        }
        self.recorder.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the collector has gathered so far.
pub(super) struct Collected {
    books: Books,
    intervals: Vec<Interval>,
    planned_duration: Duration,
    dropped: u64,
    since: Duration,
}

impl Collected {
    pub(super) fn new(planned_duration: Duration) -> Collected {
        Collected {
            books: Books::new(),
            intervals: Vec::new(),
            planned_duration,
            dropped: 0,
            since: Duration::ZERO,
        }
    }

    pub(super) fn tick(&mut self, recorder: &Recorder, now: Duration) -> Progress {
        let books = recorder.collect();
        let dropped = recorder.dropped.load(Ordering::Relaxed);
        let length = now.saturating_sub(self.since);
        if !length.is_zero() {
            let dropped = dropped - self.dropped;
            self.intervals.push(Interval::new(self.since, length, &books, dropped));
        }
        (self.dropped, self.since) = (dropped, now);
        self.books.add(&books);
        Progress {
            elapsed_ms: now.as_millis() as u64,
            planned_ms: self.planned_duration.as_millis() as u64,
            completed: self.books.latency.len(),
            failed: self.books.failed.len(),
            dropped,
            in_flight: recorder.in_flight() as u64,
            latest: self.intervals.last().cloned().unwrap_or_default(),
        }
    }

    pub(super) fn into_run(self, mode: Mode, recorder: &Recorder, started: Instant) -> Run {
        let Books { latency, uncorrected, failed, lag, ok, errors, last_done, in_time } =
            self.books;
        let offered = recorder.planned.load(Ordering::Relaxed);
        Run {
            mode,
            started,
            planned_duration: self.planned_duration,
            took: last_done.max(self.planned_duration),
            offered,
            in_time,
            dropped: self.dropped,
            latency,
            uncorrected,
            failed,
            lag,
            ok,
            errors,
            intervals: self.intervals,
            may_fall_behind: false,
            counts_only: false,
            broken: None,
        }
    }
}
