//! The rate-limiter service: settings, answer, serve.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Parser;
#[cfg(feature = "envoy")]
use rate_limiter::envoy::tree::Tree;
use rate_limiter::registry::{FileError, Registry};
use rate_limiter::store::coalesced::CoalescedStore;
use rate_limiter::store::gossip::GossipStore;
#[cfg(feature = "membership")]
use rate_limiter::store::gossip::membership;
use rate_limiter::store::lease::LeasedStore;
use rate_limiter::store::memory::Memory;
use rate_limiter::store::redis::{RedisSettings, RedisStore};
use rate_limiter::{Store, http, resp};
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
    /// Take tokens of busy callers in advance for so long, and spend them without asking the store
    #[arg(long, env = "RATE_LIMITER_LEASE_MS", value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=60_000))]
    lease_ms: Option<u64>,
    /// Speak the protocol of Redis here: CL.THROTTLE for clients of redis-cell
    #[arg(long, env = "RATE_LIMITER_RESP_LISTEN", value_name = "ADDR")]
    resp_listen: Option<SocketAddr>,
    /// Speak Envoy's RateLimitService v3 (gRPC without TLS) here
    #[cfg(feature = "envoy")]
    #[arg(long, env = "RATE_LIMITER_ENVOY_LISTEN", value_name = "ADDR", requires = "envoy_config")]
    envoy_listen: Option<SocketAddr>,
    /// Trees of descriptors, one file per domain, in YAML or TOML
    #[cfg(feature = "envoy")]
    #[arg(long, env = "RATE_LIMITER_ENVOY_CONFIG", value_name = "FILE,...", value_delimiter = ',')]
    envoy_config: Vec<PathBuf>,
    #[command(flatten)]
    gossip: GossipSettings,
}

/// Counting without a store.
#[derive(clap::Args)]
struct GossipSettings {
    /// Count here, and hear on this TCP address what other nodes count; instead of a store
    #[arg(long, env = "RATE_LIMITER_GOSSIP_LISTEN", value_name = "ADDR")]
    gossip_listen: Option<SocketAddr>,
    /// The other nodes: tell them what is counted here
    #[arg(
        long,
        env = "RATE_LIMITER_GOSSIP_PEERS",
        value_name = "ADDR,...",
        value_delimiter = ',',
        requires = "gossip_listen"
    )]
    gossip_peers: Vec<SocketAddr>,
    /// How often they are told
    #[arg(long, env = "RATE_LIMITER_GOSSIP_INTERVAL_MS", value_name = "MS", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    gossip_interval_ms: u64,
    /// Find the other nodes instead: UDP address for news of who is there
    #[cfg(feature = "membership")]
    #[arg(
        long,
        env = "RATE_LIMITER_GOSSIP_MEMBERS",
        value_name = "ADDR",
        requires = "gossip_listen",
        conflicts_with = "gossip_peers"
    )]
    gossip_members: Option<SocketAddr>,
    /// Some nodes that may be there already
    #[cfg(feature = "membership")]
    #[arg(
        long,
        env = "RATE_LIMITER_GOSSIP_SEEDS",
        value_name = "ADDR,...",
        value_delimiter = ',',
        requires = "gossip_members"
    )]
    gossip_seeds: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(settings) = Command::parse();
    service::telemetry::init(&settings.server);
    match &settings.store.store {
        StoreUrl::Memory if settings.gossip.gossip_listen.is_some() => gossiping(settings).await,
        _ if settings.gossip.gossip_listen.is_some() => {
            anyhow::bail!("--gossip-listen counts without a store: leave out --store")
        }
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
        true => leasing(CoalescedStore::new(store), settings).await,
        false => leasing(store, settings).await,
    }
}

async fn leasing<S: Store>(store: S, settings: Settings) -> anyhow::Result<()> {
    let Some(lease_ms) = settings.lease_ms else { return serve(store, settings).await };
    let store = Arc::new(LeasedStore::new(store, Duration::from_millis(lease_ms)));
    let house = Arc::clone(&store);
    let keeping = tokio::spawn(async move { house.keep_house().await });
    let served = serve(Arc::clone(&store), settings).await;
    keeping.abort();
    store.give_back_all().await;
    served
}

