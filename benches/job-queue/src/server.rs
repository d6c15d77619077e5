//! A queue in a process of its own: to be killed, or to have a processor of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use measure::harness::ServerProcess;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Longest wait until it listens: reading a store back takes its time.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// The process; dropping it kills it.
pub(super) struct Server {
    child: Child,
    program: Vec<String>,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Our queue on this store, pinned to processor `core` if one is given.
    pub(super) async fn ours(store: &str, core: Option<usize>) -> anyhow::Result<Self> {
        let address = free_address()?;
        let myself = std::env::current_exe()?;
        let mut program = pinned(core);
        program.extend([myself.display().to_string(), "queue-server".to_owned()]);
        let options = ["--listen", &address.to_string(), "--store", store].map(str::to_owned);
        program.extend(options);
        Self::start(program, address).await
    }

    /// Any program that will listen on `address`.
    pub(super) async fn start(program: Vec<String>, address: SocketAddr) -> anyhow::Result<Self> {
        let child = spawn(&program)?;
        let mut server = Self { child, program, address };
        server.wait_ready().await?;
        Ok(server)
    }

    /// What it uses is measured beside what it does.
    pub(super) fn process(&self) -> anyhow::Result<ServerProcess> {
        Ok(ServerProcess(self.child.id().context("the server has ended")?))
    }

    /// SIGKILL, and the same again.
    pub(super) async fn kill9_and_restart(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        self.child = spawn(&self.program)?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            let ended = self.child.try_wait()?;
            anyhow::ensure!(ended.is_none(), "{:?} ended at once: {ended:?}", self.program);
            anyhow::ensure!(began.elapsed() < START_TIME_MAX, "{:?} does not listen", self.program);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn spawn(program: &[String]) -> anyhow::Result<Child> {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().with_context(|| format!("{program:?}"))
}

/// The words that pin what follows to a processor.
pub(super) fn pinned(core: Option<usize>) -> Vec<String> {
    core.map_or_else(Vec::new, |core| vec!["taskset".into(), "-c".into(), core.to_string()])
}

pub(super) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
