//! The answers of the inventory side by side: without a server, over HTTP, when all is sold, and
//! at every crossing of contention, clients and the price of a flush.

use std::sync::Arc;
use std::time::Duration;

use inventory_locking::answer::gated::Gated;
use inventory_locking::answer::gated::gate::{self, Gate};
use inventory_locking::answer::postgres::{self, Postgres};
use inventory_locking::answer::sqlite::{self, Sqlite};
use service::Clock;

use super::crowd::{Counted, PLENTY};
use super::{cap, matrix, over_http};
use measure::harness::{ClosedLoop, Keys};
use measure::{Bench, Comparison, Scenario, Subject};

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "durable reservations of one unit: every way to lock, over contention, clients and \
                 the price of a flush";
    Comparison { system: "inventory-locking", about, run: |bench| Box::pin(compare(bench)) }
}

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    without_a_server(&bench).await?;
    let options = infra::PostgresOptions {
        profile: infra::Profile::SlowFsync(Duration::ZERO),
        ..Default::default()
    };
    let server = Arc::new(infra::postgres_with(options).await?);
    bench.version("postgres", server.version());
    let redis = Arc::new(infra::redis().await?);
    bench.version("redis", redis.version());
    print_flush_price()?;
    over_http::compare(&bench, &server).await?;
    sold_out(&bench, &server, &redis).await?;
    cap::compare(&bench, &server).await?;
    matrix::compare(&bench, &server).await
}

/// The usual shape of a scenario here.
pub(super) fn scenario(
    bench: &Bench,
    name: &'static str,
    about: &str,
    baseline: &'static str,
) -> Scenario {
    Scenario {
        rounds: Some(bench.pick(1, 3, 8)),
        warm_up: Duration::from_millis(bench.pick(150, 250, 500)),
        ..Scenario::new(name, about, baseline)
    }
}

/// The usual load.
pub(super) fn load(bench: &Bench, workers: usize) -> ClosedLoop {
    let duration = Duration::from_millis(bench.pick(500, 800, 5_000));
    ClosedLoop { workers, duration, seed: bench.seed() }
}

async fn without_a_server(bench: &Bench) -> anyhow::Result<()> {
    for (name, workers) in [("sqlite-hot-32", 32), ("sqlite-hot-512", 512)] {
        let about = "reserve one unit of one hot SKU, durable in one file";
        let scenario = scenario(bench, name, about, "sqlite/pessimistic");
        let subjects = sqlite::Strategy::ALL.into_iter().map(sqlite_subject).collect();
        bench.closed(scenario, load(bench, workers), subjects).await?;
    }
    Ok(())
}

fn sqlite_subject((name, strategy): (&'static str, sqlite::Strategy)) -> Subject {
    Subject::answer(format!("sqlite/{name}"), move || async move {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("inventory.db");
        let inventory = Sqlite::open(&path, strategy, Clock::system())?;
        let counted = Counted::stocked(inventory, Keys::uniform(1), PLENTY).await?;
        Ok(counted.ready(move |_, _| drop(directory)))
    })
}

/// How long the gate of the comparison remembers keys: less than the warm-up, so that what is
/// measured is a gate that has been there for longer than any repeat.
const BRIEF_MEMORY_MS: u64 = 100;

/// What those cost who come too late: nearly all of a flash sale.
async fn sold_out(
    bench: &Bench,
    server: &Arc<infra::Postgres>,
    redis: &Arc<infra::Redis>,
) -> anyhow::Result<()> {
    let about = "a hundred units, sold in the warm-up; then every answer is a refusal. A gate that \
                 is young looks up the key of each, for it could be a repeat";
    let scenario = scenario(bench, "sold-out", about, "conditional");
    let mut subjects = Vec::new();
    for (name, strategy) in [
        ("conditional", postgres::Strategy::Conditional),
        ("units", postgres::Strategy::Units),
        ("batching", postgres::Strategy::Batching),
    ] {
        let server = Arc::clone(server);
        subjects.push(Subject::answer(name, move || {
            let server = Arc::clone(&server);
            async move {
                let (inventory, database) = fresh(&server, strategy).await?;
                let counted = Counted::stocked(inventory, Keys::uniform(1), 100).await?;
                Ok(counted.ready(move |_, _| drop(database)))
            }
        }));
    }
    for (name, key_memory_ms) in [("gated", BRIEF_MEMORY_MS), ("gated, young", gate::KEY_MEMORY_MS)]
    {
        let (server, redis) = (Arc::clone(server), Arc::clone(redis));
        subjects.push(Subject::answer(name, move || {
            let (server, redis) = (Arc::clone(&server), Arc::clone(&redis));
            async move {
                let (truth, database) = fresh(&server, postgres::Strategy::Conditional).await?;
                let prefix = format!("{{{}}}", database.name());
                let settings = gate::Settings { prefix, key_memory_ms, ..Default::default() };
                let inventory = Gated::new(truth, Gate::connect(redis.url(), settings)?);
                let counted = Counted::stocked(inventory, Keys::uniform(1), 100).await?;
                Ok(counted.ready(move |_, _| drop(database)))
            }
        }));
    }
    bench.closed(scenario, load(bench, 32), subjects).await
}

/// An inventory in a database of its own.
pub(super) async fn fresh(
    server: &infra::Postgres,
    strategy: postgres::Strategy,
) -> anyhow::Result<(Postgres, infra::Database)> {
    let database = server.database("inventory_bench", postgres::SCHEMA).await?;
    let settings = postgres::Settings::default();
    Ok((Postgres::connect(database.url(), strategy, settings).await?, database))
}

/// What a flush costs here, from Postgres's own tool: without it no figure below means anything.
fn print_flush_price() -> anyhow::Result<()> {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let tool = found.map(|entry| entry.path().join("bin/pg_test_fsync")).find(|path| path.exists());
    let Some(tool) = tool else {
        println!("pg_test_fsync is not installed: the price of a native flush is not known\n");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("flush");
    let output = std::process::Command::new(tool).args(["-s", "1", "-f"]).arg(file).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.trim_start().starts_with("fdatasync"));
    println!("pg_test_fsync: {}\n", line.unwrap_or("gave no answer").trim());
    Ok(())
}
