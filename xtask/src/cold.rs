//! `cargo x cold`: what the workspace costs a newcomer: the first build, the start, a run of the
//! tests. Prints each figure, and writes it into CONTRIBUTING.md.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::commands::{self, SpawnAndWait};
use crate::documents::answers;
use crate::tidy::sha256;
use crate::{How, setup};

const DOCUMENT: &str = "CONTRIBUTING.md";
const END: &str = "<!-- /generated -->";

/// What can be measured by itself; all of it when nothing is named.
pub(crate) const PARTS: &[&str] = &["build", "start", "tests"];

/// Starts of the lab: the median of so many.
const STARTS: usize = 11;
/// A lab that takes longer does not start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Measures the parts that are named.
pub(crate) fn cold(parts: &[String], how: How) -> Result<()> {
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    if wants("build") {
        write_block("cold-build", &build()?)?;
    }
    if wants("start") {
        write_block("start", &start()?)?;
    }
    if wants("tests") {
        write_block("warm-tests", &tests(how)?)?;
    }
    Ok(())
}

/// Builds the lab in a directory of its own, which is removed again. Downloads are not counted:
/// they are made before the clock starts.
fn build() -> Result<String> {
    Command::new("cargo").args(["fetch", "--locked"]).spawn_and_wait()?;
    let directory = std::env::temp_dir().join(format!("cold-build-{}", std::process::id()));
    let started = Instant::now();
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&directory)
        .spawn_and_wait();
    let seconds = started.elapsed().as_secs();
    let bytes = std::fs::metadata(directory.join("release/lab")).map(|lab| lab.len());
    std::fs::remove_dir_all(&directory).context("removing the build again")?;
    built?;
    let megabytes = bytes.context("the lab was not built")? / 1_000_000;
    Ok(format!(
        "`cargo build --release` from nothing: {seconds} s on {} cores, downloads not counted; \
         the binary has {megabytes} MB with its line tables.\n",
        cores()?
    ))
}

/// From the start of the process to its first answer, and the memory it then has.
fn start() -> Result<String> {
    Command::new("cargo").args(["build", "--release", "--locked"]).spawn_and_wait()?;
    let (mut times, mut memory_kb) = (Vec::new(), None);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut lab = Lab(Command::new("target/release/lab")
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?);
        let address = address(&mut lab.0)?;
        while !answers(&address) {
            ensure!(begun.elapsed() < START_LIMIT, "the lab does not answer at {address}");
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(begun.elapsed());
        memory_kb = resident_kb(lab.0.id());
    }
    times.sort();
    let memory =
        memory_kb.map_or(String::new(), |kb| format!(" It then has {} MB of memory.", kb / 1_024));
    Ok(format!(
        "The lab answers {} ms after it was started (median of {STARTS} starts, {} cores).{memory}\n",
        times[STARTS / 2].as_millis(),
        cores()?
    ))
}

/// Where it listens, from the table that it prints.
fn address(lab: &mut Child) -> Result<String> {
    let stdout = lab.stdout.take().context("its output is piped")?;
    for line in BufReader::new(stdout).lines() {
        if let Some((_, after)) = line?.split_once("http://") {
            return Ok(after.split(['/', ' ']).next().unwrap_or_default().to_owned());
        }
    }
    bail!("the lab ended without saying where it listens")
}

/// Linux says it in a file; elsewhere the figure is left out.
fn resident_kb(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// All tests, built before the clock starts.
fn tests(how: How) -> Result<String> {
    let ready = setup::setup(how)?;
    let features = commands::features(how)?;
    let run = ["nextest", "run", "--workspace"];
    Command::new("cargo").args(run).args(&features).arg("--no-run").spawn_and_wait()?;
    let started = Instant::now();
    let mut tests = Command::new("cargo");
    commands::tell_what_is_there(&mut tests, &ready);
    tests.args(run).args(&features).spawn_and_wait()?;
    Ok(format!(
        "All tests, already built: {} s on {} cores.\n",
        started.elapsed().as_secs(),
        cores()?
    ))
}

fn cores() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// A lab that does not outlive the measurement.
struct Lab(Child);

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn write_block(name: &str, body: &str) -> Result<()> {
    print!("{body}");
    let text = std::fs::read_to_string(DOCUMENT)?;
    std::fs::write(DOCUMENT, with_block(&text, name, body)?)?;
    Ok(())
}

fn with_block(text: &str, name: &str, body: &str) -> Result<String> {
    let head = format!("<!-- generated: workspace/{name}");
    let begin = text.find(&head).with_context(|| format!("{DOCUMENT} has no block {name}"))?;
    let length = text[begin..].find(END).with_context(|| format!("{name} has no end"))?;
    let block = format!("{head} sha256={} -->\n{body}", sha256(body));
    Ok(format!("{}{block}{}", &text[..begin], &text[begin + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_and_what_stands_around_it_stays() {
        let text = "a\n<!-- generated: workspace/start sha256=0 -->\nold\n<!-- /generated -->\nb\n";
        let new = with_block(text, "start", "new\n").expect("there is one");
        assert!(new.starts_with("a\n<!-- generated: workspace/start sha256="), "{new}");
        assert!(new.ends_with("-->\nnew\n<!-- /generated -->\nb\n"), "{new}");
        assert!(with_block(text, "build", "new\n").is_err());
    }
}
