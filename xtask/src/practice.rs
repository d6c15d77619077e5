//! How far a reader's answers are; and, because every starter is compiled against its contract,
//! whether the starters still fit.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tidy::members;

/// Grades every crate in `practice/` and prints a line for each.
pub(crate) fn practice() -> Result<()> {
    let crates = members()?.into_iter().map(|member| member.directory);
    // One is not to be filled in: it shows the graders on answers of ours.
    let starters = crates.filter(|it| it.starts_with("practice/") && it != "practice/answered");
    for directory in starters {
        let system = directory.trim_start_matches("practice/");
        println!("{system:<20} {}", how_far(system)?);
    }
    Ok(())
}

/// The last line of the grader; an error when the crate does not compile.
fn how_far(system: &str) -> Result<String> {
    let package = format!("practice-{system}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let graded = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", &package, "--", "--promises-only"])
        .output()
        .context("cannot run cargo")?;
    let page = String::from_utf8_lossy(&graded.stdout);
    let Some(line) = page.lines().rfind(|line| line.ends_with("promises kept")) else {
        bail!("{package} was not graded:\n{}", String::from_utf8_lossy(&graded.stderr));
    };
    let first = page.lines().find_map(|line| line.strip_prefix("The first one to look at: "));
    Ok(format!("{line}{}", first.map(|name| format!("; next: {name}")).unwrap_or_default()))
}
