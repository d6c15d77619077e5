//! The inventory service: settings, answer, serve.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use inventory_locking::answer::memory::Memory;
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
    /// How stock is taken. sqlite: optimistic, pessimistic, conditional, batching
    #[arg(long, env = "INVENTORY_STRATEGY", default_value = "batching")]
    strategy: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(settings) = Command::parse();
    service::telemetry::init(&settings.server);
    match &settings.store.store {
        StoreUrl::Memory => serve(Memory::new(Clock::system()), &settings).await,
        StoreUrl::Sqlite(path) => serve(open_sqlite(path, &settings.strategy)?, &settings).await,
        other => Err(other.unsupported(&["memory:", "sqlite:PATH"]))?,
    }
}

fn open_sqlite(path: &Path, strategy: &str) -> anyhow::Result<Sqlite> {
    let strategy = named(&sqlite::Strategy::ALL, strategy)?;
    Sqlite::open(path, strategy, Clock::system())
        .with_context(|| format!("--store sqlite:{}", path.display()))
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
    tracing::info!("listening on http://{}", listener.local_addr()?);
    service::serve_with(listener, router, shutdown, settings.server.connection_limits()).await;
    Ok(())
}
