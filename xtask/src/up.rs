//! `cargo x up` and `cargo x down`: a Redis and a Postgres that stay, for the lab.
//!
//! Through compose where a Docker engine answers, as local processes elsewhere. What was started
//! is written to a state file; `down` stops that and nothing else. The data is kept.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::How;
use crate::commands::{SpawnAndWait, succeeds};
use crate::servers::{self, POSTGRES_URL_VARIABLE, REDIS_URL_VARIABLE};
use crate::setup::{self, is_root};

/// Not the servers' own default ports: those may belong to a server that is in use.
const REDIS_PORT: u16 = 16_379;
const POSTGRES_PORT: u16 = 15_432;

const STATE_FILE: &str = "target/x-up.txt";

/// A first start pulls images; without one, seconds are enough.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Starts both servers, or says that they already run, and prints how to use them.
pub(crate) fn up(how: How) -> Result<()> {
    if let Ok(state) = fs::read_to_string(STATE_FILE) {
        println!("already up (`cargo x down` stops it):");
        print!("{}", use_lines(&state));
        return Ok(());
    }
    let compose = compose_command().filter(|_| servers::docker_answers());
    let state = match compose {
        Some(compose) => with_compose(&compose)?,
        None if how.containers => bail!("no Docker engine with compose answers"),
        None => {
            setup::setup(How { containers: false, ..how })?;
            locally()?
        }
    };
    println!("up; for the lab and the tests:");
    print!("{}", use_lines(&state));
    Ok(())
}

/// Stops what `up` started.
pub(crate) fn down() -> Result<()> {
    let Ok(state) = fs::read_to_string(STATE_FILE) else {
        println!("nothing is up");
        return Ok(());
    };
    match value(&state, "how") {
        Some("compose") => {
            let compose =
                compose_command().context("compose is gone; stop the containers by hand")?;
            command(&compose).args(["stop", "redis", "postgres"]).spawn_and_wait()?;
        }
        _ => stop_local(Path::new(
            value(&state, "directory").context("no directory in the state file")?,
        ))?,
    }
    fs::remove_file(STATE_FILE)?;
    println!("down");
    Ok(())
}

fn use_lines(state: &str) -> String {
    [REDIS_URL_VARIABLE, POSTGRES_URL_VARIABLE]
        .iter()
        .filter_map(|name| Some(format!("export {name}={}\n", value(state, name)?)))
        .collect()
}

fn value<'a>(state: &'a str, name: &str) -> Option<&'a str> {
    state.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn save_state(how: &str, directory: &Path, postgres_user: &str) -> Result<String> {
    let state = format!(
        "how={how}\ndirectory={}\n\
         {REDIS_URL_VARIABLE}=redis://127.0.0.1:{REDIS_PORT}\n\
         {POSTGRES_URL_VARIABLE}=postgres://{postgres_user}@127.0.0.1:{POSTGRES_PORT}/postgres\n",
        directory.display()
    );
    fs::create_dir_all("target")?;
    fs::write(STATE_FILE, &state)?;
    Ok(state)
}

