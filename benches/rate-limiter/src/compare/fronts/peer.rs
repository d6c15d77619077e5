//! Another rate limiting server: throttlecrab-server 0.4.40, which speaks all three protocols too
//! (Rust; GCRA in the memory of one process).
//!
//! `cargo install throttlecrab-server@0.4.40 --root target/peers/throttlecrab` puts it where it is
//! found; to build it needs `protoc`, which is Debian's package `protobuf-compiler`.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PROGRAM: &str = "target/peers/throttlecrab/bin/throttlecrab-server";
/// Longest wait until it listens.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// The process; dropping it kills it.
pub(super) struct Peer {
    _child: Child,
    pub(super) resp: SocketAddr,
    pub(super) http: SocketAddr,
    #[cfg_attr(
        not(feature = "envoy"),
        expect(dead_code, reason = "ours does not speak it either")
    )]
    pub(super) grpc: SocketAddr,
}

impl Peer {
    /// Starts it, where it is there.
    pub(super) async fn find() -> anyhow::Result<Option<Self>> {
        if !Path::new(PROGRAM).is_file() {
            let how = "cargo install throttlecrab-server@0.4.40 --root target/peers/throttlecrab";
            println!("throttlecrab does not take part: {how}\n");
            return Ok(None);
        }
        let (resp, http, grpc) = (free_address()?, free_address()?, free_address()?);
        let mut command = Command::new(PROGRAM);
        for (name, at) in [("redis", resp), ("http", http), ("grpc", grpc)] {
            command.arg(format!("--{name}"));
            command.args([format!("--{name}-host"), at.ip().to_string()]);
            command.args([format!("--{name}-port"), at.port().to_string()]);
        }
        command.args(["--log-level", "error"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().context(PROGRAM)?;
        for at in [resp, http, grpc] {
            listens(&mut child, at).await?;
        }
        Ok(Some(Self { _child: child, resp, http, grpc }))
    }
}

async fn listens(child: &mut Child, at: SocketAddr) -> anyhow::Result<()> {
    let began = Instant::now();
    while TcpStream::connect(at).await.is_err() {
        let ended = child.try_wait()?;
        anyhow::ensure!(ended.is_none(), "{PROGRAM} ended at once: {ended:?}");
        anyhow::ensure!(began.elapsed() < START_TIME_MAX, "{PROGRAM} does not listen at {at}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
