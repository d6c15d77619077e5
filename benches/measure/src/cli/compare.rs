//! `compare`: all answers of a system under the same load, side by side.

use std::process::ExitCode;

use anyhow::Context;

use crate::{Comparison, Length, Options, System, self_check};

/// What to compare, and how long.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The system, such as `rate-limiter` (or `harness`: the measuring itself).
    pub system: String,
    #[command(flatten)]
    how: How,
}

/// How much time it may take, and what to leave out.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Few short rounds: to see that it runs, not to quote.
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// Many rounds: narrow intervals.
    #[arg(long)]
    long: bool,
    /// Only scenarios or subjects whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Decides keys, arrivals and the bootstrap.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Compares the answers of one of `systems`, or the harness with what it promises.
pub async fn run(systems: Vec<System>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let known = || systems.iter().filter(|system| system.comparison.is_some());
    let comparison = match arguments.system.as_str() {
        self_check::NAME => Some(self_check::comparison()),
        name => known().find(|system| system.name == name).and_then(|system| system.comparison),
    };
    let comparison = comparison.with_context(|| {
        let names: Vec<_> = known().map(|system| system.name).collect();
        format!("no comparison {} (there are: {})", arguments.system, names.join(", "))
    })?;
    run_one(&comparison, arguments.how).await
}

/// The same when there is nothing to choose from.
pub(super) async fn run_one(comparison: &Comparison, arguments: How) -> anyhow::Result<ExitCode> {
    let length = match (arguments.quick, arguments.long) {
        (true, _) => Length::Quick,
        (_, true) => Length::Long,
        _ => Length::Normal,
    };
    let options = Options { length, only: arguments.only, seed: arguments.seed };
    let tables = crate::compare(comparison, options).await?;
    let invalid = tables.iter().flat_map(|table| &table.rows).filter(|row| !row.is_valid()).count();
    if invalid > 0 {
        println!("{invalid} rows are invalid and were not charted.");
    }
    Ok(ExitCode::SUCCESS)
}
