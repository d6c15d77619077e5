//! `lru-cache simulate` settles which policy to use; `lru-cache serve` is a cache you can talk to.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use foldhash::fast::RandomState;
use lru_cache::{
    Cache, LruCache, PolicyCache,
    clock::SystemClock,
    expiry::Timed,
    policy,
    resp::{
        keyspace::{Bytes, Capacity, Keyspace, Scale},
        server,
    },
    sim::{
        report,
        run::{self, PolicyName, Unit},
        trace::{self, Format},
    },
};
use tokio::signal::unix::{SignalKind, signal};

/// Caches: an exact LRU, its relatives, a simulator and a server.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Be a cache server that speaks RESP.
    Serve(Serve),
    /// Send a trace through policies and print the hit ratios.
    Simulate(Simulate),
}

#[derive(Args)]
struct Serve {
    /// Where to listen.
    #[arg(long, env = "LRU_CACHE_LISTEN", default_value = "127.0.0.1:6380")]
    listen: SocketAddr,
    /// How much to keep: a number of entries, or of bytes with kb, mb or gb.
    #[arg(long, env = "LRU_CACHE_CAPACITY", default_value = "256mb", value_parser = capacity)]
    capacity: Capacity,
    /// What to evict.
    #[arg(long, env = "LRU_CACHE_POLICY", default_value = "lru", value_parser = online_policy)]
    policy: PolicyName,
}

#[derive(Args)]
struct Simulate {
    /// The trace, compressed (gz, xz, zst) or not.
    #[arg(long)]
    trace: PathBuf,
    /// What one record looks like.
    #[arg(long, value_enum, default_value = "auto")]
    format: Format,
    /// Capacities to try.
    #[arg(long, required = true, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    capacity: Vec<u64>,
    /// Count capacities in bytes, by the sizes in the trace, instead of in entries.
    #[arg(long)]
    bytes: bool,
    /// Policies to compare, or `all`.
    #[arg(long, required = true, value_delimiter = ',', value_parser = policies)]
    policy: Vec<Vec<PolicyName>>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw the curves into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

fn policies(name: &str) -> Result<Vec<PolicyName>, String> {
    match name {
        "all" => Ok(PolicyName::ALL.to_vec()),
        name => name.parse().map(|policy| vec![policy]),
    }
}

fn capacity(text: &str) -> Result<Capacity, String> {
    let lower = text.to_ascii_lowercase();
    let units = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)];
    let unit = units.into_iter().find(|(suffix, _)| lower.ends_with(suffix));
    let (digits, bytes) = match unit {
        Some((suffix, bytes)) => (lower.strip_suffix(suffix).unwrap_or(&lower), Some(bytes)),
        None => (lower.as_str(), None),
    };
    let wrong = || format!("{text:?} is neither a number of entries nor of kb, mb or gb");
    let amount = digits.parse::<u64>().ok().filter(|&amount| amount > 0).ok_or_else(wrong)?;
    match bytes {
        Some(bytes) => amount.checked_mul(bytes).map(Capacity::Bytes).ok_or_else(wrong),
        None => Ok(Capacity::Entries(amount)),
    }
}

fn online_policy(name: &str) -> Result<PolicyName, String> {
    match name.parse()? {
        PolicyName::Opt => Err("opt needs to know the future; it is for `simulate`".into()),
        policy => Ok(policy),
    }
}

/// Runs the server with the policy's own type: nothing is dispatched per request.
async fn serve(settings: &Serve) -> anyhow::Result<()> {
    macro_rules! serve_policy {
        ($policy:ty) => {
            listen(settings, |capacity, scale| {
                PolicyCache::<_, _, $policy, _>::with_parts(capacity, scale, RandomState::default())
            })
            .await
        };
    }
    match settings.policy {
        PolicyName::Lru => listen(settings, LruCache::weighted).await,
        PolicyName::Fifo => serve_policy!(policy::Fifo),
        PolicyName::Clock => serve_policy!(policy::Clock),
        PolicyName::Lfu => serve_policy!(policy::Lfu),
        PolicyName::Sieve => serve_policy!(policy::Sieve),
        PolicyName::S3Fifo => serve_policy!(policy::S3Fifo),
        PolicyName::Slru => serve_policy!(policy::Slru),
        PolicyName::Arc => serve_policy!(policy::Arc),
        PolicyName::WTinyLfu => serve_policy!(policy::WTinyLfu),
        PolicyName::Opt => unreachable!("refused with the arguments"),
    }
}

async fn listen<C: Cache<Bytes, Timed<Bytes>> + Send + 'static>(
    settings: &Serve,
    make: impl Fn(u64, Scale) -> C + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let address = settings.listen;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; --listen chooses another address"))?;
    let keyspace = Arc::new(Keyspace::new(settings.capacity, SystemClock::default(), make));
    eprintln!("{} cache, {:?}, on {}", settings.policy, settings.capacity, listener.local_addr()?);
    let stop = async {
        let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    server::serve(listener, keyspace, stop).await;
    Ok(())
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(settings) => tokio::runtime::Runtime::new()
            .context("cannot start the runtime")
            .and_then(|runtime| runtime.block_on(serve(&settings))),
        Command::Simulate(settings) => simulate(&settings),
    };
    // A wrong line in a trace is no crash: one line says which, without a backtrace.
    done.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn simulate(settings: &Simulate) -> anyhow::Result<()> {
    let path = settings.trace.display();
    let requests =
        trace::read(&settings.trace, settings.format).with_context(|| format!("{path}"))?;
    anyhow::ensure!(!requests.is_empty(), "{path}: there is no request in it");
    let unit = if settings.bytes { Unit::Bytes } else { Unit::Entries };
    let mut outcomes = Vec::new();
    for &policy in settings.policy.iter().flatten() {
        for &capacity in &settings.capacity {
            let progress = |done| say_progress(policy, capacity, done, requests.len());
            outcomes.push(run::simulate(policy, capacity, unit, &requests, progress));
        }
    }
    let printed = if settings.json {
        serde_json::to_string_pretty(&outcomes)? + "\n"
    } else {
        report::table(&outcomes)
    };
    std::io::stdout().write_all(printed.as_bytes())?;
    if let Some(file) = &settings.svg {
        let title = settings.trace.file_name().unwrap_or_default().to_string_lossy();
        std::fs::write(file, report::svg(&title, &outcomes))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Shorter traces are done before anybody could read a progress line.
const LONG_TRACE: usize = 500_000;

/// A line that overwrites itself, on standard error, so that piped output stays clean.
fn say_progress(policy: PolicyName, capacity: u64, done: usize, total: usize) {
    if total >= LONG_TRACE && std::io::stderr().is_terminal() {
        let percent = done * 100 / total;
        eprint!("\r{policy:<10} {capacity:>12} {percent:>3}%\r");
    }
}
