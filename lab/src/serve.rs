//! `lab` without a command: the console and every system on one address.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use axum::{Router, routing::get};

/// Where to listen.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Address of the console.
    #[arg(long, env = "LAB_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let listener = tokio::net::TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {} (choose --listen)", arguments.listen))?;
    println!("http://{}/", listener.local_addr()?);
    let router = Router::new().route("/healthz", get(|| async { "ok" }));
    let stopped = async {
        // Without a signal handler there is no way to ask for a stop: then the signal itself ends
        // the process.
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
    Ok(ExitCode::SUCCESS)
}
