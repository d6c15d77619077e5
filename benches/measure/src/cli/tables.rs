//! `tables`: figures enter documents through here and nowhere else.

use std::process::ExitCode;

/// Rewrite, or only check.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Change nothing; fail when a block was edited by hand or never generated.
    #[arg(long)]
    check: bool,
}

/// Writes them, or says what is wrong with them.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.check {
        let problems = crate::tables::check()?;
        problems.iter().for_each(|problem| println!("{problem}"));
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for document in crate::tables::rewrite()? {
        println!("rewrote {}", document.display());
    }
    Ok(ExitCode::SUCCESS)
}
