//! The loop that fetches jobs, keeps their leases, runs their handlers, and stops cleanly.
//!
//! - A job is fetched only when a place is free for it: prefetched leases would age in a buffer.
//!   While there is a backlog, several fetches are under way at once, and jobs that end are deleted
//!   many at once: a store that commits to disk is asked few large things, not many small ones.
//! - The heartbeat is a task of its own. A handler that blocks its thread must not lose its lease,
//!   and a lease that is lost stops the handler.
//! - A panic or a timeout is a failure of that job and of nothing else.
//! - Stopping: fetch no more, let what runs finish until the deadline, give the rest back at once.
//!
//! Invariant: every job fetched ends in exactly one of: deleted, hidden for its backoff, given up
//! with a reason, given back, or left to its lease's end because the queue did not answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::acknowledge::Acknowledger;
use super::autoscale::{Aim, Look, Scaler};
use super::job::{
    Context, Failure, Handler, JOB_ATTRIBUTE, NOT_BEFORE_ATTRIBUTE, ORIGIN_ATTRIBUTE, Policy,
    REASON_ATTRIBUTE,
};
use super::lanes::{Lane, Picker};
use super::places::{Place, Places, Taken};
use super::schedule::{TICK_ATTRIBUTE, too_early};
use super::source::{Incoming, Outgoing, Source, SourceError};
use crate::clock::Clock;

/// Longest reason kept with a dead letter.
const REASON_CHARS_MAX: usize = 1_000;
/// Pause after the queue did not answer, so that an outage is not met with a storm.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);
/// How long one lane is waited for when there are several and all are empty.
const SEVERAL_LANES_WAIT_MS: u64 = 200;

/// Fetches at once while there is a backlog: the next jobs are on their way while a store still
/// writes down the leases of the last.
const FETCHES_AT_ONCE: usize = 4;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The queues, by priority.
    pub lanes: Vec<Lane>,
    /// Where jobs go that are given up.
    pub dead_letters: Option<String>,
    /// Jobs at once.
    pub concurrency: usize,
    /// Jobs leased beyond that, which wait for their turn with their leases kept alive.
    ///
    /// Trade-off: zero is right for jobs that take longer than a fetch: an idle worker elsewhere
    /// could have begun what waits here. With jobs of microseconds a worker that leases none ahead
    /// does nothing while it fetches.
    pub ahead: usize,
    /// How long a lease lasts; the heartbeat renews it at a third of it.
    pub visibility: Duration,
    /// How long to wait for a job when there is none.
    pub wait: Duration,
    /// A lane that waited this long gets the next turn.
    pub aging: Duration,
    /// How long running jobs may finish when stopping.
    pub drain: Duration,
}

impl WorkerSettings {
    /// One queue, four jobs at once.
    pub fn of(queue: &str) -> Self {
        Self {
            lanes: vec![Lane { queue: queue.to_owned(), weight: 1 }],
            dead_letters: None,
            concurrency: 4,
            ahead: 0,
            visibility: Duration::from_secs(30),
            wait: Duration::from_secs(20),
            aging: Duration::from_secs(10),
            drain: Duration::from_secs(20),
        }
    }
}

/// What became of one delivery, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Done and deleted.
    Done,
    /// Failed; it comes again after this long.
    Retry(String, Duration),
    /// Given up, with this reason.
    GivenUp(String),
    /// Somebody else has it now, or will.
    LeaseLost,
    /// Given back unfinished.
    Released,
}

type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type Erased = Arc<dyn Fn(&Incoming) -> Running + Send + Sync>;
type Observer = Arc<dyn Fn(&Incoming, &Event) + Send + Sync>;

/// A worker: handlers, and the source their jobs come from. Clones share everything.
#[derive(Clone)]
pub struct Worker<S> {
    source: S,
    settings: Arc<WorkerSettings>,
    handlers: Arc<HashMap<&'static str, (Policy, Erased)>>,
    observer: Observer,
    clock: Clock,
    places: Arc<Places>,
    acknowledger: Arc<Acknowledger<S>>,
    state: Arc<State>,
}

/// What changes while it runs.
#[derive(Default)]
struct State {
    /// A fetch brought all that it asked for: there is more.
    backlog: Notify,
    jobs_ended: AtomicU64,
    busy_us: AtomicU64,
}

