//! The servers that are compared: programs of their own on one core, while this process loads them
//! from the other.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::links;
use super::wire::Wire;
use measure::harness::ServerProcess;

/// The core of servers, and that of this process.
const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";

const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A running server; dropping it kills it.
pub(super) struct Server {
    process: Child,
    pub(super) wire: Wire,
    /// Visits of some links since the start, to be compared with the clicks it counts.
    pub(super) visits: [AtomicU64; WATCHED],
}

/// Links whose visits are compared with the clicks that are counted: those of the lowest numbers,
/// which are the popular ones.
pub(super) const WATCHED: usize = 8;

impl Server {
    pub(super) fn process(&self) -> ServerProcess {
        ServerProcess(self.process.id())
    }

    /// Starts a program on the servers' core and waits until `path` is answered with `status`.
    pub(super) async fn start(
        program: &Path,
        arguments: &[String],
        address: SocketAddr,
        (path, status): (&str, u16),
    ) -> anyhow::Result<Self> {
        let mut command = match can_pin() {
            true => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", SERVER_CORE]).arg(program);
                pinned
            }
            false => Command::new(program),
        };
        let quiet = || Stdio::null();
        let process = command.args(arguments).stdin(quiet()).stdout(quiet()).stderr(quiet());
        let process = process.spawn().with_context(|| format!("{}", program.display()))?;
        let visits = std::array::from_fn(|_| AtomicU64::new(0));
        let mut server = Self { process, wire: Wire::to(address), visits };
        let deadline = Instant::now() + START_TIME_MAX;
        let request = |buffer: &mut Vec<u8>| {
            buffer.extend(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").bytes());
        };
        while !matches!(server.wire.exchange(request, |reply| reply.status).await, Ok(got) if got == status)
        {
            if let Some(ended) = server.process.try_wait()? {
                bail!("{} {arguments:?} ended at its start: {ended}", program.display());
            }
            ensure!(Instant::now() < deadline, "{} does not answer {path}", program.display());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(server)
    }

    /// The shortener, as it is shipped, over the links in `database`.
    pub(super) async fn shortener(database: &Path, more: &[&str]) -> anyhow::Result<Self> {
        Self::shortener_until(database, more, ("/readyz", 200)).await
    }

    pub(super) async fn shortener_until(
        database: &Path,
        more: &[&str],
        ready: (&str, u16),
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut arguments = words("serve --open --requests-per-second 1000000 --log-filter error");
        arguments.extend(words("--unknown-codes-per-minute 1000000"));
        arguments.extend(["--listen".to_owned(), address.to_string()]);
        arguments.extend(["--store".to_owned(), format!("sqlite:{}", database.display())]);
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        Self::start(&built("url-shortener")?, &arguments, address, ready).await
    }

    /// axum's hello world.
    pub(super) async fn hello_world() -> anyhow::Result<Self> {
        let address = free_address()?;
        let arguments = [address.to_string()];
        Self::start(&built("hello-world")?, &arguments, address, ("/", 200)).await
    }

    /// nginx with the same links in a `map`, and a buffered access log for a click log.
    pub(super) async fn nginx(nginx: &Path, directory: &Path, many: u64) -> anyhow::Result<Self> {
        use std::fmt::Write;
        let address = free_address()?;
        let mut map = String::new();
        for number in 0..many {
            let _ = writeln!(map, "/{} {};", links::code(number), links::target(number));
        }
        std::fs::write(directory.join("links.map"), map)?;
        let configuration = include_str!("nginx.conf")
            .replace("DIRECTORY", &directory.display().to_string())
            .replace("ADDRESS", &address.to_string());
        let file = directory.join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let prefix = directory.display().to_string();
        let arguments = ["-p".to_owned(), prefix, "-c".to_owned(), file.display().to_string()];
        let first = format!("/{}", links::code(0));
        Self::start(nginx, &arguments, address, (&first, 302)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which comes to the same.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// nginx, where it is installed.
pub(super) fn nginx() -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/opt/homebrew/bin")];
    let mut directories = std::env::split_paths(&directories).chain(more);
    directories.find_map(|directory| Some(directory.join("nginx")).filter(|path| path.is_file()))
}

/// What it says about itself: `nginx/1.22.1`.
pub(super) fn nginx_version(nginx: &Path) -> Option<String> {
    let said = Command::new(nginx).arg("-v").output().ok()?.stderr;
    Some(String::from_utf8_lossy(&said).trim().rsplit('/').next()?.to_owned())
}

/// Builds the programs that are measured, as they are now and as this one was built.
pub(super) fn build() -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bin", "url-shortener", "--bin", "hello-world"]);
    // With the lab, whose features are those that this program was built with.
    cargo.args(["-p", "lab", "-p", "url-shortener", "-p", "bench-url-shortener"]);
    cargo.args((!cfg!(debug_assertions)).then_some("--release"));
    // Where this was built, wherever it is started.
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    ensure!(cargo.status().context("cargo")?.success(), "the servers could not be built");
    Ok(())
}

/// A program beside this one.
fn built(name: &str) -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let path = me.parent().context("a program is in a directory")?.join(name);
    ensure!(path.is_file(), "{} is not there", path.display());
    Ok(path)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn can_pin() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // This process may be pinned already, to one core of several.
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
    let several = cores > 1 || online.is_ok_and(|online| online.trim() != "0");
    several && Path::new("/usr/bin/taskset").is_file()
}

/// Keeps this process on the generator's core as long as it lives.
pub(super) struct Pinned(Option<String>);

impl Pinned {
    pub(super) fn to_generator_core() -> Self {
        let pinned = can_pin().then(|| {
            let allowed = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let before = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            taskset(GENERATOR_CORE);
            before.unwrap_or("0-1").trim().to_owned()
        });
        if pinned.is_none() {
            println!("Servers and generator share their cores here: the figures are about both.\n");
        }
        Self(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            taskset(before);
        }
    }
}

fn taskset(cores: &str) {
    let me = std::process::id().to_string();
    // All threads; one that ends meanwhile is no failure.
    let _ = Command::new("taskset").args(["-a", "-c", "-p", cores, &me]).output();
}
