//! `cargo x tidy`: the house rules that a program can check. Each rule says what to do instead.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

mod source;
mod rust;
mod manifest;
mod text;

pub(crate) use manifest::members;

/// A broken rule: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) says: String,
}

impl Problem {
    fn new(path: &str, line: usize, says: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, says: says.into() }
    }
}

/// Checks every file that git knows or would add, and every crate.
pub(crate) fn tidy() -> Result<()> {
    let files = files()?;
    let mut problems = Vec::new();
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        problems.extend(text::check(path, &text));
        if path.ends_with(".rs") {
            problems.extend(rust::check(path, &text));
        }
        if path.ends_with(".md") {
            problems.extend(text::check_generated_blocks(path, &text));
        }
    }
    problems.extend(manifest::check_root(&fs::read_to_string("Cargo.toml")?));
    problems.extend(manifest::check_nextest(&fs::read_to_string(".config/nextest.toml")?));
    for member in members()? {
        if member.is_a_placeholder() {
            println!("tidy: {} is not written yet", member.directory);
        } else {
            problems.extend(member.check());
        }
    }
    for Problem { path, line, says } in &problems {
        println!("{path}:{line}: {says}");
    }
    if !problems.is_empty() {
        bail!("tidy: {} problems", problems.len());
    }
    println!("tidy: {} files, no problems", files.len());
    Ok(())
}

/// Tracked files and new ones, without what is ignored.
pub(crate) fn files() -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("tidy asks git for the files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(names.lines().filter(|name| Path::new(name).is_file()).map(str::to_owned).collect())
}

/// The hexadecimal SHA-256 of a text.
pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
