//! A server as a child process that cannot outlive us.
//!
//! Who ends the server when *we* are SIGKILLed and run no destructor? The usual answer on Linux,
//! `PR_SET_PDEATHSIG`, has a trap: it fires when the **thread** that forked dies, and an async
//! runtime forks on whichever worker or blocking thread happens to run. It is also Linux only
//! and needs `unsafe`. Instead, each process that starts servers has one *watchdog*, a `sh`
//! blocked on reading a pipe whose other end only we hold (`process/watchdog.sh`, twenty lines).
//! However we die, the kernel closes the pipe, the watchdog wakes, and it ends its process
//! group and deletes the run directory.
//!
//! Servers join the watchdog's process group before they `exec`, so there is no moment at which
//! a server runs and nobody watches it; and since the watchdog itself is in the group, the
//! group's number cannot be reused by strangers. A group of its own also keeps Ctrl-C away from
//! the servers, so a service can still drain into its store while it shuts down.
//!
//! Everything in this module blocks for some milliseconds; async callers go through
//! `spawn_blocking`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::place::{self, User};
use crate::port::PortLease;

/// A server that is not ready by then is reported with its log. Crash recovery of a large
/// durable Postgres on a loaded machine is what needs this long.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that has not stopped by then is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Servers that have not agreed with each other by then never will.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a condition is looked at. Servers here start in tens of milliseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// How much of a server's log an error carries.
const LOG_TAIL_BYTES: u64 = 2_048;

/// How to run one server.
pub(crate) struct Spec {
    /// For messages: `redis-server`, `postgres`.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) user: Option<User>,
    /// The signal that stops the server in an orderly way.
    pub(crate) stop_signal: &'static str,
    /// The signal that stops it when nobody needs its data any more.
    pub(crate) discard_signal: &'static str,
    /// True when the server with this process id, on this port, takes requests.
    pub(crate) is_ready: fn(&Server, pid: u32) -> bool,
}

/// One server process, its port and its directory. Dropping it ends all three.
pub(crate) struct Server {
    spec: Spec,
    directory: PathBuf,
    port: PortLease,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Makes a directory for the server below the run directory, lets `prepare` fill it and
    /// build the command line, starts the server and waits until it is ready.
    pub(crate) fn start_new(
        name: &'static str,
        user: Option<User>,
        prepare: impl FnOnce(&Path, u16) -> Result<Spec>,
    ) -> Result<Self> {
        let port = PortLease::take()?;
        let directory = watchdog()?.run_dir.join(format!("{name}-{}", port.port));
        place::make_private_dir(&directory, user)?;
        let spec = prepare(&directory, port.port)?;
        let server = Self { spec, directory, port, child: Mutex::new(None) };
        server.start()?;
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.port
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process id, while the server runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(Child::id)
    }

    /// Starts the server on its port and directory and waits until it is ready. Does nothing
    /// when it runs already.
    pub(crate) fn start(&self) -> Result<()> {
        let mut child = self.lock();
        if child.is_some() {
            return Ok(());
        }
        let mut started = self.spawn()?;
        let pid = started.id();
        let deadline = Instant::now() + READY_TIMEOUT;
        let failure = loop {
            match started.try_wait() {
                Ok(Some(status)) => break format!("it ended with {status}"),
                Err(error) => break format!("it cannot be watched: {error}"),
                Ok(None) if (self.spec.is_ready)(self, pid) => {
                    *child = Some(started);
                    return Ok(());
                }
                Ok(None) if Instant::now() > deadline => {
                    break format!("it was not ready after {READY_TIMEOUT:?}");
                }
                Ok(None) => std::thread::sleep(POLL_INTERVAL),
            }
        };
        let _ = started.kill();
        let _ = started.wait();
        Err(self.failed(failure))
    }

    fn spawn(&self) -> Result<Child> {
        let log = self.log_path();
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::io("opening", &log))?;
        let err = out.try_clone().map_err(Error::io("opening", &log))?;
        let mut command = Command::new(&self.spec.program);
        command
            .args(&self.spec.arguments)
            .envs(self.spec.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .process_group(watchdog()?.process_group)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        run_as(&mut command, self.spec.user);
        command.spawn().map_err(Error::io("starting", &self.spec.program))
    }

