//! A reader's queues beside ours, called directly: messages through their whole life.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::queue::Ask;
use job_queue::store::memory::Memory;
use job_queue::store::sqlite::Sqlite;
use job_queue::{Content, NewMessage, Queues, Settings};
use measure::harness::{ClosedLoop, Outcome, Shot};
use measure::{Bench, Ready, SCENARIO, Scenario, Subject, YOURS};

use crate::questions::id;

/// Callers at once.
const CALLERS: usize = 32;

/// A reader's queues, by `make` from a clock, as one more row.
pub fn beside_ours<Q: Queues>(make: impl Fn(Clock) -> Q + Send + Sync + 'static) -> ExitCode {
    measure::beside("job-queue", |bench| compare(bench, make))
}

async fn compare<Q: Queues>(
    bench: Bench,
    make: impl Fn(Clock) -> Q + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let subjects = vec![
        Subject::answer("memory", || ready(Memory::new(Clock::system()), ())),
        Subject::answer("sqlite", || async {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("queue.db");
            ready(Sqlite::open(&path, Clock::system()).await?, directory).await
        }),
        Subject::answer(YOURS, move || ready(make(Clock::system()), ())),
    ];
    let about = "a message of 100 bytes sent, received and deleted, called directly; sqlite with \
                 an fsync for each of the three";
    let (rounds, warm_up) = (Some(3), Duration::from_millis(150));
    let scenario = Scenario { rounds, warm_up, ..Scenario::new(SCENARIO, about, "memory") };
    let duration = Duration::from_millis(400);
    let load = ClosedLoop { workers: CALLERS, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}

/// What went in and came out.
#[derive(Default)]
struct Books {
    sent: AtomicU64,
    deleted: AtomicU64,
}

async fn ready<Q: Queues, H: Send + 'static>(queues: Q, home: H) -> anyhow::Result<Ready> {
    queues.create(&id("work"), Settings::standard()).await?;
    let (queues, books) = (Arc::new(queues), Arc::new(Books::default()));
    let (working, counting) = (Arc::clone(&queues), Arc::clone(&books));
    let op = move |_: Shot| {
        let (queues, books) = (Arc::clone(&working), Arc::clone(&counting));
        async move { one_life(&*queues, &books).await }
    };
    Ok(Ready::new(op, move |_| async move {
        let counts = queues.counts(&id("work")).await.map_err(|error| error.to_string())?;
        drop(home);
        let left = (counts.ready + counts.in_flight + counts.delayed) as u64;
        let (sent, deleted) =
            (books.sent.load(Ordering::SeqCst), books.deleted.load(Ordering::SeqCst));
        let adds_up = sent > 0 && sent == deleted + left;
        adds_up
            .then_some(())
            .ok_or_else(|| format!("{sent} sent, {deleted} deleted, {left} are there"))
    }))
}

/// Whoever receives has sent before, so there is always a message to be had.
async fn one_life<Q: Queues>(queues: &Q, books: &Books) -> Outcome {
    let message = NewMessage::new(Content::text("x".repeat(100)));
    let sent = queues.send(&id("work"), vec![message]).await;
    if !sent.is_ok_and(|sent| sent.iter().all(Result::is_ok)) {
        return Err("not sent");
    }
    books.sent.fetch_add(1, Ordering::SeqCst);
    let received = queues.receive(&id("work"), Ask::now(1)).await.map_err(|_| "not received")?;
    let Some(delivery) = received.first() else { return Err("nothing there") };
    let deleted = queues.delete(&id("work"), vec![delivery.receipt]).await;
    if !deleted.is_ok_and(|deleted| deleted.iter().all(Result::is_ok)) {
        return Err("not deleted");
    }
    books.deleted.fetch_add(1, Ordering::SeqCst);
    Ok("done")
}
