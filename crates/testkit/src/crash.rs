//! The real program as a child process: started, loaded, killed with SIGKILL, started again.
//!
//! ```text
//! let address = crash::free_address();
//! let mut child = crash::Program::new(env!("CARGO_BIN_EXE_job-queue"))
//!     .args(["serve", "--listen", &address.to_string(), "--store", &store])
//!     .start();
//! child.wait_ready(address).await;
//! // .. load ..
//! child.kill9();
//! child.restart();
//! child.wait_ready(address).await;
//! ```
//!
//! What the child printed is shown when the test panics. The child never outlives the test, not
//! even when the test itself is killed: a watchdog process reads from a pipe that only the test
//! holds open, and kills the child when the pipe closes. That needs neither `unsafe` nor Linux,
//! and unlike `PR_SET_PDEATHSIG` it does not fire when the *thread* that started the child ends.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::{wait_until, wait_until_blocking};

/// How long a child may take to start, to print an expected line, and to stop.
pub const CHILD_LIMIT: Duration = Duration::from_secs(30);

/// The last lines of output that are kept for a failure.
const OUTPUT_LINES_MAX: usize = 2_000;

/// What to start, with which arguments and environment.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program by its path: `env!("CARGO_BIN_EXE_name")` in an integration test.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: vec![], environment: vec![] }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable, beside those of the test.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(self) -> Child {
        let output = Output::default();
        let running = Some(Running::start(&self, &output));
        Child { program: self, output, running }
    }
}

/// A started program. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    program: Program,
    output: Output,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: process::Child,
    watchdog: process::Child,
}

impl Child {
    /// The process id.
    ///
    /// # Panics
    /// When the child is not running.
    pub fn id(&self) -> u32 {
        self.running.as_ref().expect("the child was killed or has ended").process.id()
    }

    /// Returns once something accepts connections at `address`.
    ///
    /// # Panics
    /// After [`CHILD_LIMIT`], or at once when the child ends instead.
    pub async fn wait_ready(&mut self, address: SocketAddr) {
        let what = format!("{} accepts connections at {address}", self.name());
        wait_until(&what, CHILD_LIMIT, || {
            self.must_be_running();
            async move { TcpStream::connect(address).await.is_ok() }
        })
        .await;
    }

    /// Returns once `GET path` at `address` answers 200; use it with `/readyz`.
    ///
    /// # Panics
    /// After [`CHILD_LIMIT`], or at once when the child ends instead.
    pub async fn wait_http_ok(&mut self, address: SocketAddr, path: &str) {
        let what = format!("{} answers 200 at http://{address}{path}", self.name());
        wait_until(&what, CHILD_LIMIT, || {
            self.must_be_running();
            async move { answers_200(address, path).await.unwrap_or(false) }
        })
        .await;
    }

    /// The first line of output that contains `text`, from the start of the output that is kept.
    ///
    /// # Panics
    /// After [`CHILD_LIMIT`].
    pub async fn wait_line(&mut self, text: &str) -> String {
        let mut found = None;
        let what = format!("{} prints {text:?}", self.name());
        wait_until(&what, CHILD_LIMIT, || {
            found = self.output.lines().into_iter().find(|line| line.contains(text));
            std::future::ready(found.is_some())
        })
        .await;
        found.expect("the wait ended because it was found")
    }

    /// SIGKILL, now. Afterwards the process is gone, not just dying.
    ///
    /// # Panics
    /// When the child had ended by itself: the test would prove nothing.
    pub fn kill9(&mut self) {
        self.must_be_running();
        self.stop();
    }

    /// SIGKILL at a random moment within `limit`.
    ///
    /// # Panics
    /// Like [`kill9`](Self::kill9).
    pub async fn kill9_within(&mut self, limit: Duration, rng: &mut fastrand::Rng) {
        tokio::time::sleep(limit.mul_f64(rng.f64())).await;
        self.kill9();
    }

