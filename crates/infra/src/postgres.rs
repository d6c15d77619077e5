//! A Postgres, shared by default and private when a test is going to hurt it.

pub(crate) mod database;
mod initialised;
mod shared;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::backing::{Backing, containers_first, given, off_the_runtime};
use crate::error::{Error, Result};
use crate::place;
use crate::process::{Server, Spec};
use crate::slow_fsync::SlowFsync;

const URL_VARIABLE: &str = "INFRA_POSTGRES_URL";
const BY_HAND: &str = "apt-get install postgresql | brew install postgresql";

/// What a Postgres promises about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Nothing waits for the disk (`fsync = off`) and autovacuum is off. Commits survive a killed
    /// server, not a power cut. For tests; a benchmark on it would be a lie.
    #[default]
    Fast,
    /// Every commit is on disk before it is acknowledged, settings as shipped. For benchmarks.
    Durable,
    /// Durable, and every sync takes this much longer: a slow or remote disk, see
    /// [`SlowFsync`]. Needs Linux and a C compiler.
    SlowFsync(Duration),
}

/// How a private Postgres is run.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// What is promised about the disk.
    pub profile: Profile,
    /// More settings, such as `("max_connections", "20")`. They come last, so they win.
    pub settings: Vec<(String, String)>,
}

/// A Postgres server, on which [`database`](Postgres::database) hands out databases.
pub struct Postgres {
    /// The maintenance database; databases are created and dropped through it.
    admin_url: String,
    version: String,
    backing: Backing,
    slow_fsync: Option<SlowFsync>,
}

/// Returns the Postgres that all test processes of this user share, on the
/// [`Fast`](Profile::Fast) profile (or the one named by `INFRA_POSTGRES_URL`, whose role must be
/// allowed to create databases). Isolation comes from [`Postgres::database`].
///
/// The first process to need it starts it; it ends by itself two seconds after the last process
/// that used it, however that process ended. The count of users is a file lock that each holds
/// and the kernel releases; see `postgres/shared.rs`. Where the `flock` program is missing
/// (macOS), each process gets a server of its own instead.
///
/// # Errors
/// [`Error::Missing`] with the install command, or [`Error::Start`] with the server's log.
///
/// # Cost
/// A few milliseconds when it runs already, some hundred to start it, once a second more to
/// initialise the cluster that every later start copies.
pub async fn postgres() -> Result<Postgres> {
    if let Some(url) = given(URL_VARIABLE) {
        return connect_to_given(url).await;
    }
    match Programs::find() {
        Some(programs) if !containers_first() => shared::attach(programs).await,
        _ => postgres_with(PostgresOptions::default()).await,
    }
}

/// Returns a Postgres of your own, to kill, pause, slow down or measure.
///
/// # Errors
/// As [`postgres`]; [`Error::NotOurs`] while `INFRA_POSTGRES_URL` is set; for
/// [`Profile::SlowFsync`] also [`Error::Unsupported`] with the reason.
///
/// # Cost
/// A copied cluster of 30 to 60 MiB and a few processes; ready in some hundred milliseconds.
pub async fn postgres_with(options: PostgresOptions) -> Result<Postgres> {
    if given(URL_VARIABLE).is_some() {
        let why = "INFRA_POSTGRES_URL names a server with a configuration of its own; unset it";
        return Err(Error::NotOurs { server: "Postgres", action: "configure", why });
    }
    let programs = Programs::find();
    #[cfg(feature = "containers")]
    if programs.is_none() || containers_first() {
        let (container, admin_url) = crate::container::postgres(&options).await?;
        let version = version(&admin_url).await?;
        let backing = Backing::Container(Box::new(container));
        return Ok(Postgres { admin_url, version, backing, slow_fsync: None });
    }
    match programs {
        Some(programs) if !containers_first() => {
            off_the_runtime(move || start(&programs, &options)).await
        }
        _ => Err(missing()),
    }
}

async fn connect_to_given(admin_url: String) -> Result<Postgres> {
    let version = version(&admin_url).await?;
    Ok(Postgres { admin_url, version, backing: Backing::Given, slow_fsync: None })
}

impl Postgres {
    /// The address of the maintenance database. For the tests' own tables take a
    /// [`database`](Self::database).
    pub fn url(&self) -> &str {
        &self.admin_url
    }

    /// The server's version, for the head of a report: `"15.18"`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The postmaster's process id, where it is a running child process of ours.
    pub fn pid(&self) -> Option<u32> {
        match &self.backing {
            Backing::Local(local) => local.pid(),
            _ => None,
        }
    }

    /// The switch of the emulated slow disk, on the [`SlowFsync`](Profile::SlowFsync) profile.
    pub fn slow_fsync(&self) -> Option<&SlowFsync> {
        self.slow_fsync.as_ref()
    }

    /// Kills the server with SIGKILL, backends first gone, and returns when nothing of it can
    /// commit any more. The next [`restart`](Self::restart) does crash recovery.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the server is shared or was given by URL; the same for the methods
    /// below.
    pub async fn kill9(&self) -> Result<()> {
        self.backing.kill9("Postgres").await
    }

    /// Freezes the server and all its backends (SIGSTOP): nothing answers.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn pause(&self) -> Result<()> {
        self.backing.pause("Postgres").await
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn resume(&self) -> Result<()> {
        self.backing.resume("Postgres").await
    }

    /// Stops the server in an orderly way (a fast shutdown), keeping its port and data.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9).
    pub async fn stop(&self) -> Result<()> {
        self.backing.stop("Postgres").await
    }

