//! The front door: serves every system and the console, asks questions, compares answers.

mod console;
mod exchange;
mod grade;
mod pages;
mod serve;
mod traffic;

use std::process::ExitCode;

use bench_job_queue::queue_server;
use benches::cli::{self, ask, compare, tables};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Working answers to the classic backend interview systems.
///
/// Without a command it serves the console and every system.
#[derive(Debug, Parser)]
#[command(name = "lab", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the console and every system (the default).
    Serve(serve::Arguments),
    /// Answer an interviewer's follow-up question by running it.
    Ask(ask::Arguments),
    /// Compare all answers of a system, and peers, under the same load.
    Compare(compare::Arguments),
    /// Grade your own answer, in `practice/`, by the suite that grades ours.
    Grade(grade::Arguments),
    /// Rewrite the generated tables of every document from the results.
    Tables(tables::Arguments),
    /// The job queue in a process of its own, to be killed or measured.
    #[command(hide = true)]
    QueueServer(queue_server::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve::run(cli.serve).await,
        Some(Command::Serve(arguments)) => serve::run(arguments).await,
        Some(Command::Ask(arguments)) => ask::run(benches::systems(), arguments).await,
        Some(Command::Compare(arguments)) => compare::run(benches::systems(), arguments).await,
        Some(Command::Grade(arguments)) => grade::run(arguments).await,
        Some(Command::Tables(arguments)) => tables::run(&arguments),
        Some(Command::QueueServer(arguments)) => queue_server::run(arguments).await,
    };
    cli::code(done)
}
