//! Running what documents say: servers until their block ends, everything else to its own end.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::plan::Ends;

/// A server that takes longer is not there; in the dev profile on a busy machine some need seconds.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// A server that was asked to stop and has not by then is killed, and that is a failure.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Any other command. A comparison in its quick form takes minutes.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// A directory in which the commands of one document run: what they leave behind goes with it.
pub(crate) struct Place {
    directory: PathBuf,
    runs: usize,
}

impl Place {
    pub(crate) fn new(number: usize) -> Result<Self> {
        let name = format!("documents-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        // A trace with a popular half, for the command that wants one.
        let keys = (0..2_000_u64).map(|n| if n % 2 == 0 { n % 20 } else { n * 7 % 1_009 });
        let trace: String = keys.map(|key| format!("{key}\n")).collect();
        fs::write(directory.join(super::TRACE), trace)?;
        Ok(Self { directory, runs: 0 })
    }

    /// Runs the command and compares its output with the lines shown.
    pub(crate) fn run(&mut self, shell: &str, ends: Ends, shows: &[String]) -> Result<()> {
        let (mut child, output) = self.start(shell)?;
        let Some(status) = ended(&mut child, RUN_LIMIT)? else {
            child.kill()?;
            child.wait()?;
            bail!("it has not ended after {RUN_LIMIT:?}\n{}", tail(&output));
        };
        let printed = fs::read_to_string(&output).unwrap_or_default();
        let well = match ends {
            Ends::Well => status.success(),
            Ends::Graded => printed.contains("promises kept"),
            Ends::Answered => printed.contains("  outcome  "),
        };
        ensure!(well, "{status}\n{}", tail(&output));
        for line in shows {
            let there = printed.lines().any(|printed| is_like(printed.trim(), line));
            ensure!(there, "the document shows\n    {line}\nand it printed\n{}", tail(&output));
        }
        Ok(())
    }

    /// Starts a server and waits until it answers at its address.
    pub(crate) fn serve(&mut self, shell: &str, address: &str) -> Result<Server> {
        wait_until(|| !answers(address), READY_LIMIT)
            .with_context(|| format!("{address} is taken by another program"))?;
        let (child, output) = self.start(shell)?;
        let mut server = Server { child, output };
        let begun = Instant::now();
        while !answers(address) {
            let ended = server.child.try_wait()?;
            ensure!(ended.is_none(), "the server ended: {}", tail(&server.output));
            let late = begun.elapsed() > READY_LIMIT;
            ensure!(!late, "nothing answers at {address}: {}", tail(&server.output));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn start(&mut self, shell: &str) -> Result<(Child, PathBuf)> {
        self.runs += 1;
        let output = self.directory.join(format!("output-{}", self.runs));
        let file = File::create(&output)?;
        let child = Command::new("sh")
            .args(["-c", shell])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .env("RUST_BACKTRACE", "0")
            .spawn()
            .context("there is no sh")?;
        Ok((child, output))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// A server that a document starts; killed when something goes wrong.
pub(crate) struct Server {
    child: Child,
    output: PathBuf,
}

impl Server {
    /// Stops it as Ctrl-C or a process manager does; it must end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = ended(&mut self.child, STOP_LIMIT)?;
        let status = status.with_context(|| format!("SIGTERM: it runs on after {STOP_LIMIT:?}"))?;
        ensure!(status.success(), "SIGTERM: {status}\n{}", tail(&self.output));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How it ended, or none within the limit.
fn ended(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || begun.elapsed() > limit {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait_until(holds: impl Fn() -> bool, limit: Duration) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        ensure!(begun.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whether a service says it is ready, or a server of another protocol that it knows no HTTP.
pub(crate) fn answers(address: &str) -> bool {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut first = vec![0; 12];
        stream.read_exact(&mut first)?;
        Ok(first)
    };
    asked().is_ok_and(|first| first == b"HTTP/1.1 200" || first.starts_with(b"-"))
}

/// Whether a line is what the document shows, where `...` stands for anything.
fn is_like(line: &str, shown: &str) -> bool {
    let mut rest = line;
    for (number, part) in shown.trim().split("...").enumerate() {
        match rest.find(part) {
            Some(0) => rest = &rest[part.len()..],
            Some(at) if number > 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || shown.trim().ends_with("...")
}

/// The end of what a command printed.
fn tail(output: &Path) -> String {
    let text = fs::read_to_string(output).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(12)..];
    shown.iter().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_output_is_compared_and_dots_stand_for_anything() {
        assert!(is_like(r#"{"id":"7f","left":3}"#, r#"{"id":"...","left":3}"#));
        assert!(is_like("one two", "one ..."));
        assert!(!is_like(r#"{"id":"7f","left":4}"#, r#"{"id":"...","left":3}"#));
        assert!(!is_like("one two three", "one two"));
    }

    #[test]
    fn a_command_that_fails_or_prints_something_else_is_a_failure() {
        let mut place = Place::new(9_001).expect("a directory");
        place.run("echo one; echo two", Ends::Well, &["two".to_owned()]).expect("it says so");
        let error =
            place.run("echo one", Ends::Well, &["two".to_owned()]).expect_err("it does not");
        assert!(error.to_string().contains("the document shows"), "{error}");
        let error = place.run("echo why >&2; exit 3", Ends::Well, &[]).expect_err("it fails");
        assert!(error.to_string().contains("why"), "{error}");
        place.run("echo '0 of 9 promises kept'; exit 1", Ends::Graded, &[]).expect("graded");
        assert!(place.run("true", Ends::Graded, &[]).is_err());
        place.run("echo '  outcome  NO: 2 of 3'; exit 1", Ends::Answered, &[]).expect("answered");
        assert!(place.run("true", Ends::Answered, &[]).is_err());
    }

    #[test]
    fn a_server_that_never_comes_up_is_a_failure() {
        let mut place = Place::new(9_002).expect("a directory");
        let error = place.serve("exec false", "127.0.0.1:1").err().expect("it is not a server");
        assert!(error.to_string().contains("the server ended"), "{error}");
    }
}
