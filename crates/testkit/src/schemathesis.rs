//! Holds a running service to its own OpenAPI document: [schemathesis], a fuzzer from PyPI, sends
//! what the document allows and what it forbids, and checks every answer against it.
//!
//! ```text
//! Fuzz::of(format!("http://{address}/openapi.json"))
//!     .header("Authorization", &format!("Bearer {key}"))
//!     .run()
//!     .await;
//! ```
//!
//! All its checks and all its phases are on; a test that has to relax one says so with
//! [`Fuzz::config`], where a reader sees it. The fuzzer is installed once, at pinned versions,
//! into a virtual environment in the target directory. Where there is no Python or no PyPI the
//! test says so and counts as not run, unless `SCHEMATHESIS=required` (CI), which makes it fail.
//!
//! [schemathesis]: https://pypi.org/project/schemathesis/

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::Seed;

/// `required` makes a missing fuzzer a failure.
pub const VARIABLE: &str = "SCHEMATHESIS";
/// Everything it needs, at the versions our documents were checked with.
const REQUIREMENTS: &str = include_str!("schemathesis/requirements.txt");
const HOOKS: &str = include_str!("schemathesis/hooks.py");
/// How long an installation may take before the network counts as absent.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a run may take: one that hangs is a failure, not a hanging suite.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

/// A run of the fuzzer against one service.
#[derive(Debug, Clone)]
pub struct Fuzz {
    openapi: String,
    headers: Vec<String>,
    config: String,
    examples: u32,
}

/// How a run ended that found nothing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// So many operations answered so many requests as documented.
    Clean {
        /// Operations of the document, all of which were tried.
        operations: u64,
        /// Requests.
        cases: u64,
    },
    /// There is no fuzzer here, for this reason.
    NotRun(String),
}

impl Fuzz {
    /// Against the service whose document is at this URL.
    pub fn of(openapi: impl Into<String>) -> Self {
        Self { openapi: openapi.into(), headers: vec![], config: String::new(), examples: 40 }
    }

    /// Sends this header with every request, except where leaving it out is what is tested.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Requests per operation and phase, 40 when not said.
    #[must_use]
    pub fn examples(mut self, examples: u32) -> Self {
        self.examples = examples;
        self
    }

    /// Lines for `schemathesis.toml`: what the document's language cannot express, each with its
    /// reason.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// Runs it, and prints what it did.
    ///
    /// # Panics
    /// When the service broke its document, with the requests that show it; when an operation was
    /// not tried; when there is no fuzzer although `SCHEMATHESIS=required`.
    pub async fn run(self) -> Outcome {
        let program = match installed().await {
            Ok(program) => program,
            Err(reason) => return not_run(reason),
        };
        let seed = Seed::from_env_or_fresh();
        let place = scratch();
        let report = place.join("report.json");
        fs::write(place.join("hooks.py"), HOOKS).expect("the target directory can be written");
        fs::write(place.join("schemathesis.toml"), &self.config).expect("as before");
        let mut command = Command::new(program);
        command.current_dir(&place).env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", ".");
        command.args(["--config-file", "schemathesis.toml", "run", &self.openapi, "--no-color"]);
        command.args(["--phases", "examples,coverage,fuzzing,stateful", "--report", "json"]);
        command.arg("--report-json-path").arg(&report);
        command.args(["--max-examples", &self.examples.to_string()]);
        command.args(["--seed", &(seed.value() & u64::from(u32::MAX)).to_string()]);
        command.args(["--generation-database", "none"]);
        command.args(self.headers.iter().flat_map(|header| ["--header", header]));
        let output =
            finished(command, RUN_TIME_MAX).await.unwrap_or_else(|error| panic!("{error}"));
        let outcome = judge(&output, fs::read(&report).ok());
        let (said, outcome) = (
            said(&output),
            outcome.unwrap_or_else(|why| {
                panic!(
                    "schemathesis, whose files are in {}: {why}\n{}",
                    place.display(),
                    said(&output)
                )
            }),
        );
        println!("{said}");
        // After a failure the directory stays: its cases can be sent again with `st replay`.
        let _ = fs::remove_dir_all(&place);
        outcome
    }
}

/// What the report says. The exit code alone would also be 0 for a document without operations.
fn judge(output: &Output, report: Option<Vec<u8>>) -> Result<Outcome, String> {
    let report = report.ok_or("it wrote no report")?;
    let report: Value = serde_json::from_slice(&report).map_err(|error| error.to_string())?;
    let count = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let (selected, tested) = (count("/operations/selected"), count("/operations/tested"));
    if !output.status.success() {
        return Err(format!("the service does not keep to its document ({})", output.status));
    }
    if report["complete"] != true || tested == 0 || tested != selected {
        return Err(format!("it tried {tested} of {selected} operations"));
    }
    match count("/test_cases/generated") {
        0 => Err("it sent nothing".to_owned()),
        cases => Ok(Outcome::Clean { operations: tested, cases }),
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn not_run(reason: String) -> Outcome {
    let required = std::env::var(VARIABLE).is_ok_and(|value| value == "required");
    assert!(!required, "{VARIABLE}=required, and there is no schemathesis: {reason}");
    println!("NOT RUN: schemathesis, because {reason}");
    // A passing test's output is not shown; `cargo x test` reads this file and says it at the end.
    let _ = fs::write(target().join("schemathesis-not-run"), &reason);
    Outcome::NotRun(reason)
}

/// The program, installed if it was not.
///
/// # Errors
/// Why there is none.
async fn installed() -> Result<PathBuf, String> {
    let place = target().join("schemathesis");
    fs::create_dir_all(target()).map_err(|error| error.to_string())?;
    // Tests of several packages may come here at once, each in a process of its own.
    let lock = target().join("schemathesis.lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::create(lock)?;
        file.lock().map(|()| file)
    });
    let _lock = lock.await.expect("locking does not panic").map_err(|error| error.to_string())?;
    let (program, done) = (place.join("bin/st"), place.join("installed.txt"));
    if program.exists() && fs::read_to_string(&done).is_ok_and(|of| of == REQUIREMENTS) {
        return Ok(program);
    }
    let _ = fs::remove_dir_all(&place);
    let mut python = Command::new("python3");
    python.args(["-m", "venv"]).arg(&place);
    succeeded(python).await?;
    let requirements = place.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(|error| error.to_string())?;
    let mut pip = Command::new(place.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    succeeded(pip).await?;
    fs::write(done, REQUIREMENTS).map_err(|error| error.to_string())?;
    Ok(program)
}

async fn succeeded(command: Command) -> Result<(), String> {
    let shown = format!("{:?}", command.as_std());
    let output = finished(command, INSTALL_TIME_MAX).await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{shown} failed: {}", said(&output).trim())),
    }
}

async fn finished(mut command: Command, limit: Duration) -> Result<Output, String> {
    let shown = format!("{:?}", command.as_std());
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(format!("{shown}: {error}")),
        Err(_) => Err(format!("{shown} did not end within {} s", limit.as_secs())),
    }
}

/// Cargo's directory for what is built.
fn target() -> PathBuf {
    let of_workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(of_workspace, PathBuf::from);
    std::path::absolute(target).expect("a working directory")
}

fn scratch() -> PathBuf {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let place = target().join(format!("schemathesis-runs/{}-{run}", std::process::id()));
    fs::create_dir_all(&place).expect("the target directory can be written");
    place
}
