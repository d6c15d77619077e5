//! This system's questions and comparison as a program of its own: `ask`, `compare`, `tables`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    measure::cli::main(bench_rate_limiter::system()).await
}
