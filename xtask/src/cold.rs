//! `cargo x cold`: how long the first command of the README takes where nothing was built before.
//! Prints it, and writes it into CONTRIBUTING.md.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::commands::SpawnAndWait;
use crate::tidy::sha256;

const DOCUMENT: &str = "CONTRIBUTING.md";
const BEGIN: &str = "<!-- generated: workspace/cold-build";
const END: &str = "<!-- /generated -->";

/// Builds the lab in a directory of its own, which is removed again. Downloads are not counted:
/// they are made before the clock starts.
pub(crate) fn cold() -> Result<()> {
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
    let cores = std::thread::available_parallelism()?;
    let megabytes = bytes.context("the lab was not built")? / 1_000_000;
    let body = format!(
        "`cargo build --release` from nothing: {seconds} s on {cores} cores, downloads not \
         counted; the binary has {megabytes} MB with its line tables.\n"
    );
    print!("{body}");
    write_block(&body)
}

fn write_block(body: &str) -> Result<()> {
    let text = std::fs::read_to_string(DOCUMENT)?;
    let Some(begin) = text.find(BEGIN) else { bail!("{DOCUMENT} has no block for it") };
    let Some(end) = text[begin..].find(END) else { bail!("{DOCUMENT}: the block has no end") };
    let block = format!("{BEGIN} sha256={} -->\n{body}", sha256(body));
    let text = format!("{}{block}{}", &text[..begin], &text[begin + end..]);
    Ok(std::fs::write(DOCUMENT, text)?)
}
