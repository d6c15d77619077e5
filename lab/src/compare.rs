//! `lab compare`: all answers of a system under the same load, side by side.

use std::process::ExitCode;

use anyhow::Context;
use benches::{Length, Options};

/// What to compare, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The system, such as `rate-limiter` (or `harness`: the measuring itself).
    system: String,
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

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let comparison = benches::comparison(&arguments.system).with_context(|| {
        let known: Vec<_> = benches::systems()
            .into_iter()
            .filter(|system| system.comparison.is_some())
            .map(|system| system.name)
            .collect();
        format!("no comparison {} (there are: {})", arguments.system, known.join(", "))
    })?;
    let length = match (arguments.quick, arguments.long) {
        (true, _) => Length::Quick,
        (_, true) => Length::Long,
        _ => Length::Normal,
    };
    let options = Options { length, only: arguments.only, seed: arguments.seed };
    let tables = benches::compare(&comparison, options).await?;
    let invalid = tables.iter().flat_map(|table| &table.rows).filter(|row| !row.is_valid()).count();
    if invalid > 0 {
        println!("{invalid} rows are invalid and were not charted.");
    }
    Ok(ExitCode::SUCCESS)
}
