//! `lru-cache simulate` settles which policy to use; `lru-cache serve` is a cache you can talk to.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use lru_cache::sim::{
    report,
    run::{self, PolicyName, Unit},
    trace::{self, Format},
};

/// Caches: an exact LRU, its relatives, a simulator and a server.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send a trace through policies and print the hit ratios.
    Simulate(Simulate),
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

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Simulate(settings) => simulate(&settings),
    }
}

fn simulate(settings: &Simulate) -> anyhow::Result<()> {
    let path = settings.trace.display();
    let requests =
        trace::read(&settings.trace, settings.format).with_context(|| format!("{path}"))?;
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
