//! The page's workers: the worker library on a runtime of its own.
//!
//! Killing a worker means that nothing of it runs any more: no handler, no heartbeat, no delete.
//! Ending the runtime does that to tasks as SIGKILL does it to a process; what they held comes back
//! when its lease ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::sqs::REGION_DEFAULT;
use job_queue::store::sqlite::Sqlite;
use job_queue::worker::autoscale::Aim;
use job_queue::worker::{
    Backoff, CancellationToken, Context, Direct, Event, Failure, Handler, Jitter, Policy, Worker,
    WorkerSettings,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::form::QUEUE;

/// Where jobs go that cannot be done.
pub(super) const DEAD_LETTERS: &str = "images-dead";
/// The type of the page's jobs.
pub(super) const JOB: &str = "thumbnail";

/// Short, so that a killed worker's jobs come back while one watches.
const LEASE: Duration = Duration::from_secs(4);
/// How soon the backlog should be gone.
const DRAIN_MS: u64 = 2_000;
/// How often the scaler looks.
const SCALE_EVERY: Duration = Duration::from_millis(250);

/// What the workers do at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chores {
    pub(super) job_ms: u64,
    pub(super) workers_max: usize,
    pub(super) failing_percent: u8,
    pub(super) corrupt_percent: u8,
}

/// What became of the deliveries.
#[derive(Default)]
struct Ends {
    done: AtomicU64,
    retried: AtomicU64,
    given_up: AtomicU64,
}

/// How the workers stand.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    workers: usize,
    running: usize,
    done: u64,
    retried: u64,
    given_up: u64,
}

pub(super) struct Crew {
    queues: Sqlite,
    chores: Arc<Mutex<Chores>>,
    ends: Arc<Ends>,
    team: Mutex<Option<Team>>,
}

struct Team {
    worker: Worker<Direct<Sqlite>>,
    workers_max: usize,
    runtime: Option<Runtime>,
}

impl Drop for Team {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Crew {
    pub(super) fn new(queues: Sqlite) -> Self {
        let chores =
            Chores { job_ms: 100, workers_max: 20, failing_percent: 0, corrupt_percent: 0 };
        Self {
            queues,
            chores: Arc::new(Mutex::new(chores)),
            ends: Arc::default(),
            team: Mutex::default(),
        }
    }

    /// Other chores, from the next job on. Another number of workers takes another team, and the
    /// old one is let go of as if it were killed only if its limit differs.
    pub(super) fn adopt(&self, chores: Chores) {
        *self.chores.lock() = chores;
        let mut team = self.team.lock();
        if team.as_ref().is_some_and(|team| team.workers_max != chores.workers_max) {
            *team = None;
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.team.lock().is_some()
    }

    /// Brings the workers if there are none.
    pub(super) fn ensure(&self) -> std::io::Result<()> {
        let mut team = self.team.lock();
        if team.is_none() {
            *team = Some(self.hire()?);
        }
        Ok(())
    }

    pub(super) fn dismiss(&self) {
        *self.team.lock() = None;
    }

    /// The workers die in the middle of what they do; others come.
    pub(super) fn kill(&self) -> std::io::Result<()> {
        self.dismiss();
        self.ensure()
    }

    pub(super) fn report(&self) -> Report {
        let team = self.team.lock();
        let worker = team.as_ref().map(|team| &team.worker);
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Report {
            workers: worker.map_or(0, Worker::concurrency),
            running: worker.map_or(0, Worker::running),
            done: count(&self.ends.done),
            retried: count(&self.ends.retried),
            given_up: count(&self.ends.given_up),
        }
    }

    fn hire(&self) -> std::io::Result<Team> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lab-workers")
            .enable_all()
            .build()?;
        let workers_max = self.chores.lock().workers_max;
        let source = Direct::new(self.queues.clone(), REGION_DEFAULT, Clock::system());
        let settings = WorkerSettings {
            dead_letters: Some(DEAD_LETTERS.to_owned()),
            concurrency: 1,
            visibility: LEASE,
            ..WorkerSettings::of(QUEUE)
        };
        let ends = Arc::clone(&self.ends);
        let worker = Worker::new(source, settings)
            .handle(Thumbnails(Arc::clone(&self.chores)))
            .observe(move |_, event| ends.count(event));
        let aim = Aim { workers_min: 1, workers_max, drain_ms: DRAIN_MS, patience: 6 };
        // Nobody cancels it: these workers are only ever killed.
        let stop = CancellationToken::new();
        let (running, scaled, until) = (worker.clone(), worker.clone(), stop.clone());
        runtime.spawn(async move { running.run(stop).await });
        runtime.spawn(async move { scaled.autoscale(aim, SCALE_EVERY, until).await });
        Ok(Team { worker, workers_max, runtime: Some(runtime) })
    }
}

impl Ends {
    fn count(&self, event: &Event) {
        let counter = match event {
            Event::Done => &self.done,
            Event::Retry(..) => &self.retried,
            Event::GivenUp(_) => &self.given_up,
            Event::LeaseLost | Event::Released => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes no thumbnails, but takes as long.
struct Thumbnails(Arc<Mutex<Chores>>);

#[derive(Deserialize)]
struct Thumbnail {
    image: u16,
    luck: u8,
}

impl Handler for Thumbnails {
    type Job = Thumbnail;
    const JOB: &'static str = JOB;

    fn policy(&self) -> Policy {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(5));
        let backoff = Backoff { base, cap, jitter: Jitter::Full };
        Policy { attempts_max: 6, backoff, ..Policy::default() }
    }

    async fn run(&self, job: Thumbnail, _: Context) -> Result<(), Failure> {
        let chores = *self.0.lock();
        tokio::time::sleep(Duration::from_millis(chores.job_ms)).await;
        // A repaired decoder (fewer corrupt ones in the form) can do what was given up before.
        if job.luck < chores.corrupt_percent {
            let reason = format!("image {} is corrupt: no PNG signature", job.image);
            return Err(Failure::Permanent(reason));
        }
        if fastrand::u8(0..100) < chores.failing_percent {
            return Err(Failure::Retry("the object store timed out".to_owned()));
        }
        Ok(())
    }
}
