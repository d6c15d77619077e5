//! The four stores called directly: what a send costs, and a job of the worker library.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::store::memory::Memory;
use job_queue::store::postgres::Postgres;
use job_queue::store::redis::Redis;
use job_queue::store::sqlite::Sqlite;
use job_queue::worker::{
    CancellationToken, Context, Direct, Failure, Handler, Worker, WorkerSettings, enqueue,
};
use job_queue::{Content, NewMessage, Queues, Settings};
use tokio::sync::Semaphore;

use crate::questions::{REGION, id};
use measure::harness::{ClosedLoop, Shot};
use measure::{Bench, Ready, Scenario, Subject};

/// Callers at once: enough for a commit to be shared.
const CALLERS: usize = 128;
/// Jobs that a worker does at once.
const AT_ONCE: usize = 64;

/// Servers that sync before they answer.
#[derive(Clone)]
struct Servers {
    postgres: Arc<infra::Postgres>,
    redis: Arc<infra::Redis>,
}

pub(super) async fn compare(bench: &mut Bench) -> anyhow::Result<()> {
    let options = infra::PostgresOptions { profile: infra::Profile::Durable, ..Default::default() };
    let postgres = Arc::new(infra::postgres_with(options).await?);
    let options = infra::RedisOptions { durable: true, ..Default::default() };
    let redis = Arc::new(infra::redis_with(options).await?);
    bench.version("postgres", postgres.version());
    bench.version("redis", redis.version());
    let servers = Servers { postgres, redis };
    let about = "one message sent and on disk (but for memory), called directly";
    closed(bench, "sends", about, CALLERS, subjects(&servers, sends)).await?;
    let about = "a job of the worker library: leased, run (it does nothing), deleted, on disk";
    // Memory would be through with the backlog before the run has begun.
    let durable = subjects(&servers, jobs).into_iter().skip(1).collect();
    closed(bench, "jobs", about, AT_ONCE, durable).await
}

async fn closed(
    bench: &Bench,
    name: &'static str,
    about: &str,
    workers: usize,
    subjects: Vec<Subject>,
) -> anyhow::Result<()> {
    let scenario =
        Scenario { rounds: Some(bench.pick(1, 3, 8)), ..Scenario::new(name, about, "sqlite") };
    let duration = Duration::from_millis(bench.pick(500, 1_500, 4_000));
    bench.closed(scenario, ClosedLoop { workers, duration, seed: bench.seed() }, subjects).await
}

/// A way to load a store; `home` is what it lives in.
trait Loading {
    fn load<Q: Queues + Clone, H: Send + 'static>(
        self,
        queues: Q,
        home: H,
    ) -> impl Future<Output = anyhow::Result<Ready>> + Send;
}

/// One subject for each store.
fn subjects<L: Loading + Send + 'static>(servers: &Servers, way: fn() -> L) -> Vec<Subject> {
    let (postgres, redis) = (Arc::clone(&servers.postgres), Arc::clone(&servers.redis));
    vec![
        Subject::answer("memory", move || async move {
            way().load(Memory::new(Clock::system()), ()).await
        }),
        Subject::answer("sqlite", move || async move {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("queue.db");
            way().load(Sqlite::open(&path, Clock::system()).await?, directory).await
        }),
        Subject::answer("postgres", move || {
            let postgres = Arc::clone(&postgres);
            async move {
                let database = postgres.database("job_queue", "").await?;
                let queues = Postgres::connect(database.url(), Clock::system()).await?;
                way().load(queues, database).await
            }
        }),
        Subject::answer("redis", move || {
            let redis = Arc::clone(&redis);
            async move {
                let queues = Redis::connect(redis.url(), Clock::system()).await?;
                // The server outlives the run: a queue of its own, empty.
                let _ = queues.remove(&id("work")).await;
                way().load(queues, ()).await
            }
        }),
    ]
}

fn sends() -> Sends {
    Sends
}

struct Sends;

