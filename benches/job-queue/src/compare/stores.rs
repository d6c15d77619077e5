//! The four stores called directly: what a send costs. (A job of the worker library: [`super::jobs`].)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::store::memory::Memory;
use job_queue::store::postgres::Postgres;
use job_queue::store::redis::Redis;
use job_queue::store::sqlite::Sqlite;
use job_queue::{Content, NewMessage, Queues, Settings};

use crate::questions::id;
use measure::harness::{ClosedLoop, Shot};
use measure::{Bench, Ready, Scenario, Subject};

/// Callers at once: enough for a commit to be shared.
const CALLERS: usize = 128;
/// Servers that sync before they answer.
#[derive(Clone)]
pub(super) struct Servers {
    pub(super) postgres: Arc<infra::Postgres>,
    redis: Arc<infra::Redis>,
}

pub(super) async fn servers(bench: &mut Bench) -> anyhow::Result<Servers> {
    let options = infra::PostgresOptions { profile: infra::Profile::Durable, ..Default::default() };
    let postgres = Arc::new(infra::postgres_with(options).await?);
    let options = infra::RedisOptions { durable: true, ..Default::default() };
    let redis = Arc::new(infra::redis_with(options).await?);
    bench.version("postgres", postgres.version());
    bench.version("redis", redis.version());
    Ok(Servers { postgres, redis })
}

pub(super) async fn compare(bench: &Bench, servers: &Servers) -> anyhow::Result<()> {
    let about = "one message sent and on disk (but for memory), called directly";
    let scenario = Scenario::new("sends", about, "sqlite");
    let scenario = Scenario { rounds: Some(bench.pick(1, 3, 8)), ..scenario };
    let duration = Duration::from_millis(bench.pick(500, 1_500, 4_000));
    let load = ClosedLoop { workers: CALLERS, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects(servers, |_| Sends)).await
}

/// A way to load a store; `home` is what it lives in.
pub(super) trait Loading {
    fn load<Q: Queues + Clone, H: Send + 'static>(
        self,
        queues: Q,
        home: H,
    ) -> impl Future<Output = anyhow::Result<Ready>> + Send;
}

/// One subject for each store; `way` is told its name.
pub(super) fn subjects<L: Loading + Send + 'static>(
    servers: &Servers,
    way: fn(&'static str) -> L,
) -> Vec<Subject> {
    let redis = Arc::clone(&servers.redis);
    vec![
        Subject::answer("memory", move || async move {
            way("memory").load(Memory::new(Clock::system()), ()).await
        }),
        Subject::answer("sqlite", move || async move {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("queue.db");
            way("sqlite").load(Sqlite::open(&path, Clock::system()).await?, directory).await
        }),
        on_postgres(&servers.postgres, "postgres", move || way("postgres")),
        Subject::answer("redis", move || {
            let redis = Arc::clone(&redis);
            async move {
                let queues = Redis::connect(redis.url(), Clock::system()).await?;
                // The server outlives the run: a queue of its own, empty.
                let _ = queues.remove(&id("work")).await;
                way("redis").load(queues, ()).await
            }
        }),
    ]
}

/// A subject in a database of its own.
pub(super) fn on_postgres<L: Loading + Send + 'static>(
    postgres: &Arc<infra::Postgres>,
    name: &str,
    way: impl Fn() -> L + Send + Sync + 'static,
) -> Subject {
    let (postgres, way) = (Arc::clone(postgres), Arc::new(way));
    Subject::answer(name, move || {
        let (postgres, way) = (Arc::clone(&postgres), Arc::clone(&way));
        async move {
            let database = postgres.database("job_queue", "").await?;
            let queues = Postgres::connect(database.url(), Clock::system()).await?;
            way().load(queues, database).await
        }
    })
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
