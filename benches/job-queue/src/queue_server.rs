//! `queue-server`, hidden: the job queue in a process of its own, for the question that kills it
//! and the comparison that gives it a processor of its own. As `job-queue serve`, from the one
//! program that is there already.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use job_queue::clock::Clock;
use job_queue::http::{self, Metered};
use job_queue::sqs::ACCOUNT_DEFAULT;
use job_queue::store::memory::Memory;
use job_queue::store::postgres::Postgres;
use job_queue::store::redis::Redis;
use job_queue::store::sqlite::Sqlite;
use service::{ConnectionLimits, Limits, Shutdown, StoreUrl};

/// Where to listen, and on which store.
#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    store: StoreUrl,
}

/// Serves until it is told to stop.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    match &arguments.store {
        StoreUrl::Memory => serve(&arguments, Memory::new(clock)).await,
        StoreUrl::Sqlite(path) => serve(&arguments, Sqlite::open(path, clock).await?).await,
        StoreUrl::Postgres(url) => serve(&arguments, Postgres::connect(url, clock).await?).await,
        StoreUrl::Redis(url) => serve(&arguments, Redis::connect(url, clock).await?).await,
        other => anyhow::bail!("--store {other} is not for a queue"),
    }
}

async fn serve<Q: Metered>(arguments: &Arguments, queues: Q) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let router = http::router(queues, ACCOUNT_DEFAULT, &shutdown);
    let router = service::harden(router, http::limits(Limits::default()));
    let listener = service::bind(arguments.listen).await?;
    service::serve_with(listener, router, shutdown, ConnectionLimits::default()).await;
    Ok(ExitCode::SUCCESS)
}