    /// Ends the server the way a power cut does: no signal handler runs, no child survives.
    pub(crate) fn kill9(&self) -> Result<()> {
        let mut slot = self.lock();
        let Some(mut child) = slot.take() else { return Ok(()) };
        // A Postgres backend survives its postmaster for a moment, in which it could still
        // commit. With the parent stopped first, no child can be born or restarted meanwhile.
        signal("STOP", &[child.id()]);
        let children = children_of(child.id());
        signal("KILL", &children);
        child.kill().map_err(Error::io("killing", &self.spec.program))?;
        child.wait().map_err(Error::io("awaiting", &self.spec.program))?;
        self.forget_paused();
        // A killed process takes a moment to let go of its memory, and a new postmaster refuses
        // to start while an old backend is attached to the old one's.
        let deadline = Instant::now() + STOP_TIMEOUT;
        while children.iter().any(|child| is_alive(*child)) {
            if Instant::now() > deadline {
                return Err(self.failed("its killed children do not end".to_owned()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Freezes the server: its connections stay open and nothing answers.
    pub(crate) fn pause(&self) -> Result<()> {
        let slot = self.lock();
        let Some(child) = slot.as_ref() else { return Err(self.not_running()) };
        signal("STOP", &[child.id()]);
        let mut stopped = children_of(child.id());
        signal("STOP", &stopped);
        stopped.push(child.id());
        let ids: Vec<String> = stopped.iter().map(u32::to_string).collect();
        let note = self.directory.join("paused");
        fs::write(&note, ids.join(" ")).map_err(Error::io("writing", note))
    }

    /// Lets a paused server go on.
    pub(crate) fn resume(&self) -> Result<()> {
        let slot = self.lock();
        let Some(child) = slot.as_ref() else { return Err(self.not_running()) };
        signal("CONT", &children_of(child.id()));
        signal("CONT", &[child.id()]);
        self.forget_paused();
        Ok(())
    }

    /// Stops the server in an orderly way; its data and its port are kept.
    pub(crate) fn stop(&self) -> Result<()> {
        self.end(self.spec.stop_signal).map(drop)
    }

    /// Stops the server if it runs, and starts it again on the same port and data.
    pub(crate) fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    fn end(&self, with: &str) -> Result<Option<ExitStatus>> {
        if self.directory.join("paused").exists() {
            self.resume()?;
        }
        let mut slot = self.lock();
        let Some(mut child) = slot.take() else { return Ok(None) };
        signal(with, &[child.id()]);
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            let status = child.try_wait().map_err(Error::io("awaiting", &self.spec.program))?;
            if status.is_some() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                tracing::warn!(server = self.spec.name, "did not stop in time, killing it");
                *slot = Some(child);
                drop(slot);
                return self.kill9().map(|()| None);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn forget_paused(&self) {
        let _ = fs::remove_file(self.directory.join("paused"));
    }

    fn failed(&self, why: String) -> Error {
        Error::Start { server: self.spec.name.to_owned(), why, log: tail(&self.log_path()) }
    }

    fn not_running(&self) -> Error {
        Error::Unsupported(format!("{} is not running; start it first", self.spec.name))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let never_restarted = self.lock().is_none();
        let _ = self.end(self.spec.discard_signal);
        if never_restarted {
            crate::postgres::remove_shared_memory(&self.directory);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Makes `command` run as `user`, where one is given.
pub(crate) fn run_as(command: &mut Command, user: Option<User>) {
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
}

/// The last lines of a log file, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_default()
}

/// Sends a signal through the shell's builtin: std can only KILL, and this crate has no `unsafe`.
/// The ids are of children that nobody has waited for yet, so they cannot be anybody else's.
fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$@""#, name])
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

/// The ids of the direct children of a process: the backends and helpers of a Postgres.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return children_by_ps(pid) };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| parent_of(*child) == Some(pid))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    state_and_parent(pid).map(|(_, parent)| parent)
}

/// False for processes that are gone and for zombies, which hold nothing any more.
fn is_alive(pid: u32) -> bool {
    if Path::new("/proc/self").exists() {
        return state_and_parent(pid).is_some_and(|(state, _)| state != "Z" && state != "X");
    }
    let mut ask = Command::new("sh");
    ask.args(["-c", r#"kill -0 "$0""#, &pid.to_string()]).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

/// Reads `/proc/PID/stat`: "17 (name) S 4 ..", where the name may itself hold parentheses.
fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

/// The same where there is no `/proc` (macOS).
fn children_by_ps(pid: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-axo", "pid=,ppid="]).output();
    let table = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&table)
        .lines()
        .filter_map(|line| {
            let mut ids = line.split_whitespace().map(str::parse::<u32>);
            Some((ids.next()?.ok()?, ids.next()?.ok()?))
        })
        .filter_map(|(child, parent)| (parent == pid).then_some(child))
        .collect()
}

/// The process that ends our servers when we cannot.
struct Watchdog {
    /// The watchdog's own id, which is also the group that servers join.
    process_group: i32,
    /// Where the servers of this process keep their directories.
    run_dir: PathBuf,
    /// Holds our end of the pipe. It is never written to; it only has to stay open.
    _child: Child,
}

/// The watchdog of this process, started with the first server.
fn watchdog() -> Result<&'static Watchdog> {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watchdog) = WATCHDOG.get() {
        return Ok(watchdog);
    }
    let temporary = std::env::temp_dir();
    let run_dir = tempfile::Builder::new()
        .prefix(&format!("infra-{}-", std::process::id()))
        .tempdir_in(&temporary)
        .map_err(Error::io("making a directory in", &temporary))?
        .keep();
    fs::set_permissions(&run_dir, Permissions::from_mode(0o711))
        .map_err(Error::io("opening", &run_dir))?;
    let child = Command::new("sh")
        .args(["-c", include_str!("process/watchdog.sh"), "infra-watchdog"])
        .arg(&run_dir)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("starting", "sh"))?;
    let process_group = i32::try_from(child.id()).expect("process ids fit in pid_t");
    Ok(WATCHDOG.get_or_init(|| Watchdog { process_group, run_dir, _child: child }))
}

/// Waits until `condition` holds; an error in it counts as "not yet", and is reported at the end.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let outcome = condition();
        if matches!(outcome, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let last = outcome.err().map_or(String::new(), |error| format!(" ({error})"));
            let why = format!("waited {SETTLE_TIMEOUT:?} for {what}{last}");
            return Err(Error::Start {
                server: "redis-server".to_owned(),
                why,
                log: String::new(),
            });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
