//! `lab tables`: figures enter documents through here and nowhere else.

use std::process::ExitCode;

/// Rewrite, or only check.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a block was edited by hand or never generated.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.check {
        let problems = benches::tables::check()?;
        problems.iter().for_each(|problem| println!("{problem}"));
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for document in benches::tables::rewrite()? {
        println!("rewrote {}", document.display());
    }
    Ok(ExitCode::SUCCESS)
}
