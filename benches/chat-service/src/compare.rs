//! The answers of the chat service side by side: messages from one person to another, end to end,
//! and the newest page of a long conversation by the interview's index and by the sequence.

mod pages;
mod pairs;

use std::sync::Arc;
use std::time::Duration;

use chat_service::Store;
use chat_service::store::memory::Memory;
use chat_service::store::postgres::{Postgres, SCHEMA};
use chat_service::store::sqlite::Sqlite;

use self::pairs::Pairs;
use measure::harness::{ClosedLoop, Load, Plan, Shot};
use measure::{Bench, Comparison, Ready, Scenario, Subject};

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "one to one, end to end, in memory and with an fsync before \"sent\"; and two \
                 indexes for the same page";
    Comparison { system: "chat-service", about, run: |bench| Box::pin(compare(bench)) }
}

/// Messages on their way at once when the highest rate is looked for.
const IN_FLIGHT: usize = 2_048;
/// The rate at which latency is promised.
const PROMISED_PER_S: f64 = 10_000.0;

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    let options = infra::PostgresOptions { profile: infra::Profile::Durable, ..Default::default() };
    let server = Arc::new(infra::postgres_with(options).await?);
    bench.version("postgres", server.version());
    let about = "a message of 200 bytes from one person's socket to another's, acknowledged; \
                 sqlite and postgres with an fsync before \"sent\"; clients and server in one \
                 process";
    let scenario = |name| Scenario {
        rounds: Some(bench.pick(1, 3, 6)),
        warm_up: Duration::from_millis(bench.pick(300, 700, 1_000)),
        ..Scenario::new(name, about, "memory")
    };
    let duration = Duration::from_secs(bench.pick(1, 3, 6));
    let load = ClosedLoop { workers: IN_FLIGHT, duration, seed: bench.seed() };
    bench.closed(scenario("one-to-one"), load, subjects(&server)).await?;
    // Clients, server and database share the machine: the generator is late by as much as they keep
    // the processors busy, and that is stated beside the latencies instead of being part of them.
    let load = Load::new(Plan::poisson(PROMISED_PER_S, duration)).timed_from_send();
    bench.open(scenario("one-to-one-10k"), load, subjects(&server)).await?;
    pages::compare(&bench, &server).await
}

fn subjects(server: &Arc<infra::Postgres>) -> Vec<Subject> {
    let server = Arc::clone(server);
    vec![
        Subject::answer("memory", || async { ready(Memory::default(), ()).await }),
        Subject::answer("sqlite", || async {
            let directory = tempfile::tempdir()?;
            let store = Sqlite::open(&directory.path().join("chat.db")).await?;
            ready(store, directory).await
        }),
        Subject::answer("postgres", move || {
            let server = Arc::clone(&server);
            async move {
                let database = server.database("chat_bench", SCHEMA).await?;
                let store = Postgres::connect(database.url()).await?;
                ready(store, database).await
            }
        }),
    ]
}

/// A server on this store with people connected; `kept` is kept until the run is over.
pub(super) async fn ready<S: Store, K: Send + 'static>(store: S, kept: K) -> anyhow::Result<Ready> {
    let pairs = Arc::new(Pairs::connected(Arc::new(store)).await?);
    let sending = Arc::clone(&pairs);
    let op = move |shot: Shot| {
        let pairs = Arc::clone(&sending);
        async move { pairs.send(shot.n).await }
    };
    Ok(Ready::new(op, move |summary| async move {
        let verdict = pairs.check(summary.ok.values().sum()).await;
        drop(kept);
        verdict
    }))
}
