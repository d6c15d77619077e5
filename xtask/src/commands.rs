//! Running cargo: the tests and the lints.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{How, documents, setup, tidy};

/// The feature that systems put their conformance suite behind.
///
/// Trap: a test target with `required-features` is silently left out when the feature is off, so
/// the tests always run with it.
const CONFORMANCE: &str = "conformance";

/// Every path in this program is relative to the root of the workspace.
pub(crate) fn go_to_workspace_root() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in a workspace")?;
    std::env::set_current_dir(root).with_context(|| format!("cannot enter {}", root.display()))
}

/// Sets up, then runs doctests and tests; the summary of the tests is the last thing printed.
pub(crate) fn test(how: How, rest: &[String]) -> Result<()> {
    let ready = setup::setup(how)?;
    let features = features(How { containers: ready.containers, ..how })?;
    let doctests =
        cargo(&["test", "--workspace", "--doc", "--quiet"]).args(&features).spawn_and_wait();
    let nextest = succeeds(Command::new("cargo").args(["nextest", "--version"]));
    let mut tests = if nextest {
        cargo(&["nextest", "run", "--workspace"])
    } else {
        println!("cargo-nextest is not installed: running `cargo test` instead, which is slower");
        // `--tests` is every target with tests in it, libraries too; the doctests have run.
        cargo(&["test", "--workspace", "--no-fail-fast", "--tests"])
    };
    tests.args(&features).args(rest);
    tell_what_is_there(&mut tests, &ready);
    if ready.python && std::env::var_os("CI").is_some() {
        tests.env("SCHEMATHESIS", "required");
    }
    // The tests leave the reason there when they could not install the API fuzzer.
    let not_fuzzed = Path::new("target/schemathesis-not-run");
    let _ = std::fs::remove_file(not_fuzzed);
    let tests = tests.spawn_and_wait();
    // The tests have built what documents run. Some of them were asked for by name: not documents.
    let documents =
        if rest.is_empty() { documents::documents(false, &features, &[]) } else { Ok(()) };
    if let Ok(reason) = std::fs::read_to_string(not_fuzzed) {
        println!("NOT RUN: the API fuzzer, because {reason}");
    }
    if !how.kafka {
        println!("NOT RUN: the tests of the Kafka bus; `cargo x test --kafka` runs them");
    }
    if !ready.axe {
        println!("NOT RUN: the check of the console for barriers; it takes npm and a browser");
    }
    let sdk = if how.sdk { sdk() } else { Ok(()) };
    if !how.sdk {
        println!("NOT RUN: the AWS SDK for Rust on the job queue; `cargo x test --sdk` runs it");
    }
    if ready.browser.is_none() {
        println!("NOT RUN: the browser tests, because there is no Chromium on this machine");
    }
    all_succeed(vec![doctests, tests, documents, sdk])
}

/// The browser tests fail without a browser unless they are told that none can be had, and so on.
pub(crate) fn tell_what_is_there(tests: &mut Command, ready: &setup::Ready) {
    tests.env("TEST_BROWSER", ready.browser.as_deref().unwrap_or(Path::new("absent")));
    if !ready.axe {
        tests.env("TEST_AXE", "absent");
    }
    if ready.containers {
        tests.env("INFRA_PREFER", "container");
    }
}

/// The job queue through the AWS SDK for Rust: a workspace of its own, built for minutes once.
fn sdk() -> Result<()> {
    cargo(&["build", "--package", "job-queue"]).spawn_and_wait()?;
    let manifest = "job-queue/tests/sdk/Cargo.toml";
    let run = ["run", "--locked", "--target-dir", "target/sdk", "--manifest-path", manifest, "--"];
    cargo(&run).arg("target/debug/job-queue").spawn_and_wait()
}

/// Rewrites the generated blocks of every document from the results of the last comparisons.
pub(crate) fn tables() -> Result<()> {
    cargo(&["run", "--release", "--package", "lab", "--", "tables"]).spawn_and_wait()
}

/// Everything that must be free of warnings, quickest first. Goes on after a failure: one run
/// shows all that is wrong.
pub(crate) fn lint(how: How) -> Result<()> {
    let features = features(How { containers: false, ..how })?;
    let mut clippy = cargo(&["clippy", "--workspace", "--all-targets"]);
    clippy.args(&features).args(["--", "-D", "warnings"]);
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    doc.args(&features).env("RUSTDOCFLAGS", "-D warnings");
    all_succeed(vec![
        cargo(&["fmt", "--all", "--check"]).spawn_and_wait(),
        tidy::tidy(),
        clippy.spawn_and_wait(),
        doc.spawn_and_wait(),
    ])
}

/// The lints and the tests; the tests run even when a lint fails.
pub(crate) fn ci(how: How) -> Result<()> {
    all_succeed(vec![lint(how), test(how, &[])])
}

/// One error that names all of them.
fn all_succeed(results: Vec<Result<()>>) -> Result<()> {
    let errors: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if !errors.is_empty() {
        bail!("{}", errors.join("\nerror: "));
    }
    Ok(())
}

pub(crate) fn features(how: How) -> Result<Vec<String>> {
    let mut features = Vec::new();
    // Cargo refuses a feature that no member has.
    if tidy::members()?.iter().any(|member| member.has_feature(CONFORMANCE)) {
        features.push(CONFORMANCE);
    }
    if how.containers {
        features.push("infra/containers");
    }
    if how.kafka {
        features.push("chat-service/kafka");
    }
    Ok(features
        .iter()
        .flat_map(|feature| ["--features".to_owned(), (*feature).to_owned()])
        .collect())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// A command that prints itself, runs on this terminal, and whose failure is an error.
pub(crate) trait SpawnAndWait {
    fn spawn_and_wait(&mut self) -> Result<()>;
}

impl SpawnAndWait for Command {
    fn spawn_and_wait(&mut self) -> Result<()> {
        let shown = shown(self);
        println!("$ {shown}");
        let status = self.status().with_context(|| format!("cannot run `{shown}`"))?;
        if !status.success() {
            bail!("`{shown}` failed: {status}");
        }
        Ok(())
    }
}

/// Whether a command can be run and says yes; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