async fn gossiping(settings: Settings) -> anyhow::Result<()> {
    let gossip = &settings.gossip;
    let listen = gossip.gossip_listen.context("--gossip-listen")?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("--gossip-listen {listen}"))?;
    // A list that never changes: its sender may go.
    #[cfg_attr(not(feature = "membership"), expect(unused_mut, reason = "found by membership"))]
    let mut peers = tokio::sync::watch::channel(gossip.gossip_peers.clone()).1;
    #[cfg(feature = "membership")]
    let _member = match gossip.gossip_members {
        Some(udp) => {
            let counters = listener.local_addr()?;
            let member = membership::join(udp, gossip.gossip_seeds.clone(), counters).await?;
            peers = member.peers();
            Some(member)
        }
        None => None,
    };
    let interval = Duration::from_millis(gossip.gossip_interval_ms);
    serve(GossipStore::start(listener, peers, interval), settings).await
}

impl Settings {
    fn redis(&self) -> RedisSettings {
        let response_timeout = Duration::from_millis(self.store_timeout_ms);
        RedisSettings { response_timeout, wait_replicas: self.wait_replicas, learns: self.learn }
    }
}

async fn serve<S: Store>(store: S, settings: Settings) -> anyhow::Result<()> {
    let registry = Arc::new(Registry::new(store, settings.servers));
    // Every file is read before anything listens: a bad one leaves nothing half-started.
    #[cfg(feature = "envoy")]
    let trees = read_trees(&settings.envoy_config)?;
    if let Some(file) = settings.policies {
        let seen = changed_at(&file);
        registry.load_file(&file).with_context(|| format!("--policies {}", file.display()))?;
        tokio::spawn(reload(Arc::clone(&registry), file, seen));
    }
    let shutdown: Shutdown = settings.server.shutdown()?;
    if let Some(listen) = settings.resp_listen {
        let listener = std::net::TcpListener::bind(listen)
            .with_context(|| format!("--resp-listen {listen}"))?;
        tracing::info!("speaking RESP on {}", listener.local_addr()?);
        resp::serve_on_a_thread(listener, Arc::clone(&registry))?;
    }
    #[cfg(feature = "envoy")]
    if let Some(listen) = settings.envoy_listen {
        let limits = settings.server.connection_limits();
        speak_envoy(listen, trees, Arc::clone(&registry), shutdown.clone(), limits).await?;
    }
    must_hear_of_a_dead_store(registry.store(), &settings.store.store).await;
    let router = http::router(registry, Readiness::new(&shutdown));
    let router = service::harden(router, settings.server.limits());
    let listener = service::bind(settings.server.listen).await?;
    service::serve_with(listener, router, shutdown, settings.server.connection_limits()).await;
    Ok(())
}

/// A store that is down is what `on_store_failure` is for, and so no reason not to start. But a
/// mistyped URL looks the same, and would be found out by the limits that are not kept.
async fn must_hear_of_a_dead_store<S: Store>(store: &S, url: &StoreUrl) {
    if let Err(error) = store.ping().await {
        tracing::warn!(
            "{} ({error}). Until it answers, `on_store_failure` of each policy decides. \
             `--store memory:` needs no server",
            url.unusable()
        );
    }
}

#[cfg(feature = "envoy")]
fn read_trees(files: &[PathBuf]) -> anyhow::Result<Vec<Tree>> {
    let mut trees: Vec<Tree> = Vec::new();
    for file in files {
        let flag = format!("--envoy-config {}", file.display());
        let tree = Tree::read(file).map_err(anyhow::Error::from_boxed).context(flag.clone())?;
        let is_new = trees.iter().all(|other| other.domain != tree.domain);
        anyhow::ensure!(is_new, "{flag}: domain {:?} is in another file, too", tree.domain);
        trees.push(tree);
    }
    Ok(trees)
}

#[cfg(feature = "envoy")]
async fn speak_envoy<S: Store>(
    listen: SocketAddr,
    trees: Vec<Tree>,
    registry: Arc<Registry<S>>,
    shutdown: Shutdown,
    limits: service::ConnectionLimits,
) -> anyhow::Result<()> {
    let envoy = Arc::new(rate_limiter::envoy::Envoy::new(registry, trees));
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("--envoy-listen {listen}"))?;
    tracing::info!("speaking Envoy's RateLimitService on {}", listener.local_addr()?);
    let router = rate_limiter::envoy::router(envoy);
    tokio::spawn(service::serve_with(listener, router, shutdown, limits));
    Ok(())
}

fn changed_at(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

/// Reads the policy file whenever it is not what it was when it was `seen`. A bad file is refused,
/// once, and the policies that were enforced before it stay; so they do without any file.
async fn reload<S: Store>(registry: Arc<Registry<S>>, file: PathBuf, mut seen: Option<SystemTime>) {
    let mut interval = tokio::time::interval(RELOAD_INTERVAL);
    loop {
        interval.tick().await;
        let now = changed_at(&file);
        if now == seen {
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
