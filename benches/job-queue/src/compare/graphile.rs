//! Another job queue on Postgres: Graphile Worker 0.17.3 (Node.js), of those that publish figures the
//! one with the highest.
//!
//! `npm install --prefix target/peers/graphile-worker graphile-worker@0.17.3` puts it where it is
//! found. Twice: as it comes (a round trip to fetch a job and one to complete it), and with what its
//! documentation recommends for throughput (`localQueue`, `completeJobBatchDelay`), which leases
//! hundreds of jobs ahead and deletes them together.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use infra::Postgres;
use measure::harness::Shot;
use measure::{Ready, Subject};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::jobs::{AHEAD, AT_ONCE, Ended, adds_up};

const PROGRAM: &str = "target/peers/graphile-worker/node_modules";
const SCRIPT: &str = include_str!("graphile.js");
/// Jobs that are there when the run begins: more than can be done in it.
const BACKLOG: u64 = 400_000;

/// Its version, if it is installed.
pub(super) fn version() -> Option<String> {
    let Ok(manifest) = std::fs::read(Path::new(PROGRAM).join("graphile-worker/package.json"))
    else {
        let how = "npm install --prefix target/peers/graphile-worker graphile-worker@0.17.3";
        println!("graphile-worker does not take part: {how}\n");
        return None;
    };
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
    manifest["version"].as_str().map(str::to_owned)
}

pub(super) fn subjects(postgres: &Arc<Postgres>) -> Vec<Subject> {
    // Jobs leased ahead, and how long ends gather, in milliseconds: what it recommends to try.
    [("graphile-worker", 0, -1), ("graphile-worker, leasing ahead", AHEAD, 0)]
        .map(|(name, ahead, gather_ms)| {
            let postgres = Arc::clone(postgres);
            Subject::peer(name, move || {
                let postgres = Arc::clone(&postgres);
                async move { load(&postgres, ahead, gather_ms).await }
            })
        })
        .into()
}

async fn load(postgres: &Postgres, ahead: usize, gather_ms: i32) -> anyhow::Result<Ready> {
    let database = postgres.database("graphile", "").await?;
    let mut child = start(database.url(), ahead, gather_ms)?;
    let mut input = child.stdin.take().context("a pipe was asked for")?;
    let output = child.stdout.take().context("a pipe was asked for")?;
    let mut lines = BufReader::new(output).lines();
    let said = lines.next_line().await?;
    anyhow::ensure!(said.as_deref() == Some("ready"), "graphile-worker said {said:?}");
    let ended = Ended::none();
    let counting = tokio::spawn(count(lines, ended.clone()));
    let op = move |_: Shot| {
        let ended = ended.clone();
        async move { ended.one().await }
    };
    Ok(Ready::new(op, move |_| async move {
        let stopped = input.write_all(b"stop\n").await;
        stopped.map_err(|error| error.to_string())?;
        let last = counting.await.map_err(|error| error.to_string())?;
        drop((child, database));
        let numbers = last.strip_prefix("done ").and_then(|it| it.split_once(" left "));
        let numbers =
            numbers.and_then(|(done, left)| Some((done.parse().ok()?, left.parse().ok()?)));
        let (done, left) = numbers.ok_or_else(|| format!("graphile-worker said {last:?}"))?;
        adds_up(done, left, BACKLOG)
    }))
}

/// The script in a process of its own; dropping it ends it.
fn start(url: &str, ahead: usize, gather_ms: i32) -> anyhow::Result<Child> {
    let modules = Path::new(PROGRAM).canonicalize()?;
    let mut command = Command::new("node");
    command.args(["-e", SCRIPT]).arg(modules).arg(url);
    command.args([BACKLOG.to_string(), AT_ONCE.to_string()]);
    command.args([ahead.to_string(), gather_ms.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("node")
}

/// Counts what ended, and returns the first line that is not a number.
async fn count(mut lines: Lines<BufReader<ChildStdout>>, ended: Ended) -> String {
    while let Ok(Some(line)) = lines.next_line().await {
        match line.parse() {
            Ok(count) => ended.add(count),
            Err(_) => return line,
        }
    }
    "nothing more".to_owned()
}
