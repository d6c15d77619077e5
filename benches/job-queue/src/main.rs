//! This system's questions and comparison as a program of its own: `ask`, `compare`, `tables`.

use std::process::ExitCode;

use bench_job_queue::queue_server;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
enum Server {
    QueueServer(queue_server::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    // The process that a question kills is this program once more, with another command.
    if std::env::args().nth(1).as_deref() == Some("queue-server") {
        let Server::QueueServer(arguments) = Server::parse();
        return measure::cli::code(queue_server::run(arguments).await);
    }
    measure::cli::main(bench_job_queue::system()).await
}