    /// SIGKILL as soon as the child has printed a line that contains `point`. The child is a few
    /// steps further by then: print the line before the step that the test is about.
    ///
    /// # Panics
    /// Like [`kill9`](Self::kill9) and [`wait_line`](Self::wait_line).
    pub async fn kill9_at(&mut self, point: &str) {
        self.wait_line(point).await;
        self.kill9();
    }

    /// SIGTERM; returns how the child ended.
    ///
    /// # Panics
    /// When it does not end within [`CHILD_LIMIT`].
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let what = format!("{} ends after SIGTERM", self.name());
        let mut status = None;
        wait_until(&what, CHILD_LIMIT, || {
            status = self.try_wait();
            std::future::ready(status.is_some())
        })
        .await;
        self.stop();
        status.expect("the wait ended because there is one")
    }

    /// SIGSTOP: a process that is alive and does nothing, like one in a long pause.
    pub fn pause(&mut self) {
        self.signal("STOP");
    }

    /// SIGCONT, after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.signal("CONT");
    }

    /// Starts it again with the same arguments, killing it first if it runs. The output starts
    /// again, too.
    pub fn restart(&mut self) {
        self.stop();
        self.output = Output::default();
        self.running = Some(Running::start(&self.program, &self.output));
    }

    /// What it printed on stdout and stderr, the last lines.
    pub fn output(&self) -> Vec<String> {
        self.output.lines()
    }

    fn name(&self) -> String {
        self.program.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        let running = self.running.as_mut()?;
        running.process.try_wait().expect("a child can be asked whether it has ended")
    }

    fn must_be_running(&mut self) {
        assert!(self.running.is_some(), "{} was stopped and not restarted", self.name());
        if let Some(status) = self.try_wait() {
            panic!("{} ended by itself: {status}", self.name());
        }
    }

    fn signal(&mut self, signal: &str) {
        self.must_be_running();
        // The shell's own `kill`: a minimal system has no program of that name.
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "kill", signal, &self.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {signal} failed");
    }

    fn stop(&mut self) {
        let Some(Running { mut process, mut watchdog }) = self.running.take() else { return };
        // The watchdog first: it must not kill a process that got this number later.
        for child in [&mut watchdog, &mut process] {
            // An error means that it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("---- output of {}\n{}", self.name(), self.output.lines().join("\n"));
        }
    }
}

impl Running {
    fn start(program: &Program, output: &Output) -> Self {
        let mut process = Command::new(&program.path)
            .args(&program.arguments)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.path.display()));
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r _; kill -9 "$1""#, "watchdog", &process.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                let _ = process.kill();
                panic!("cannot start the watchdog: {error}")
            });
        output.collect(process.stdout.take().expect("stdout is piped"));
        output.collect(process.stderr.take().expect("stderr is piped"));
        Self { process, watchdog }
    }
}

#[derive(Debug, Default, Clone)]
struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    fn collect(&self, from: impl Read + Send + 'static) {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                output.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == OUTPUT_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

async fn answers_200(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status_line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status_line).await?;
    Ok(status_line.ends_with(b" 200"))
}

/// An address on this machine that nobody listens on now. For a child that must have the same
/// address after a restart; another program may take it in between, which fails loudly.
///
/// # Panics
/// When the machine has no free port.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

/// Returns once no process with this id runs any more.
///
/// # Panics
/// After `timeout`.
pub fn wait_until_gone(id: u32, timeout: Duration) {
    wait_until_blocking(&format!("process {id} is gone"), timeout, || !is_running(id));
}

fn is_running(id: u32) -> bool {
    if Path::new("/proc/self/stat").exists() {
        // The state follows the name, which is in brackets. A zombie has ended; whoever adopted
        // it may take its time to notice.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
        return stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'));
    }
    let mut ask = Command::new("sh");
    ask.args(["-c", r#"kill -0 "$1""#, "kill", &id.to_string()]);
    ask.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
