//! A private Redis.

pub(crate) mod cluster;
pub(crate) mod replicated;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Client, Connection, RedisResult};

use crate::backing::{Backing, containers_first, given, off_the_runtime};
use crate::error::{Error, Result};
use crate::place;
use crate::process::{Server, Spec};
use crate::slow_fsync::SlowFsync;

const URL_VARIABLE: &str = "INFRA_REDIS_URL";
const BY_HAND: &str = "apt-get install redis-server | brew install redis";
/// One administrative command on the loopback interface; slower means stuck.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// How a private Redis is run.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// True appends every write to a file and syncs it before the reply
    /// (`appendonly yes, appendfsync always`): what was acknowledged survives
    /// [`kill9`](Redis::kill9) and [`restart`](Redis::restart). False keeps everything in memory:
    /// a restarted server is empty.
    pub durable: bool,
    /// Adds this to every sync of the disk, see [`SlowFsync`]. Only useful with `durable`.
    pub fsync_delay: Option<Duration>,
    /// More command line arguments for `redis-server`, such as `["--maxmemory", "64mb"]`. They
    /// come last, so they win.
    pub arguments: Vec<String>,
}

/// A Redis server. Dropping it ends the server and deletes its data.
pub struct Redis {
    url: String,
    version: String,
    backing: Backing,
    slow_fsync: Option<SlowFsync>,
}

/// Returns an empty, private, in-memory Redis (or the one named by `INFRA_REDIS_URL`, which is
/// not emptied: use a key prefix of your own).
///
/// # Errors
/// [`Error::Missing`] with the install command, or [`Error::Start`] with the server's log.
///
/// # Cost
/// One process of about 10 MiB; ready in tens of milliseconds.
pub async fn redis() -> Result<Redis> {
    redis_with(RedisOptions::default()).await
}

/// Like [`redis()`], with options. A server given by URL keeps its own configuration, so asking
/// it for `durable`, a delay or arguments is an error rather than a silent difference.
///
/// # Errors
/// As [`redis()`], and [`Error::NotOurs`] for options together with `INFRA_REDIS_URL`.
pub async fn redis_with(options: RedisOptions) -> Result<Redis> {
    if let Some(url) = given(URL_VARIABLE) {
        return connect_to_given(url, &options).await;
    }
    let program = place::program("redis-server");
    #[cfg(feature = "containers")]
    if program.is_none() || containers_first() {
        let (container, url) = crate::container::redis(&options).await?;
        let version = off_the_runtime({
            let url = url.clone();
            move || version(&url)
        })
        .await?;
        let backing = Backing::Container(Box::new(container));
        return Ok(Redis { url, version, backing, slow_fsync: None });
    }
    match program {
        Some(program) if !containers_first() => {
            off_the_runtime(move || start(program, options)).await
        }
        _ => Err(missing("Redis", URL_VARIABLE)),
    }
}

async fn connect_to_given(url: String, options: &RedisOptions) -> Result<Redis> {
    if options.durable || options.fsync_delay.is_some() || !options.arguments.is_empty() {
        let why = "INFRA_REDIS_URL names a server with a configuration of its own; unset it";
        return Err(Error::NotOurs { server: "Redis", action: "configure", why });
    }
    off_the_runtime(move || {
        let version = version(&url)?;
        Ok(Redis { url, version, backing: Backing::Given, slow_fsync: None })
    })
    .await
}

impl Redis {
    /// The address for any Redis client: `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's version, for the head of a report: `"7.0.15"`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The server's process id, where it is a running child process of ours.
    pub fn pid(&self) -> Option<u32> {
        match &self.backing {
            Backing::Local(local) => local.pid(),
            _ => None,
        }
    }

    /// False when the server is known to be down, because we killed or stopped it.
    pub(crate) fn may_run(&self) -> bool {
        !matches!(&self.backing, Backing::Local(local) if local.pid().is_none())
    }

    /// The switch of the emulated slow disk, where [`RedisOptions::fsync_delay`] asked for one.
    pub fn slow_fsync(&self) -> Option<&SlowFsync> {
        self.slow_fsync.as_ref()
    }