    /// Starts the server again on the same port and data, stopping it first if it runs, and
    /// returns when it accepts connections.
    ///
    /// # Errors
    /// As [`kill9`](Self::kill9), and [`Error::Start`].
    pub async fn restart(&self) -> Result<()> {
        self.backing.restart("Postgres").await
    }
}

async fn version(admin_url: &str) -> Result<String> {
    let mut connection = PgConnection::connect(admin_url).await?;
    let shown: String =
        sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(place::version_in(&shown).unwrap_or(shown))
}

/// The two programs of one Postgres installation.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) postgres: PathBuf,
    initdb: PathBuf,
}

impl Programs {
    /// Looks in `PATH`, then where the packages of Debian, Red Hat and Homebrew put what they do
    /// not put into `PATH`, newest first.
    pub(crate) fn find() -> Option<Self> {
        // A link to `postgres` in /usr/local/bin has no `initdb` beside it; its target has.
        let in_path =
            place::programs("postgres").into_iter().filter_map(|path| path.canonicalize().ok());
        let packaged = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"]
            .into_iter()
            .flat_map(installations);
        in_path.chain(packaged).find_map(|postgres| {
            let initdb = postgres.with_file_name("initdb");
            (place::is_executable(&postgres) && place::is_executable(&initdb))
                .then_some(Self { postgres, initdb })
        })
    }

    pub(crate) fn version(&self) -> Option<String> {
        place::version_of(&self.postgres)
    }
}

/// `DIRECTORY/15/bin/postgres`, `DIRECTORY/pgsql-15/bin/postgres`, `DIRECTORY/postgresql@15/..`.
fn installations(directory: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let version = name.trim_start_matches("pgsql-").trim_start_matches("postgresql@");
            Some((version.parse().ok()?, path.join("bin/postgres")))
        })
        .collect();
    found.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

fn start(programs: &Programs, options: &PostgresOptions) -> Result<Postgres> {
    let slow_fsync = match options.profile {
        Profile::SlowFsync(delay) => Some(SlowFsync::prepare(delay)?),
        Profile::Fast | Profile::Durable => None,
    };
    let user = place::unprivileged_user();
    let server = Server::start_new("postgres", user, |directory, port| {
        let data = directory.join("data");
        initialised::copy_to(&data, programs, options.profile, user)?;
        Ok(Spec {
            name: "postgres",
            program: programs.postgres.clone(),
            arguments: arguments(&data, port, options),
            environment: slow_fsync.as_ref().map(SlowFsync::environment).unwrap_or_default(),
            user,
            stop_signal: "INT",
            discard_signal: "QUIT",
            is_ready: |server, pid| is_ready(&server.directory().join("data"), Some(pid)),
        })
    })?;
    let admin_url = url_on(server.port());
    let version = programs.version().unwrap_or_else(|| "unknown".to_owned());
    Ok(Postgres { admin_url, version, backing: Backing::Local(Arc::new(server)), slow_fsync })
}

fn url_on(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// The command line after the program's name.
fn arguments(data: &Path, port: u16, options: &PostgresOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
    arguments.extend(["-p".into(), port.to_string().into()]);
    // No Unix socket: its path would have to stay below 108 bytes, and faultline speaks TCP.
    let local = [("listen_addresses", "127.0.0.1"), ("unix_socket_directories", "")];
    let local = local.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in local.into_iter().chain(settings(options)) {
        arguments.extend(["-c".into(), format!("{name}={value}").into()]);
    }
    arguments
}

/// The settings of a profile, the caller's own last.
pub(crate) fn settings(options: &PostgresOptions) -> Vec<(String, String)> {
    let everywhere: &[(&str, &str)] =
        &[("max_connections", "400"), ("huge_pages", "off"), ("timezone", "UTC")];
    let fast: &[(&str, &str)] = &[
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("shared_buffers", "32MB"),
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1h"),
    ];
    let profile = if options.profile == Profile::Fast { fast } else { &[] };
    let ours =
        everywhere.iter().chain(profile).map(|(name, value)| ((*name).into(), (*value).into()));
    ours.chain(options.settings.iter().cloned()).collect()
}

/// Waits until a Postgres that is just starting answers a query.
#[cfg(feature = "containers")]
pub(crate) async fn wait_until_it_answers(admin_url: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match version(admin_url).await {
            Ok(_) => return Ok(()),
            Err(error) if std::time::Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Reads what `pg_ctl --wait` reads: the first line of `postmaster.pid` is the process, the
/// eighth its state.
fn is_ready(data: &Path, pid: Option<u32>) -> bool {
    let Ok(status) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
    // The postmaster writes the file in several steps, so any prefix of it can be seen.
    let lines: Vec<&str> = status.lines().map(str::trim).collect();
    let ours = pid.is_none_or(|pid| lines.first() == Some(&pid.to_string().as_str()));
    ours && lines.get(7) == Some(&"ready")
}

/// Gives back the System V shared memory of a killed Postgres that will not be started again.
/// Postgres itself would remove it at its next start; without this, every killed server would
/// keep one of the machine's few thousand segments until the next boot.
pub(crate) fn remove_shared_memory(directory: &Path) {
    let Ok(status) = fs::read_to_string(directory.join("data/postmaster.pid")) else { return };
    let segment = status.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    if let Some(segment) = segment {
        let mut ipcrm = Command::new("ipcrm");
        let _ = ipcrm.args(["-m", segment]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn missing() -> Error {
    Error::Missing {
        server: "Postgres",
        variable: URL_VARIABLE,
        looked_for: format!(
            "there is no `postgres` with `initdb` beside it in PATH or /usr/lib/postgresql/*/bin{}",
            if cfg!(feature = "containers") { "" } else { ", and containers are not compiled in" }
        ),
        by_hand: BY_HAND,
    }
}