impl Loading for Sends {
    async fn load<Q: Queues + Clone, H: Send + 'static>(
        self,
        queues: Q,
        home: H,
    ) -> anyhow::Result<Ready> {
        queues.create(&id("work"), Settings::standard()).await?;
        let (sending, sent) = (queues.clone(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&sent);
        let op = move |_: Shot| {
            let (queues, sent) = (sending.clone(), Arc::clone(&counted));
            async move {
                let message = NewMessage::new(Content::text("x".repeat(100)));
                let answer = queues.send(&id("work"), vec![message]).await;
                let kept = answer.is_ok_and(|it| it.iter().all(Result::is_ok));
                sent.fetch_add(u64::from(kept), Ordering::Relaxed);
                kept.then_some("sent").ok_or("refused")
            }
        };
        Ok(Ready::new(op, move |_| async move {
            let counts = queues.counts(&id("work")).await.map_err(|error| error.to_string())?;
            drop(home);
            let sent = sent.load(Ordering::Relaxed);
            let is_there = counts.ready as u64 == sent;
            is_there.then_some(()).ok_or_else(|| format!("{} of {sent} are there", counts.ready))
        }))
    }
}

fn jobs() -> Jobs {
    Jobs
}

struct Jobs;

/// Does nothing, and says so.
struct Nothing;

impl Handler for Nothing {
    type Job = u8;
    const JOB: &'static str = "nothing";

    async fn run(&self, _: u8, _: Context) -> Result<(), Failure> {
        Ok(())
    }
}

/// Jobs that are there when the run begins: more than can be done in it.
const BACKLOG: usize = 60_000;
/// A worker that has nothing more to do must not stop the comparison.
const JOB_TIME_MAX: Duration = Duration::from_secs(5);

impl Loading for Jobs {
    async fn load<Q: Queues + Clone, H: Send + 'static>(
        self,
        queues: Q,
        home: H,
    ) -> anyhow::Result<Ready> {
        queues.create(&id("work"), Settings::standard()).await?;
        let source = Direct::new(queues.clone(), REGION, Clock::system());
        fill(&queues, &source).await?;
        let done = Arc::new(Semaphore::new(0));
        let settings = WorkerSettings { concurrency: AT_ONCE, ..WorkerSettings::of("work") };
        let (tell, ended) = (Arc::clone(&done), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&ended);
        let worker = Worker::new(source, settings).handle(Nothing).observe(move |_, event| {
            counted
                .fetch_add(u64::from(*event == job_queue::worker::Event::Done), Ordering::Relaxed);
            tell.add_permits(1);
        });
        let stop = CancellationToken::new();
        let until = stop.clone();
        let running = tokio::spawn(async move { worker.run(until).await });
        let op = move |_: Shot| {
            let done = Arc::clone(&done);
            async move {
                // One more job has ended.
                match tokio::time::timeout(JOB_TIME_MAX, done.acquire()).await {
                    Ok(Ok(one)) => {
                        one.forget();
                        Ok("done")
                    }
                    _ => Err("no job ended"),
                }
            }
        };
        Ok(Ready::new(op, move |_| async move {
            stop.cancel();
            running.await.map_err(|error| error.to_string())?;
            let counts = queues.counts(&id("work")).await.map_err(|error| error.to_string())?;
            drop(home);
            let left = (counts.ready + counts.in_flight + counts.delayed) as u64;
            let done = ended.load(Ordering::Relaxed);
            let adds_up = left + done == BACKLOG as u64 && left > 0;
            adds_up.then_some(()).ok_or_else(|| format!("{done} done and {left} left of {BACKLOG}"))
        }))
    }
}

/// The backlog: one message as the worker library makes it, and copies of it.
async fn fill<Q: Queues + Clone>(queues: &Q, source: &Direct<Q>) -> anyhow::Result<()> {
    enqueue::<Nothing, _>(source, "work", &0_u8, Duration::ZERO).await?;
    let first = queues.peek(&id("work"), Default::default(), 1).await?;
    let content = Arc::clone(&first[0].content);
    let copy =
        || NewMessage { content: Arc::clone(&content), ..NewMessage::new(Content::default()) };
    let mut left = BACKLOG - 1;
    while left > 0 {
        let batch = left.min(500);
        queues.send(&id("work"), (0..batch).map(|_| copy()).collect()).await?;
        left -= batch;
    }
    Ok(())
}
