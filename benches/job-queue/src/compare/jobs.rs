//! Jobs that do nothing, through the worker library on each durable store: leased, run, deleted; and
//! through another job queue on the same Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::worker::{
    CancellationToken, Context, Direct, Event, Failure, Handler, Worker, WorkerSettings, enqueue,
};
use job_queue::{Content, NewMessage, Queues, Settings};
use measure::harness::{ClosedLoop, Outcome, Shot};
use measure::{Bench, Ready, Scenario};
use tokio::sync::Semaphore;

use super::graphile;
use super::stores::{Loading, Servers, on_postgres, subjects};
use crate::questions::{REGION, id};

/// Jobs that a worker does at once.
pub(super) const AT_ONCE: usize = 64;
/// Jobs leased ahead, where any are.
pub(super) const AHEAD: usize = 500;
/// A worker that has nothing more to do must not stop the comparison.
const JOB_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) async fn compare(bench: &mut Bench, servers: &Servers) -> anyhow::Result<()> {
    let about = "a job of the worker library: leased, run (it does nothing), deleted, on disk; \
                 worker, Postgres and Redis share the processors";
    // Memory would be through with the backlog before the run has begun.
    let none_ahead = |store| Jobs { backlog: backlog(store), ahead: 0 };
    let mut all: Vec<_> = subjects(servers, none_ahead).into_iter().skip(1).collect();
    let some_ahead = || Jobs { backlog: backlog("postgres, leasing ahead"), ahead: AHEAD };
    all.push(on_postgres(&servers.postgres, "postgres, leasing ahead", some_ahead));
    if let Some(version) = graphile::version() {
        bench.version("graphile-worker", version);
        all.extend(graphile::subjects(&servers.postgres));
    }
    let scenario = Scenario::new("jobs", about, "postgres");
    let scenario = Scenario { rounds: Some(bench.pick(1, 4, 8)), ..scenario };
    let duration = Duration::from_millis(bench.pick(500, 2_000, 4_000));
    let load = ClosedLoop { workers: AT_ONCE, duration, seed: bench.seed() };
    bench.closed(scenario, load, all).await
}

/// Jobs that are there when the run begins: more than can be done in it.
fn backlog(store: &str) -> usize {
    match store {
        "sqlite" => 1_200_000,
        "redis" => 200_000,
        _ => 400_000,
    }
}

struct Jobs {
    backlog: usize,
    ahead: usize,
}

/// Does nothing, and says so.
struct Nothing;

impl Handler for Nothing {
    type Job = u8;
    const JOB: &'static str = "nothing";

    async fn run(&self, _: u8, _: Context) -> Result<(), Failure> {
        Ok(())
    }
}

/// Jobs that have ended, as the load waits for them.
#[derive(Clone)]
pub(super) struct Ended(Arc<Semaphore>);

impl Ended {
    pub(super) fn none() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(super) fn add(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// One more job has ended.
    pub(super) async fn one(&self) -> Outcome {
        match tokio::time::timeout(JOB_TIME_MAX, self.0.acquire()).await {
            Ok(Ok(one)) => {
                one.forget();
                Ok("done")
            }
            _ => Err("no job ended"),
        }
    }
}

impl Loading for Jobs {
    async fn load<Q: Queues + Clone, H: Send + 'static>(
        self,
        queues: Q,
        home: H,
    ) -> anyhow::Result<Ready> {
        queues.create(&id("work"), Settings::standard()).await?;
        let source = Direct::new(queues.clone(), REGION, Clock::system());
        fill(&queues, &source, self.backlog).await?;
        let settings = WorkerSettings { ahead: self.ahead, ..WorkerSettings::of("work") };
        let settings = WorkerSettings { concurrency: AT_ONCE, ..settings };
        let (ended, done) = (Ended::none(), Arc::new(AtomicU64::new(0)));
        let (tell, count) = (ended.clone(), Arc::clone(&done));
        let worker = Worker::new(source, settings).handle(Nothing).observe(move |_, event| {
            count.fetch_add(u64::from(*event == Event::Done), Ordering::Relaxed);
            tell.add(1);
        });
        let stop = CancellationToken::new();
        let until = stop.clone();
        let running = tokio::spawn(async move { worker.run(until).await });
        let op = move |_: Shot| {
            let ended = ended.clone();
            async move { ended.one().await }
        };
        Ok(Ready::new(op, move |_| async move {
            stop.cancel();
            running.await.map_err(|error| error.to_string())?;
            let counts = queues.counts(&id("work")).await.map_err(|error| error.to_string())?;
            drop(home);
            let left = (counts.ready + counts.in_flight + counts.delayed) as u64;
            adds_up(done.load(Ordering::Relaxed), left, self.backlog as u64)
        }))
    }
}

/// Every job is done or still there, and there were enough.
pub(super) fn adds_up(done: u64, left: u64, sent: u64) -> Result<(), String> {
    let holds = left + done == sent && left > 0;
    holds.then_some(()).ok_or_else(|| format!("{done} done and {left} left of {sent}"))
}

/// The backlog: one message as the worker library makes it, and copies of it.
async fn fill<Q: Queues + Clone>(
    queues: &Q,
    source: &Direct<Q>,
    backlog: usize,
) -> anyhow::Result<()> {
    enqueue::<Nothing, _>(source, "work", &0_u8, Duration::ZERO).await?;
    let first = queues.peek(&id("work"), Default::default(), 1).await?;
    let content = Arc::clone(&first[0].content);
    let copy =
        || NewMessage { content: Arc::clone(&content), ..NewMessage::new(Content::default()) };
    let mut left = backlog - 1;
    while left > 0 {
        let batch = left.min(1_000);
        queues.send(&id("work"), (0..batch).map(|_| copy()).collect()).await?;
        left -= batch;
    }
    Ok(())
}