fn wait_until(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > READY_LIMIT {
            bail!("{what} is not ready after {READY_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

// ---- compose

/// The plugin, or the older program of its own.
fn compose_command() -> Option<Vec<&'static str>> {
    [vec!["docker", "compose"], vec!["docker-compose"]]
        .into_iter()
        .find(|words| succeeds(command(words).arg("version")))
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn with_compose(compose: &[&str]) -> Result<String> {
    // Saved first: what a failed start leaves behind is stopped by `down`.
    let state = save_state("compose", Path::new(""), "postgres:postgres")?;
    command(compose)
        .args(["up", "-d", "redis", "postgres"])
        .env("REDIS_PORT", REDIS_PORT.to_string())
        .env("POSTGRES_PORT", POSTGRES_PORT.to_string())
        .spawn_and_wait()?;
    for service in ["redis", "postgres"] {
        wait_until(service, || is_healthy(compose, service))?;
    }
    Ok(state)
}

/// `up --wait` would do this, but the older compose does not have it.
fn is_healthy(compose: &[&str], service: &str) -> bool {
    let Ok(output) = command(compose).args(["ps", "-q", service]).output() else { return false };
    let container = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Command::new("docker")
        .args(["inspect", "-f", "{{.State.Health.Status}}", &container])
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"healthy")
}

// ---- local processes

fn locally() -> Result<String> {
    for port in [REDIS_PORT, POSTGRES_PORT] {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("port {port} is taken, and not by `cargo x up`"))?;
    }
    let directory = state_directory()?;
    let state = save_state("local", &directory, "postgres")?;
    let started = start_redis(&directory).and_then(|()| start_postgres(&directory));
    if let Err(error) = started {
        // Half of it up would make the next `up` say that all is well.
        drop(stop_local(&directory));
        fs::remove_file(STATE_FILE)?;
        return Err(error);
    }
    Ok(state)
}

/// Outside the checkout: the Postgres user must be able to enter it, which it often cannot in
/// somebody's home directory.
fn state_directory() -> Result<PathBuf> {
    let checkout = std::env::current_dir()?.display().to_string();
    let name = format!("working-answers-{}", &crate::tidy::sha256(&checkout)[..12]);
    let directory = std::env::temp_dir().join(name);
    fs::create_dir_all(directory.join("redis"))?;
    Ok(directory)
}

fn start_redis(directory: &Path) -> Result<()> {
    let program =
        servers::redis_server().context("there is no redis-server; run `cargo x setup`")?;
    let home = directory.join("redis");
    Command::new(program)
        .args(["--daemonize", "yes", "--bind", "127.0.0.1", "--appendonly", "yes"])
        .args(["--port", &REDIS_PORT.to_string()])
        .arg("--dir")
        .arg(&home)
        .arg("--pidfile")
        .arg(home.join("redis.pid"))
        .arg("--logfile")
        .arg(home.join("redis.log"))
        .spawn_and_wait()?;
    wait_until("redis", || ask_redis("PING").is_ok_and(|answer| answer == "+PONG\r\n"))
}

fn start_postgres(directory: &Path) -> Result<()> {
    let programs =
        servers::postgres_directory().context("there is no postgres; run `cargo x setup`")?;
    let data = directory.join("postgres");
    if !data.join("PG_VERSION").exists() {
        fs::create_dir_all(&data)?;
        if is_root() {
            Command::new("chown").arg("postgres").arg(&data).spawn_and_wait()?;
        }
        as_postgres(&programs.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn_and_wait()?;
    }
    // Connections come from this machine only, hence trust.
    let options = format!("-p {POSTGRES_PORT} -c listen_addresses=127.0.0.1 -k {}", data.display());
    as_postgres(&programs.join("pg_ctl"))
        .args(["start", "--wait", "--silent", "-o", &options, "-l"])
        .arg(data.join("postgres.log"))
        .arg("-D")
        .arg(&data)
        .spawn_and_wait()
}

fn stop_local(directory: &Path) -> Result<()> {
    let data = directory.join("postgres");
    if data.join("postmaster.pid").exists() {
        let programs = servers::postgres_directory().context("pg_ctl is gone")?;
        as_postgres(&programs.join("pg_ctl"))
            .args(["stop", "--wait", "--silent", "-m", "fast", "-D"])
            .arg(&data)
            .spawn_and_wait()?;
    }
    let Ok(pid) = fs::read_to_string(directory.join("redis/redis.pid")) else { return Ok(()) };
    // The server itself says who it is: after a crash both the number and the port may belong to
    // another program.
    let is_ours = |answer: String| answer.contains(&format!("process_id:{}\r\n", pid.trim()));
    if ask_redis("INFO server").is_ok_and(is_ours) {
        // It closes the connection instead of answering.
        drop(ask_redis("SHUTDOWN"));
        wait_until("the end of redis", || ask_redis("PING").is_err())?;
    }
    Ok(())
}

/// The beginning of the answer to an inline command.
fn ask_redis(command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, REDIS_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Postgres refuses to run as root, so root steps down to the user of that name.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program).current_dir(std::env::temp_dir());
    command
}
