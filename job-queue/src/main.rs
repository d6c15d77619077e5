//! `job-queue serve | work | demo | stats | peek | redrive`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An SQS-compatible queue, its workers, and a demonstration
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve queues to every SQS client
    Serve(cli::serve::Serve),
    /// Make thumbnails: take jobs off a queue until told to stop
    Work(cli::work::Work),
    /// Make thumbnails of many images through the queue while workers are being killed
    Demo(cli::demo::Demo),
    /// Print every queue in numbers: backlog, age, rates, latencies
    Stats(cli::operate::Stats),
    /// Look at the messages of a queue without receiving them
    Peek(cli::operate::Peek),
    /// Move dead letters back to the queues they came from
    Redrive(cli::operate::Redrive),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => serve.run().await,
        Command::Work(work) => work.run().await,
        Command::Demo(demo) => demo.run().await,
        Command::Stats(stats) => stats.run().await,
        Command::Peek(peek) => peek.run().await,
        Command::Redrive(redrive) => redrive.run().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("job-queue: {error:#}");
            ExitCode::FAILURE
        }
    }
}
