//! One Postgres for all test processes of a user, counted by file locks.
//!
//! A test runner such as nextest runs every test in a process of its own. A server each would be
//! correct and slow: a few hundred milliseconds and two dozen processes, times the number of
//! tests. Sharing needs an answer to "who ends it?" that survives any way a process can die, so
//! the count of users is kept by the kernel: every user holds a *shared* lock on the
//! generation's `users` file, and the server's keeper (`keeper.sh`) waits for an *exclusive* one.
//!
//! ```text
//! shared-postgres-15.18/
//!   start.lock        held for the moment of attaching or starting
//!   current           names the newest generation
//!   generation-x1y2/  one server's life: users, keeper, log, data/
//! ```
//!
//! Invariants: a server is used only under a lock on `users` that was taken while its directory
//! existed; its keeper deletes the directory only under an exclusive lock. A dead generation is
//! never revived: whoever finds it dead starts the next one beside it, and clears away what a
//! killed keeper or a rebooted machine left behind.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::backing::{Backing, off_the_runtime};
use crate::error::{Error, Result};
use crate::place::{self, User};
use crate::port::PortLease;
use crate::postgres::{
    Postgres, PostgresOptions, Profile, Programs, arguments, initialised, is_ready, start, url_on,
};
use crate::process::{run_as, tail};

/// How long the server waits for its next user. Shorter would restart it between the processes
/// of one run, longer would keep it around after the run.
const IDLE_SECONDS: &str = "2";
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What this process holds while it uses the shared server, which is until it ends.
struct Attachment {
    port: u16,
    version: String,
    generation: PathBuf,
    _users: File,
}

/// The shared server, started if need be.
pub(super) async fn attach(programs: Programs) -> Result<Postgres> {
    if place::program("flock").is_none() {
        return own_server(programs).await;
    }
    let (port, version) = off_the_runtime(move || {
        let attachment = attachment(&programs)?;
        Ok((attachment.port, attachment.version.clone()))
    })
    .await?;
    let backing = Backing::Shared;
    Ok(Postgres { admin_url: url_on(port), version, backing, slow_fsync: None })
}

/// Without `flock`, one server for this process; its watchdog ends it.
async fn own_server(programs: Programs) -> Result<Postgres> {
    static OWN: tokio::sync::OnceCell<Postgres> = tokio::sync::OnceCell::const_new();
    let own = OWN
        .get_or_try_init(|| off_the_runtime(move || start(&programs, &PostgresOptions::default())))
        .await?;
    Ok(Postgres {
        admin_url: own.admin_url.clone(),
        version: own.version.clone(),
        backing: Backing::Shared,
        slow_fsync: None,
    })
}

/// Attaches this process once; later calls return the same.
fn attachment(programs: &Programs) -> Result<&'static Attachment> {
    static ATTACHMENT: OnceLock<Attachment> = OnceLock::new();
    if let Some(attachment) = ATTACHMENT.get() {
        return Ok(attachment);
    }
    let version = programs.version().unwrap_or_else(|| "unknown".to_owned());
    let directory = place::cache_dir()?.join(format!("shared-postgres-{version}"));
    // The keeper runs as the server's user and has to be able to remove a generation.
    place::make_private_dir(&directory, place::unprivileged_user())?;
    let lock_path = directory.join("start.lock");
    let start_lock = File::create(&lock_path).map_err(Error::io("creating", &lock_path))?;
    start_lock.lock().map_err(Error::io("locking", &lock_path))?;
    // Another thread of this process may have attached while we waited.
    if let Some(attachment) = ATTACHMENT.get() {
        return Ok(attachment);
    }
    let attachment = match join_current(&directory, &version) {
        Some(attachment) => attachment,
        None => start_next(&directory, version, programs)?,
    };
    tracing::debug!(generation = %attachment.generation.display(), "using the shared Postgres");
    Ok(ATTACHMENT.get_or_init(|| attachment))
}

/// Joins the newest generation, if its server is alive.
fn join_current(directory: &Path, version: &str) -> Option<Attachment> {
    let current = fs::read_to_string(directory.join("current")).ok()?;
    let (name, port) = current.trim().split_once(' ')?;
    let generation = directory.join(name);
    let users = File::open(generation.join("users")).ok()?;
    // Waits for a keeper that is just ending the server. Afterwards the directory tells.
    users.lock_shared().ok()?;
    let port = port.parse().ok()?;
    if !is_locked(&generation.join("keeper")) {
        return None;
    }
    let alive = is_ready(&generation.join("data"), None) && accepts(port);
    alive.then(|| Attachment { port, version: version.to_owned(), generation, _users: users })
}

/// Makes an empty file to lock. The keeper opens it too, perhaps as another user; the directory
/// is closed to everybody else.
fn lock_file(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(Error::io("creating", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(Error::io("opening", path))?;
    Ok(file)
}

/// True while another process holds the lock.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

/// Removes generations that have neither a keeper nor a user: their keeper was killed, or the
/// machine was switched off. Called under the start lock, so none of them is just being made.
fn sweep(directory: &Path, programs: &Programs, user: Option<User>) {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(std::result::Result::ok);
    for generation in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if is_locked(&generation.join("keeper")) || is_locked(&generation.join("users")) {
            continue;
        }
        // `pg_ctl` knows whether the process in `postmaster.pid` is still that server.
        let mut stop = Command::new(programs.postgres.with_file_name("pg_ctl"));
        stop.args(["stop", "--silent", "--mode=immediate", "-D"]).arg(generation.join("data"));
        stop.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        run_as(&mut stop, user);
        let _ = stop.status();
        let _ = fs::remove_dir_all(&generation);
    }
}

fn accepts(port: u16) -> bool {
    std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Starts the next generation and becomes its first user.
fn start_next(directory: &Path, version: String, programs: &Programs) -> Result<Attachment> {
    let user = place::unprivileged_user();
    sweep(directory, programs, user);
    let name = format!("generation-{:08x}", fastrand::u32(..));
    let generation = directory.join(&name);
    place::make_private_dir(&generation, user)?;
    lock_file(&generation.join("keeper"))?;
    let users_path = generation.join("users");
    let users = lock_file(&users_path)?;
    users.lock_shared().map_err(Error::io("locking", &users_path))?;
    let data = generation.join("data");
    initialised::copy_to(&data, programs, Profile::Fast, user)?;

    // The lease ends when the server listens; from then on the port itself is taken.
    let port = PortLease::take()?;
    let mut keeper = Command::new("sh");
    keeper
        .args(["-c", include_str!("keeper.sh"), "infra-keeper"])
        .arg(&generation)
        .arg(IDLE_SECONDS)
        .arg(&programs.postgres)
        .args(arguments(&data, port.port, &PostgresOptions::default()))
        .current_dir("/")
        // Neither Ctrl-C nor a runner that kills one test's group may end everybody's server.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    run_as(&mut keeper, user);
    keeper.spawn().map_err(Error::io("starting", "sh"))?;

    let deadline = Instant::now() + READY_TIMEOUT;
    while !(is_ready(&data, None) && accepts(port.port)) {
        let log = tail(&generation.join("log"));
        if Instant::now() > deadline || log.contains("FATAL:") {
            let why = "the shared server did not become ready".to_owned();
            return Err(Error::Start { server: "postgres".to_owned(), why, log });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let current = directory.join("current");
    let unfinished = directory.join("current.unfinished");
    fs::write(&unfinished, format!("{name} {}\n", port.port))
        .and_then(|()| fs::rename(&unfinished, &current))
        .map_err(Error::io("writing", current))?;
    Ok(Attachment { port: port.port, version, generation, _users: users })
}
