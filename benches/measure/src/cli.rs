//! The commands that every program of this floor has: `ask`, `compare`, `tables`.
//!
//! The lab has them for all systems; [`main`] gives them to the program of one system, which is
//! built in a fraction of the time because it does not contain the others.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::System;

pub mod ask;
pub mod compare;
pub mod tables;

#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer an interviewer's follow-up question by running it.
    Ask(ask::Arguments),
    /// Compare all answers, and peers, under the same load.
    Compare(compare::How),
    /// Rewrite the generated tables of every document from the results.
    Tables(tables::Arguments),
}

/// The program of one system. It fails when a question did not hold or a subject was wrong.
pub async fn main(system: System) -> ExitCode {
    let done = match Cli::parse().command {
        Command::Ask(arguments) => ask::run(vec![system], arguments).await,
        Command::Compare(how) => match &system.comparison {
            Some(comparison) => compare::run_one(comparison, how).await,
            None => Err(anyhow::anyhow!("{} has no comparison", system.name)),
        },
        Command::Tables(arguments) => tables::run(&arguments),
    };
    code(done)
}

/// What a program ends with; an error is printed with its causes.
pub fn code(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
