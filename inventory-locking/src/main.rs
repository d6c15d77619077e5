//! The inventory service: settings, answer, serve.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use inventory_locking::answer::any::Any;
use inventory_locking::answer::gated::Gated;
use inventory_locking::answer::gated::gate::{self, Gate};
use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::postgres::{self, Postgres};
use inventory_locking::answer::sqlite::{self, Sqlite};
use inventory_locking::{Inventory, http, sweeper};
use service::{Clock, Readiness, ServerSettings, StoreSettings, StoreUrl};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An inventory that never oversells.
#[derive(Parser)]
#[command(name = "inventory-locking")]
enum Command {
    /// Serve the HTTP API
    Serve(Settings),
}

#[derive(clap::Args)]
struct Settings {
    #[command(flatten)]
    server: ServerSettings,
    #[command(flatten)]
    store: StoreSettings,
    /// How stock is taken: optimistic, pessimistic, conditional or batching; on Postgres also
    /// pessimistic-nowait, single-statement, serializable, advisory, buckets, units and naive
    /// (which is wrong)
    #[arg(long, env = "INVENTORY_STRATEGY", default_value = "batching")]
    strategy: String,
    /// Connections to Postgres
    #[arg(long, env = "INVENTORY_CONNECTIONS", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// How many may ask Postgres for the same SKU at once; the others wait outside the pool.
    /// 16 when not given, or 1 for strategies that fail by conflict
    #[arg(long, env = "INVENTORY_PER_SKU",
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    per_sku: Option<u16>,
    /// A Redis in front of the database that turns away those who come too late:
    /// redis://host:port
    #[arg(long, env = "INVENTORY_GATE", value_name = "URL")]
    gate: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(settings) = Command::parse();
    service::telemetry::init(&settings.server);
    let inventory = match &settings.store.store {
        StoreUrl::Memory => Any::Memory(Memory::new(Clock::system())),
        StoreUrl::Sqlite(path) => Any::Sqlite(open_sqlite(path, &settings)?),
        StoreUrl::Postgres(url) => Any::Postgres(open_postgres(url, &settings).await?),
        other => Err(other.unsupported(&["memory:", "sqlite:PATH", "postgres://..."]))?,
    };
    let inventory = match &settings.gate {
        Some(url) => gated(inventory, url)?,
        None => inventory,
    };
    serve(inventory, &settings).await
}

fn gated(inventory: Any, url: &str) -> anyhow::Result<Any> {
    let gate = Gate::connect(url, gate::Settings::default()).context("--gate")?;
    match inventory {
        Any::Sqlite(sqlite) => Ok(Any::GatedSqlite(Gated::new(sqlite, gate))),
        Any::Postgres(postgres) => Ok(Any::GatedPostgres(Gated::new(postgres, gate))),
        _ => anyhow::bail!("--gate: there is nothing to spare in memory:"),
    }
}

async fn open_postgres(url: &str, settings: &Settings) -> anyhow::Result<Postgres> {
    let strategy = named(&postgres::Strategy::ALL, &settings.strategy)?;
    let &Settings { connections, per_sku, .. } = settings;
    let per_sku = per_sku.map_or_else(|| strategy.per_sku(), usize::from);
    let limits = postgres::Settings { connections, per_sku };
    let opened = Postgres::connect(url, strategy, limits).await;
    opened.with_context(|| settings.store.store.unusable())
}

fn open_sqlite(path: &Path, settings: &Settings) -> anyhow::Result<Sqlite> {
    let strategy = named(&sqlite::Strategy::ALL, &settings.strategy)?;
    Sqlite::open(path, strategy, Clock::system()).with_context(|| settings.store.store.unusable())
}

fn named<T: Copy>(all: &[(&'static str, T)], name: &str) -> anyhow::Result<T> {
    let found = all.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy);
    found.with_context(|| {
        let known: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        format!("--strategy {name}: on this store there are {}", known.join(", "))
    })
}

async fn serve<I: Inventory>(inventory: I, settings: &Settings) -> anyhow::Result<()> {
    let inventory = Arc::new(inventory);
    let shutdown = settings.server.shutdown()?;
    tokio::spawn(sweeper::run(Arc::clone(&inventory)));
    let router = http::router(inventory, Readiness::new(&shutdown));
    let router = service::harden(router, settings.server.limits());
    let listener = service::bind(settings.server.listen).await?;
    service::serve_with(listener, router, shutdown, settings.server.connection_limits()).await;
    Ok(())
}
