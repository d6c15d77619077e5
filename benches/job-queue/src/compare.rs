//! The answers side by side: over HTTP beside another SQS-compatible server, as durable stores, at
//! depth, and how soon a waiting consumer is woken.
//!
//! Servers run on processor 0. Start the comparisons over HTTP on another (`taskset -c 1 .. --only
//! http`, `--only wake`), or both share one and the figures are those of half a server; and the
//! others on all, because Postgres and Redis run where the comparison runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use measure::harness::{ClosedLoop, Outcome, Plan, Shot};
use measure::{Bench, Comparison, Ready, Scenario, Subject};

mod depth;
mod graphile;
mod jobs;
mod peer;
mod stores;
mod wire;

use super::server::Server;
use peer::Peer;
use wire::{Action, Wire};

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "four stores of queues: over HTTP, durable, a million messages deep, waking those \
                 who wait";
    Comparison { system: "job-queue", about, run: |bench| Box::pin(compare(bench)) }
}

/// Where servers run.
const SERVER_CORE: usize = 0;
/// Requests in flight when the highest rate is asked for.
const CONNECTIONS: usize = 32;

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    let peer = Peer::find();
    if let Some(version) = peer.version() {
        bench.version("fauxqs", version);
    }
    for (name, action, about) in [
        ("http-send", Action::Send, "SendMessage over HTTP, 100 bytes"),
        ("http-send-batch", Action::SendBatch, "SendMessageBatch over HTTP: ten of 100 bytes each"),
        (
            "http-cycle",
            Action::Cycle,
            "over HTTP: send ten, receive ten, delete ten (one request here is all three)",
        ),
    ] {
        over_http(&bench, &peer, name, action, about).await?;
    }
    woken(&bench).await?;
    depth::compare(&bench).await?;
    let servers = stores::servers(&mut bench).await?;
    stores::compare(&bench, &servers).await?;
    jobs::compare(&mut bench, &servers).await
}

async fn over_http(
    bench: &Bench,
    peer: &Peer,
    name: &'static str,
    action: Action,
    about: &str,
) -> anyhow::Result<()> {
    let mut subjects: Vec<_> = ["memory", "sqlite"].map(|store| ours(store, action)).into();
    subjects.extend(peer.subject(action));
    let scenario =
        Scenario::new(name, format!("{about}; server on a processor of its own"), "memory");
    let scenario = Scenario { rounds: Some(bench.pick(1, 4, 10)), ..scenario };
    let duration = Duration::from_millis(bench.pick(500, 1_500, 5_000));
    let load = ClosedLoop { workers: CONNECTIONS, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}

/// Our server on this store.
fn ours(store: &'static str, action: Action) -> Subject {
    Subject::answer(store, move || async move {
        let (server, directory) = start(store).await?;
        let (wire, process) = (Wire::new(server.address), server.process()?);
        Ok(loaded(wire, action, (server, directory)).await?.served_by(process))
    })
}

async fn start(store: &str) -> anyhow::Result<(Server, Option<tempfile::TempDir>)> {
    if store == "memory" {
        return Ok((Server::ours("memory:", Some(SERVER_CORE)).await?, None));
    }
    let directory = tempfile::tempdir()?;
    let url = format!("sqlite:{}", directory.path().join("queue.db").display());
    Ok((Server::ours(&url, Some(SERVER_CORE)).await?, Some(directory)))
}

/// A server under this action; `home` is what it lives in. In the end every message acknowledged
/// must be in the queue, or out of it.
async fn loaded<H: Send + 'static>(wire: Wire, action: Action, home: H) -> anyhow::Result<Ready> {
    wire.create_queue().await?;
    let wire = Arc::new(wire);
    let calls = Arc::new(AtomicU64::new(0));
    let (wires, counted) = (Arc::clone(&wire), Arc::clone(&calls));
    let op = move |_: Shot| {
        let (wire, calls) = (Arc::clone(&wires), Arc::clone(&counted));
        async move {
            let done = wire.act(action).await;
            calls.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
            done.map_err(|_| "refused or no answer")
        }
    };
    Ok(Ready::new(op, move |_| async move {
        let there = wire.depth().await.map_err(|error| error.to_string())?;
        let expected = action.left_by(calls.load(Ordering::Relaxed));
        drop(home);
        match there == expected {
            true => Ok(()),
            false => Err(format!("{there} messages in the queue, not {expected}")),
        }
    }))
}

/// From the beginning of a send to the end of the receive of somebody who waited for it.
async fn woken(bench: &Bench) -> anyhow::Result<()> {
    let subjects = ["memory", "sqlite"].map(|store| {
        Subject::answer(store, move || async move {
            let home = start(store).await?;
            let wire = Wire::new(home.0.address);
            wire.create_queue().await?;
            let waiting = Arc::new(wire::Waiting::start(wire, WAITING));
            let op = {
                let waiting = Arc::clone(&waiting);
                move |_: Shot| {
                    let waiting = Arc::clone(&waiting);
                    Box::pin(async move { waiting.one().await })
                        as futures::future::BoxFuture<'static, Outcome>
                }
            };
            Ok(Ready::new(op, move |_| async move {
                let (sent, received) = waiting.counts();
                drop(home);
                let all = received == sent;
                all.then_some(()).ok_or_else(|| format!("{received} of {sent} were received"))
            }))
        })
    });
    let about = format!(
        "over HTTP: from the beginning of a send to the end of the answer of one of {WAITING} long \
         polls; server on a processor of its own"
    );
    let scenario = Scenario::new("wake", about, "memory");
    let scenario = Scenario { rounds: Some(bench.pick(1, 4, 10)), ..scenario };
    let plan = Plan::poisson(WAKES_PER_S, Duration::from_millis(bench.pick(800, 2_000, 5_000)));
    // Timed from the send: how late the generator wakes up is listed, and is not the queue's.
    let load = measure::harness::Load::new(plan).timed_from_send();
    bench.open(scenario, load, subjects.into()).await
}

/// Consumers that wait.
const WAITING: usize = 64;
/// Messages for them: few enough that somebody waits whenever one comes.
const WAKES_PER_S: f64 = 500.0;
