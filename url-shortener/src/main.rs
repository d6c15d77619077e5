//! The url-shortener service: settings, answer, serve.

use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use rate_limiter::{AlgorithmName, Policy};
use service::{Clock, Readiness, ServerSettings, StoreSettings, StoreUrl};
use url_shortener::codes::Scheme;
use url_shortener::http::{self, Api, ApiOptions, BULK_BYTES_MAX, Redirects};
use url_shortener::keys;
use url_shortener::shortener::{Options, Shortener};
use url_shortener::store::{Store, memory::Memory, postgres::Postgres, sqlite::Sqlite};
use url_shortener::target_url::UrlPolicy;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A URL shortener.
#[derive(Parser)]
#[expect(clippy::large_enum_variant, reason = "parsed once")]
#[command(name = "url-shortener")]
enum Command {
    /// Serve the HTTP API and the redirects
    Serve(Settings),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(KeyCommand),
}

#[derive(clap::Args)]
struct Settings {
    #[command(flatten)]
    server: ServerSettings,
    #[command(flatten)]
    store: StoreSettings,
    /// What short URLs start with; http://ADDR of --listen when left out
    #[arg(long, env = "URL_SHORTENER_BASE_URL", value_name = "URL")]
    base_url: Option<url::Url>,
    /// More hosts of this shortener, which no link may lead to
    #[arg(long, env = "URL_SHORTENER_OWN_HOSTS", value_delimiter = ',', value_name = "HOST")]
    own_hosts: Vec<String>,
    /// Let everybody use the API without a key
    #[arg(long, env = "URL_SHORTENER_OPEN")]
    open: bool,
    /// How codes are made
    #[arg(long, env = "URL_SHORTENER_CODES", value_enum, default_value_t)]
    codes: Scheme,
    /// How long they are
    #[arg(long, env = "URL_SHORTENER_CODE_LENGTH", default_value_t = 7)]
    code_length: usize,
    /// Hold at most so many MiB of links in memory and ask the store for the others; all links are
    /// held when left out
    #[arg(long, env = "URL_SHORTENER_RECENT_MIB", value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    recent_mib: Option<u64>,
    /// Redirect only when the click is on disk
    #[arg(long, env = "URL_SHORTENER_DURABLE_CLICKS")]
    durable_clicks: bool,
    /// API requests per second and key; ten times as many at once
    #[arg(long, env = "URL_SHORTENER_REQUESTS_PER_SECOND", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests_per_second: u32,
    /// Unknown codes that one address may try per minute
    #[arg(long, env = "URL_SHORTENER_UNKNOWN_CODES_PER_MINUTE", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    unknown_codes_per_minute: u32,
}

#[derive(clap::Subcommand)]
enum KeyCommand {
    /// Make a key and print it; it is shown this once
    Add {
        #[command(flatten)]
        store: StoreSettings,
        /// What its holder is called
        name: String,
    },
    /// List the keys by id
    List {
        #[command(flatten)]
        store: StoreSettings,
    },
    /// Revoke a key; running servers notice within a second
    Revoke {
        #[command(flatten)]
        store: StoreSettings,
        /// Its id
        id: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve(settings) => {
            service::telemetry::init(&settings.server);
            match &settings.store.store {
                StoreUrl::Memory => serve(Memory::default(), settings).await,
                StoreUrl::Sqlite(path) => {
                    let store = Sqlite::open(path);
                    serve(store.with_context(|| settings.store.store.unusable())?, settings).await
                }
                StoreUrl::Postgres(url) => {
                    let store = Postgres::connect(url).await;
                    serve(store.with_context(|| settings.store.store.unusable())?, settings).await
                }
                other => Err(other.unsupported(&ACCEPTED))?,
            }
        }
        Command::Keys(command) => {
            let (KeyCommand::Add { store, .. }
            | KeyCommand::List { store }
            | KeyCommand::Revoke { store, .. }) = &command;
            match &store.store {
                StoreUrl::Sqlite(path) => {
                    let opened = Sqlite::open(path).with_context(|| store.store.unusable())?;
                    manage_keys(&opened, command).await
                }
                StoreUrl::Postgres(url) => {
                    let opened = Postgres::connect(url).await;
                    let opened = opened.with_context(|| store.store.unusable())?;
                    manage_keys(&opened, command).await
                }
                other => Err(other.unsupported(&ACCEPTED[1..]))?,
            }
        }
    }
}

const ACCEPTED: [&str; 3] = ["memory:", "sqlite:PATH", "postgres://..."];

async fn serve<S: Store>(store: S, settings: Settings) -> anyhow::Result<()> {
    let listener = service::bind(settings.server.listen).await?;
    let base_url = match &settings.base_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("http://{}", listener.local_addr()?),
    };
    let own = url::Url::parse(&base_url)?.host_str().unwrap_or_default().to_owned();
    let own_hosts = settings.own_hosts.iter().map(String::as_str).chain([own.as_str()]);
    let options = Options {
        policy: UrlPolicy::new(own_hosts)?,
        scheme: settings.codes,
        code_length: settings.code_length,
        durable_clicks: settings.durable_clicks,
        recent_bytes: settings.recent_mib.map(|mib| mib * 1024 * 1024),
        clock: Clock::system(),
    };
    let store = Arc::new(store);
    if !settings.open && store.keys().await?.is_empty() {
        let (key, record) = keys::new_key("first", Clock::system().now_ms()).await?;
        store.add_key(record).await?;
        println!("there was no API key; this one was made and is shown once: {key}");
    }
    let shutdown = settings.server.shutdown()?;
    let shortener = Shortener::start(store, options).await?;
    shortener.run(&shutdown);
    tracing::info!(links = shortener.lookup().len(), "ready");
    let per_key = settings.requests_per_second;
    let unknown = settings.unknown_codes_per_minute;
    let bucket = AlgorithmName::TokenBucket;
    let api = Api::new(
        shortener,
        ApiOptions {
            base_url,
            open: settings.open,
            per_key: Policy::single("per-key", bucket, per_key, 1_000, per_key.checked_mul(10))?,
            unknown_codes: Policy::single("unknown-codes", bucket, unknown, 60_000, None)?,
            proxies: settings.server.trusted_proxies.clone(),
        },
    );
    let mut limits = settings.server.limits();
    limits.body_bytes = limits.body_bytes.max(BULK_BYTES_MAX);
    let router = service::harden(http::router(&api, Readiness::new(&shutdown)), limits);
    let connections = settings.server.connection_limits();
    service::serve_first(listener, Redirects(api), router, shutdown, connections).await;
    Ok(())
}

async fn manage_keys(store: &impl Store, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Add { name, .. } => {
            let (key, record) = keys::new_key(&name, Clock::system().now_ms()).await?;
            store.add_key(record).await?;
            println!("{key}");
        }
        KeyCommand::List { .. } => {
            for key in store.keys().await? {
                println!("{}  {}", key.id, key.name);
            }
        }
        KeyCommand::Revoke { id, .. } => match store.revoke_key(&id).await? {
            true => println!("revoked {id}"),
            false => anyhow::bail!("there is no key with the id {id}"),
        },
    }
    Ok(())
}
