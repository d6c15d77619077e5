//! `lab grade`: your own answer, judged as ours are.
//!
//! A crate in `practice/` is judged by the system's conformance suite, in virtual time; one that
//! keeps every promise is then run beside the simplest of ours. A service at a URL, written in any
//! language, is judged over its protocol, in real time.

mod wire;
mod rate_limiter;
mod lru_cache;
mod url_shortener;
mod job_queue;
mod inventory_locking;
mod chat_service;

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use testkit::grader;

use lru_cache::Resp;
use wire::Wire;

/// What to grade.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The system, such as `rate-limiter`: grades `practice/<system>`.
    system: String,
    /// Grades the service at this address instead: `http://..`, for lru-cache `redis://..`.
    #[arg(long)]
    url: Option<String>,
    /// A header to send with every request, such as `Authorization: Bearer KEY`.
    #[arg(long, requires = "url", value_parser = header)]
    header: Vec<(String, String)>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let known: Vec<_> = benches::systems().into_iter().map(|system| system.name).collect();
    anyhow::ensure!(
        known.contains(&arguments.system.as_str()),
        "no system {} (there are: {})",
        arguments.system,
        known.join(", ")
    );
    match arguments.url {
        None => practice(&arguments.system),
        Some(url) => {
            let system = arguments.system;
            // Grading blocks: each promise is judged on a runtime of its own.
            tokio::task::spawn_blocking(move || at_url(&system, url, arguments.header)).await?
        }
    }
}

/// The practice crates are programs of their own and not linked into the lab: a half-finished one
/// must not keep the lab from compiling, and grading builds a small crate instead of everything.
fn practice(system: &str) -> anyhow::Result<ExitCode> {
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

fn at_url(system: &str, url: String, headers: Vec<(String, String)>) -> anyhow::Result<ExitCode> {
    let scheme = if system == "lru-cache" { "redis" } else { "http" };
    // One word about it instead of every promise broken.
    service::reach::somebody_answers("url", &url, scheme, "start your service first")?;
    let out = &mut io::stdout();
    let again = format!("{system} --url {url}");
    if system == "lru-cache" {
        let resp = move || {
            let url = url.clone();
            async move { Resp::connect(&url).await.expect("a server that speaks RESP") }
        };
        let kept = grader::grade(out, &again, lru_cache::promises, resp);
        return Ok(grader::exit(kept));
    }
    let promises = match system {
        "rate-limiter" => rate_limiter::promises,
        "url-shortener" => url_shortener::promises,
        "job-queue" => job_queue::promises,
        "inventory-locking" => inventory_locking::promises,
        _ => chat_service::promises,
    };
    let wire = move || {
        let wire = Wire::new(&url, headers.clone());
        async move { wire }
    };
    Ok(grader::exit(grader::grade(out, &again, promises, wire)))
}