/// What the fetchers of one run share.
struct Run {
    picker: Mutex<Picker>,
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl<S: Source> Worker<S> {
    /// A worker without handlers.
    pub fn new(source: S, settings: WorkerSettings) -> Self {
        Self {
            places: Places::new(settings.concurrency, settings.ahead),
            acknowledger: Arc::new(Acknowledger::new(source.clone())),
            source,
            settings: Arc::new(settings),
            handlers: Arc::default(),
            observer: Arc::new(|_, _| {}),
            clock: Clock::system(),
            state: Arc::default(),
        }
    }

    /// Adds the handler of one job type.
    #[must_use]
    pub fn handle<H: Handler>(mut self, handler: H) -> Self {
        let (policy, handler) = (handler.policy(), Arc::new(handler));
        let erased: Erased = Arc::new(move |message: &Incoming| {
            let job = serde_json::from_str::<H::Job>(&message.body);
            let context = Context {
                id: message.id.clone(),
                receives: message.receives,
                epoch: message.epoch,
                sent_at_ms: message.sent_at_ms,
                tick: message.attributes.get(TICK_ATTRIBUTE).cloned(),
            };
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                // What cannot be read today cannot be read tomorrow.
                let job =
                    job.map_err(|error| Failure::Permanent(format!("unreadable: {error}")))?;
                handler.run(job, context).await
            })
        });
        let mut handlers = HashMap::clone(&self.handlers);
        handlers.insert(H::JOB, (policy, erased));
        self.handlers = Arc::new(handlers);
        self
    }

    /// Tells `observer` what became of each delivery.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&Incoming, &Event) + Send + Sync + 'static) -> Self {
        Self { observer: Arc::new(observer), ..self }
    }

    /// Changes how many jobs run at once; running ones are left alone.
    pub fn set_concurrency(&self, concurrency: usize) {
        self.places.set_limit(concurrency);
    }

    /// How many jobs may run at once at present.
    pub fn concurrency(&self) -> usize {
        self.places.limit()
    }

    /// How many jobs run now.
    pub fn running(&self) -> usize {
        self.places.running()
    }

    /// The mean time of a job, over all so far.
    pub fn mean_job_ms(&self) -> f64 {
        let ended = self.state.jobs_ended.load(Ordering::Acquire).max(1);
        self.state.busy_us.load(Ordering::Acquire) as f64 / ended as f64 / 1_000.0
    }

    /// Looks at the backlog every `every` and changes the concurrency to what
    /// [`autoscale`](super::autoscale) decides, until `stop`.
    pub async fn autoscale(&self, aim: Aim, every: Duration, stop: CancellationToken) {
        let mut scaler = Scaler::default();
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let (mut backlog, mut oldest_age_ms) = (0, 0);
            for lane in &self.settings.lanes {
                // A look that fails is no look: nothing is decided on half of the lanes.
                let Ok(depth) = self.source.depth(&lane.queue).await else { continue };
                backlog += depth.ready;
                if depth.ready > 0 {
                    oldest_age_ms = oldest_age_ms.max(depth.oldest_age_ms.unwrap_or(0));
                }
            }
            let look = Look { backlog, job_ms: self.mean_job_ms(), oldest_age_ms };
            let before = self.concurrency();
            let workers = scaler.decide(&aim, &look, before);
            if workers != before {
                tracing::info!(before, workers, backlog, oldest_age_ms, "scaled");
                self.set_concurrency(workers);
            }
        }
    }

    /// Works until `stop` is cancelled, then drains.
    pub async fn run(&self, stop: CancellationToken) {
        let weights = self.settings.lanes.iter().map(|lane| lane.weight);
        let aging_ms = self.settings.aging.as_millis() as u64;
        let picker = Mutex::new(Picker::new(weights, aging_ms, self.clock.now_ms()));
        let abort = CancellationToken::new();
        let run = Run { picker, tasks: TaskTracker::new(), stop, abort };
        let helpers = (1..FETCHES_AT_ONCE).map(|_| self.help_with_backlog(&run));
        tokio::join!(self.keep_fetching(&run), futures::future::join_all(helpers));
        run.tasks.close();
        if tokio::time::timeout(self.settings.drain, run.tasks.wait()).await.is_err() {
            run.abort.cancel();
            run.tasks.wait().await;
        }
    }

    /// Fetches and starts jobs, waiting for them when there are none, until stopped.
    async fn keep_fetching(&self, run: &Run) {
        let batch_max = self.source.batch_max();
        while let Some(taken) = run.stop.run_until_cancelled(self.places.take(batch_max)).await {
            let wait_ms = self.settings.wait.as_millis() as u64;
            if let Err(error) = self.fetch_and_start(run, taken, wait_ms).await {
                tracing::warn!(%error, "no jobs could be fetched");
                run.stop.run_until_cancelled(tokio::time::sleep(OUTAGE_PAUSE)).await;
            }
        }
    }

    /// Fetches as well for as long as there is more than one fetch brings; never waits for jobs, so
    /// that an idle worker asks its queue once and not four times.
    async fn help_with_backlog(&self, run: &Run) {
        while run.stop.run_until_cancelled(self.state.backlog.notified()).await.is_some() {
            while !run.stop.is_cancelled()
                && let Some(taken) = self.places.try_take(self.source.batch_max())
            {
                // What cannot be fetched here is complained about there.
                if !matches!(self.fetch_and_start(run, taken, 0).await, Ok(true)) {
                    break;
                }
            }
        }
    }

    /// Whether there may be more than was fetched.
    async fn fetch_and_start(
        &self,
        run: &Run,
        mut taken: Taken,
        wait_ms: u64,
    ) -> Result<bool, SourceError> {
        let asked = taken.count();
        let Some((lane, fetched)) = self.fetch(run, asked, wait_ms).await? else {
            return Ok(false);
        };
        let is_full = fetched.len() >= asked;
        if is_full {
            self.state.backlog.notify_one();
        }
        let queue: Arc<str> = Arc::from(self.settings.lanes[lane].queue.as_str());
        for message in fetched {
            if run.stop.is_cancelled() {
                self.release(&queue, &message).await;
                continue;
            }
            let mut place = taken.one();
            let (worker, queue, abort) = (self.clone(), Arc::clone(&queue), run.abort.clone());
            run.tasks.spawn(async move {
                let event = worker.work(&queue, &message, &mut place, abort).await;
                drop(place);
                (worker.observer)(&message, &event);
            });
        }
        Ok(is_full)
    }

    /// Jobs from the lane whose turn it is, or from the first after it that has any.
    async fn fetch(
        &self,
        run: &Run,
        places: usize,
        wait_ms: u64,
    ) -> Result<Option<(usize, Vec<Incoming>)>, SourceError> {
        let order = run.picker.lock().order(self.clock.now_ms());
        let alone = order.len() == 1;
        for (asked, &lane) in order.iter().enumerate() {
            let wait_ms = if alone { wait_ms } else { 0 };
            let fetched = self.receive(lane, places, wait_ms, &run.stop).await?;
            if !fetched.is_empty() {
                run.picker.lock().took(lane, &order[..asked], self.clock.now_ms());
                return Ok(Some((lane, fetched)));
            }
        }
        if alone || wait_ms == 0 {
            return Ok(None);
        }
        let fetched = self.receive(order[0], places, SEVERAL_LANES_WAIT_MS, &run.stop).await?;
        Ok((!fetched.is_empty()).then_some((order[0], fetched)))
    }

    /// Trap: a receive that is dropped may have leased messages that nobody then works on until
    /// their leases end. It is dropped only when stopping, and only while it waits.
    async fn receive(
        &self,
        lane: usize,
        places: usize,
        wait_ms: u64,
        stop: &CancellationToken,
    ) -> Result<Vec<Incoming>, SourceError> {
        let queue = &self.settings.lanes[lane].queue;
        let visibility_ms = self.settings.visibility.as_millis() as u64;
        let receive = self.source.receive(queue, places, visibility_ms, wait_ms);
        if wait_ms == 0 {
            return receive.await;
        }
        stop.run_until_cancelled(receive).await.unwrap_or_else(|| Ok(vec![]))
    }

    /// One delivery, from lease to end.
    async fn work(
        &self,
        queue: &Arc<str>,
        message: &Incoming,
        place: &mut Place,
        abort: CancellationToken,
    ) -> Event {
        if let Some(hide_ms) = self.too_early(message) {
            return self.hide(queue, message, hide_ms, Event::Released).await;
        }
        let job = message.attributes.get(JOB_ATTRIBUTE).map_or("", String::as_str);
        let Some((policy, handler)) = self.handlers.get(job) else {
            return self
                .give_up(queue, message, &format!("no handler for jobs of type {job:?}"))
                .await;
        };
        let running = async {
            place.run().await;
            let began = Instant::now();
            let ended = contained(handler(message), policy.time_max).await;
            (ended, began.elapsed().as_micros() as u64)
        };
        let (ended, busy_us) = tokio::select! {
            ended = running => ended,
            () = self.heartbeat(queue, message) => return Event::LeaseLost,
            () = abort.cancelled() => return self.release(queue, message).await,
        };
        self.state.busy_us.fetch_add(busy_us, Ordering::AcqRel);
        self.state.jobs_ended.fetch_add(1, Ordering::AcqRel);
        place.end();
        match ended {
            Ok(()) => match self.acknowledger.done(queue, &message.receipt).await {
                Ok(()) => Event::Done,
                Err(error) => {
                    tracing::warn!(%error, id = message.id, "a job that is done comes again");
                    Event::LeaseLost
                }
            },
            Err(Failure::Permanent(reason)) => self.give_up(queue, message, &reason).await,
            Err(failure) if message.receives >= policy.attempts_max => {
                let reason = format!("{failure} (after {} attempts)", message.receives);
                self.give_up(queue, message, &reason).await
            }
            Err(failure) => {
                let delay = match &failure {
                    Failure::RetryAfter(_, delay) => *delay,
                    _ => policy.backoff.delay(message.receives, &mut fastrand::Rng::new()),
                };
                let event = Event::Retry(failure.to_string(), delay);
                self.hide(queue, message, delay.as_millis() as u64, event).await
            }
        }
    }

    fn too_early(&self, message: &Incoming) -> Option<u64> {
        let not_before_ms = message.attributes.get(NOT_BEFORE_ATTRIBUTE)?.parse().ok()?;
        too_early(not_before_ms, self.clock.now_ms())
    }

    /// Renews the lease for as long as it can; returns when it is lost.
    async fn heartbeat(&self, queue: &str, message: &Incoming) {
        let visibility = self.settings.visibility;
        let (mut beat, mut renewed) = (visibility / 3, Instant::now());
        loop {
            tokio::time::sleep(beat).await;
            let ms = visibility.as_millis() as u64;
            match self.source.hide(queue, &message.receipt, ms).await {
                Ok(()) => (beat, renewed) = (visibility / 3, Instant::now()),
                Err(SourceError::Unavailable(_)) if renewed.elapsed() < visibility => {
                    beat = visibility / 10;
                }
                Err(error) => {
                    tracing::warn!(%error, id = message.id, "the lease is lost: stopping the job");
                    return;
                }
            }
        }
    }

    async fn hide(&self, queue: &str, message: &Incoming, ms: u64, event: Event) -> Event {
        match self.source.hide(queue, &message.receipt, ms).await {
            Ok(()) => event,
            // The lease ends by itself, only not when we wanted.
            Err(_) => Event::LeaseLost,
        }
    }

    async fn release(&self, queue: &str, message: &Incoming) -> Event {
        self.hide(queue, message, 0, Event::Released).await
    }

    /// Sends the job to the dead-letter queue with its reason, then deletes it. A crash in between
    /// makes two dead letters, never none.
    async fn give_up(&self, queue: &Arc<str>, message: &Incoming, reason: &str) -> Event {
        let Some(dead_letters) = &self.settings.dead_letters else {
            // Without anywhere to put it: leave it to the queue's own redrive policy.
            tracing::error!(id = message.id, reason, "no dead-letter queue for a job given up");
            return Event::LeaseLost;
        };
        let mut attributes = message.attributes.clone();
        // Ten attributes is the limit; the sender's own ones give way from the end.
        while attributes.len() > 8 {
            attributes.pop_last();
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        attributes.insert(REASON_ATTRIBUTE.to_owned(), reason.clone());
        attributes.insert(ORIGIN_ATTRIBUTE.to_owned(), message.id.clone());
        let letter = Outgoing {
            body: message.body.clone(),
            attributes,
            group: message.group.clone(),
            dedup_id: message.group.as_ref().map(|_| message.id.clone()),
            delay_ms: 0,
        };
        if let Err(error) = self.source.send(dead_letters, letter).await {
            tracing::warn!(%error, id = message.id, "a dead letter could not be sent");
            return Event::LeaseLost;
        }
        match self.acknowledger.done(queue, &message.receipt).await {
            Ok(()) => Event::GivenUp(reason),
            Err(_) => Event::LeaseLost,
        }
    }
}

/// Runs a handler on a task of its own: its panic is a failure like another, its time is bounded,
/// and when the caller is dropped it is stopped.
async fn contained(job: Running, time_max: Duration) -> Result<(), Failure> {
    let mut task = AbortOnDrop(tokio::spawn(job));
    match tokio::time::timeout(time_max, &mut task.0).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(panic)) => Err(Failure::Retry(format!("the handler panicked: {}", text_of(panic)))),
        Err(_) => Err(Failure::Retry(format!("no end within {time_max:?}"))),
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<(), Failure>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn text_of(panic: tokio::task::JoinError) -> String {
    match panic.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without words".to_owned()),
        Err(cancelled) => cancelled.to_string(),
    }
}
