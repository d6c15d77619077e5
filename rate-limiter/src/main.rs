//! The rate-limiter service: settings, answer, serve.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rate_limiter::registry::{FileError, Registry};
use rate_limiter::store::coalesced::CoalescedStore;
use rate_limiter::store::memory::Memory;
use rate_limiter::store::redis::{RedisSettings, RedisStore};
use rate_limiter::{Store, http};
use service::{Readiness, ServerSettings, Shutdown, StoreSettings, StoreUrl};

/// How often the policy file is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);

/// A distributed rate limiter.
#[derive(Parser)]
#[command(name = "rate-limiter")]
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
    /// TOML file with [policies.NAME] tables; read again when it changes
    #[arg(long, env = "RATE_LIMITER_POLICIES", value_name = "FILE")]
    policies: Option<PathBuf>,
    /// Servers that share the limits: the local share of each is this fraction
    #[arg(long, env = "RATE_LIMITER_SERVERS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    servers: u32,
    /// Time after which a silent Redis counts as down
    #[arg(long, env = "RATE_LIMITER_STORE_TIMEOUT_MS", default_value_t = 250,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    store_timeout_ms: u64,
    /// Replicas of Redis that must have a charge before it is acknowledged; 0 does not wait
    #[arg(long, env = "RATE_LIMITER_WAIT_REPLICAS", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=16))]
    wait_replicas: u32,
    /// Callers that a new Redis primary has never seen start empty, not full
    #[arg(long, env = "RATE_LIMITER_LEARN")]
    learn: bool,
    /// While a call to Redis is in flight, gather the checks that come and send them as one
    #[arg(long, env = "RATE_LIMITER_COALESCE")]
    coalesce: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(settings) = Command::parse();
    service::telemetry::init(&settings.server);
    match &settings.store.store {
        StoreUrl::Memory => serve(Memory::default(), settings).await,
        StoreUrl::Redis(url) => in_redis(RedisStore::with(url, settings.redis())?, settings).await,
        StoreUrl::RedisCluster(urls) => {
            in_redis(RedisStore::cluster(urls, settings.redis())?, settings).await
        }
        other => Err(other.unsupported(&["memory:", "redis://...", "redis-cluster://h1,h2,h3"]))?,
    }
}

async fn in_redis(store: RedisStore, settings: Settings) -> anyhow::Result<()> {
    match settings.coalesce {
        true => serve(CoalescedStore::new(store), settings).await,
        false => serve(store, settings).await,
    }
}

impl Settings {
    fn redis(&self) -> RedisSettings {
        let response_timeout = Duration::from_millis(self.store_timeout_ms);
        RedisSettings { response_timeout, wait_replicas: self.wait_replicas, learns: self.learn }
    }
}

async fn serve<S: Store>(store: S, settings: Settings) -> anyhow::Result<()> {
    let registry = Arc::new(Registry::new(store, settings.servers));
    if let Some(file) = settings.policies {
        registry.load_file(&file).with_context(|| format!("--policies {}", file.display()))?;
        tokio::spawn(reload(Arc::clone(&registry), file));
    }
    let shutdown: Shutdown = settings.server.shutdown()?;
    let router = http::router(registry, Readiness::new(&shutdown));
    let router = service::harden(router, settings.server.limits());
    let listener = service::bind(settings.server.listen).await?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    service::serve_with(listener, router, shutdown, settings.server.connection_limits()).await;
    Ok(())
}

/// Reads the policy file whenever it changes. A bad file is refused, once, and the policies that
/// were enforced before it stay.
async fn reload<S: Store>(registry: Arc<Registry<S>>, file: PathBuf) {
    let changed_at = || std::fs::metadata(&file).and_then(|meta| meta.modified()).ok();
    let mut seen = changed_at();
    let mut interval = tokio::time::interval(RELOAD_INTERVAL);
    loop {
        interval.tick().await;
        let now = changed_at();
        if now.is_none() || now == seen {
            continue;
        }
        seen = now;
        match registry.load_file(&file) {
            Ok(policies) => tracing::info!(policies, "policies reloaded"),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the policy file is refused; the old policies stay")
            }
        }
    }
}

fn chain(error: &FileError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
