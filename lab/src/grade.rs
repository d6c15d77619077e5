//! `lab grade`: your own answer, judged by the suite that judges ours.
//!
//! The practice crates are programs of their own and not linked into the lab: a half-finished one
//! must not keep the lab from compiling, and grading builds a small crate instead of everything.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;

/// What to grade.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The system, such as `rate-limiter`: grades `practice/<system>`.
    system: String,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let system = &arguments.system;
    let known: Vec<_> = benches::systems().into_iter().map(|system| system.name).collect();
    anyhow::ensure!(
        known.contains(&system.as_str()),
        "no system {system} (there are: {})",
        known.join(", ")
    );
    let practice = workspace().join("practice").join(system);
    anyhow::ensure!(
        practice.join("Cargo.toml").exists(),
        "{} is not there: `grade` needs a checkout of the workspace",
        practice.display()
    );
    println!("Your answer is {}.\n", practice.join("src/lib.rs").display());
    // Cargo shows what does not compile, in its own words.
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--release", "--package", &format!("practice-{system}")])
        .current_dir(workspace())
        .status()
        .context("cannot run cargo, which compiles your answer")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the lab was built.
fn workspace() -> &'static Path {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.parent().unwrap_or(lab)
}