    /// Kills the server with SIGKILL and returns when it is gone. The port stays reserved.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the server was given by URL; the same for the methods below.
    pub async fn kill9(&self) -> Result<()> {
        self.backing.kill9("Redis").await
    }

    /// Freezes the server (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn pause(&self) -> Result<()> {
        self.backing.pause("Redis").await
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn resume(&self) -> Result<()> {
        self.backing.resume("Redis").await
    }

    /// Stops the server in an orderly way, keeping its port, and its data when durable.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn stop(&self) -> Result<()> {
        self.backing.stop("Redis").await
    }

    /// Starts the server again on the same port, stopping it first if it runs, and returns when
    /// it answers.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9), and [`Error::Start`].
    pub async fn restart(&self) -> Result<()> {
        self.backing.restart("Redis").await
    }
}

fn start(program: PathBuf, options: RedisOptions) -> Result<Redis> {
    let slow_fsync = options.fsync_delay.map(SlowFsync::prepare).transpose()?;
    let environment = slow_fsync.as_ref().map(SlowFsync::environment).unwrap_or_default();
    let server = start_server(program, environment, &options)?;
    let url = url_of(&server);
    let version = version(&url)?;
    Ok(Redis { url, version, backing: Backing::Local(Arc::new(server)), slow_fsync })
}

fn start_server(
    program: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    options: &RedisOptions,
) -> Result<Server> {
    Server::start_new("redis-server", None, |directory, port| {
        let port = port.to_string();
        let appends = if options.durable { "yes" } else { "no" };
        let mut arguments: Vec<OsString> = ["--port", &port, "--bind", "127.0.0.1"]
            .into_iter()
            .chain(["--daemonize", "no", "--save", "", "--appendonly", appends])
            .chain(["--appendfsync", if options.durable { "always" } else { "no" }, "--dir"])
            .map(OsString::from)
            .collect();
        arguments.push(directory.into());
        arguments.extend(options.arguments.iter().map(OsString::from));
        Ok(Spec {
            name: "redis-server",
            program,
            arguments,
            environment,
            user: None,
            stop_signal: "TERM",
            discard_signal: "KILL",
            is_ready,
        })
    })
}

/// Ready means that *our* process answers, with its data loaded. Another Redis may have won the
/// race for the port, and would otherwise be taken for ours.
fn is_ready(server: &Server, pid: u32) -> bool {
    let ask = || -> RedisResult<(String, String)> {
        let mut connection = connect(&url_of(server))?;
        let pong = ::redis::cmd("PING").query(&mut connection)?;
        Ok((pong, ::redis::cmd("INFO").arg("server").query(&mut connection)?))
    };
    ask().is_ok_and(|(pong, info)| {
        pong == "PONG" && field(&info, "process_id") == Some(pid.to_string().as_str())
    })
}

pub(crate) fn url_of(server: &Server) -> String {
    format!("redis://127.0.0.1:{}/", server.port())
}

/// A blocking connection for administrative commands.
pub(crate) fn connect(url: &str) -> RedisResult<Connection> {
    let connection = Client::open(url)?.get_connection_with_timeout(COMMAND_TIMEOUT)?;
    connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
    connection.set_write_timeout(Some(COMMAND_TIMEOUT))?;
    Ok(connection)
}

/// The version a running server reports.
pub(crate) fn version(url: &str) -> Result<String> {
    let info: String = ::redis::cmd("INFO").arg("server").query(&mut connect(url)?)?;
    Ok(field(&info, "redis_version").unwrap_or("unknown").to_owned())
}

/// A field of the text that `INFO` and `CLUSTER INFO` reply with.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

pub(crate) fn missing(server: &'static str, variable: &'static str) -> Error {
    Error::Missing {
        server,
        variable,
        looked_for: format!(
            "there is no `redis-server` in PATH{}",
            if cfg!(feature = "containers") { "" } else { ", and containers are not compiled in" }
        ),
        by_hand: BY_HAND,
    }
}
