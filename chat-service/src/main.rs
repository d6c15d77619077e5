//! The chat service: settings, store, bus, serve. And two ways to look at it: the demonstration
//! (`demo`) and a terminal client (`chat`).

mod crowd;
mod demo;
mod terminal;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use chat_service::bus::Bus;
use chat_service::bus::local::Local;
use chat_service::bus::redis::RedisBus;
use chat_service::store::memory::Memory;
use chat_service::store::postgres::Postgres;
use chat_service::store::sqlite::Sqlite;
use chat_service::{Node, NodeSettings, Store, http};
use clap::Parser;
use service::{Clock, Readiness, ServerSettings, StoreUrl};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages arrive, once, in order, even when you were offline.
#[derive(Parser)]
#[command(name = "chat-service")]
enum Command {
    /// Serve the REST routes and the WebSocket
    Serve(Settings),
    /// Alice writes while Bob is offline, the server is killed, Bob comes back
    Demo,
    /// Thousands of idle connections to a server of their own: what one costs
    Crowd(crowd::Settings),
    /// Chat in the terminal
    Chat(terminal::Settings),
}

#[derive(clap::Args)]
struct Settings {
    #[command(flatten)]
    server: ServerSettings,
    /// Where the logs are kept: memory: | sqlite:PATH | postgres://...
    #[arg(long, env = "CHAT_STORE", default_value = "sqlite:chat.db", value_name = "URL")]
    store: StoreUrl,
    /// How servers tell each other: local: (one server) | redis://... | kafka://HOST:PORT,...
    /// (feature `kafka`)
    #[arg(long, env = "CHAT_BUS", default_value = "local:", value_name = "URL")]
    bus: String,
    /// This server's name on a bus that remembers who has heard what
    #[arg(long, env = "CHAT_NODE", default_value = "node", value_name = "NAME")]
    node: String,
    /// Messages per second and user
    #[arg(long, env = "CHAT_SENDS_PER_SECOND", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    sends_per_second: u32,
    /// New connections per minute and address; 0 for no limit, behind a proxy that limits
    #[arg(long, env = "CHAT_CONNECTS_PER_MINUTE", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    connects_per_minute: u32,
    /// How long a client may take nothing before it is closed as slow
    #[arg(long, env = "CHAT_SLOW_MS", default_value_t = 15_000,
          value_parser = clap::value_parser!(u64).range(100..=600_000))]
    slow_ms: u64,
    /// Hash passwords with the least work: for load generators, never for people
    #[arg(long, hide = true)]
    cheap_passwords: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve(settings) => serve(settings).await,
        Command::Demo => demo::run().await,
        Command::Crowd(settings) => crowd::run(settings).await,
        Command::Chat(settings) => terminal::run(settings).await,
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    service::telemetry::init(&settings.server);
    let unusable = settings.store.unusable();
    match settings.store.clone() {
        StoreUrl::Memory => on_store(Memory::default(), settings).await,
        StoreUrl::Sqlite(path) => {
            on_store(Sqlite::open(&path).await.context(unusable)?, settings).await
        }
        StoreUrl::Postgres(url) => {
            on_store(Postgres::connect(&url).await.context(unusable)?, settings).await
        }
        other => Err(other.unsupported(&["memory:", "sqlite:PATH", "postgres://..."]))?,
    }
}

async fn on_store<S: Store>(store: S, settings: Settings) -> anyhow::Result<()> {
    match settings.bus.as_str() {
        "local:" => on_bus(store, Local::default(), settings).await,
        url if url.starts_with("redis://") => {
            let bus = RedisBus::connect(url).await.with_context(|| unusable_bus(url))?;
            on_bus(store, bus, settings).await
        }
        #[cfg(feature = "kafka")]
        url if url.starts_with("kafka://") => {
            let brokers = url.trim_start_matches("kafka://").trim_end_matches('/');
            let bus = chat_service::bus::kafka::KafkaBus::connect(brokers, "chat", &settings.node)?;
            on_bus(store, bus, settings).await
        }
        url if url.starts_with("kafka://") => anyhow::bail!(
            "--bus {url}: this binary was built without Kafka; build it with --features kafka"
        ),
        other => anyhow::bail!("--bus {other}: accepted here: local: | redis://... | kafka://..."),
    }
}

/// What somebody can do whose servers cannot tell each other anything.
fn unusable_bus(url: &str) -> String {
    match url.starts_with("redis://") {
        true => format!("--bus {url}: is a Redis running there? `cargo x up` starts one"),
        false => format!("--bus {url}"),
    }
}

async fn on_bus<S: Store, B: Bus>(store: S, bus: B, settings: Settings) -> anyhow::Result<()> {
    let shutdown = settings.server.shutdown()?;
    let node_settings = NodeSettings {
        sends_per_second: settings.sends_per_second,
        send_burst: settings.sends_per_second.saturating_mul(5),
        connects_per_minute: settings.connects_per_minute,
        slow_ms: settings.slow_ms,
        cheap_passwords: settings.cheap_passwords,
        ..NodeSettings::default()
    };
    let (store, bus, clock) = (Arc::new(store), Arc::new(bus), Clock::system());
    let node = Node::start(store, bus, clock, node_settings, shutdown.closing()).await;
    let node = node.with_context(|| unusable_bus(&settings.bus))?;
    let router = http::router(node, Readiness::new(&shutdown));
    let router = service::harden(router, settings.server.limits());
    let listener = service::bind(settings.server.listen).await?;
    service::serve_with(listener, router, shutdown, settings.server.connection_limits()).await;
    Ok(())
}

/// A directory of its own for what must not be left behind.
fn scratch() -> anyhow::Result<(tempfile::TempDir, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("chat.db");
    Ok((directory, file))
}
