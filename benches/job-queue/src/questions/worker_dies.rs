//! A worker dies in the middle of its jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use job_queue::Error;
use job_queue::message::Receipt;
use job_queue::store::memory::Memory;
use job_queue::worker::{
    CancellationToken, Context, Direct, Failure, Handler, Ledger, Once, Worker, WorkerSettings,
    enqueue,
};
use job_queue::{Ask, Queues};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{id, left, store};
use measure::{Question, Stage};

const JOBS: usize = 60;
const AT_ONCE: usize = 8;
const JOB: Duration = Duration::from_millis(150);
const LEASE: Duration = Duration::from_millis(600);
/// Far above what any of this takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "worker-dies",
        asks: "A worker process dies in the middle of eight jobs and tells nobody. When are they \
               done, by whom, and how often? And what if it was not dead, only slow?",
        explanation: "Its heartbeats end with it, so its leases run out and the queue delivers the \
            jobs again: after one lease, not after the longest job. What it had done and not yet \
            deleted is done a second time, which the ledger turns into one effect. A worker that \
            was only asleep wakes up with a stale receipt: it can neither delete nor extend what \
            somebody else holds now, and its epoch is too low for the ledger.",
        run: |stage| Box::pin(worker_dies(stage)),
    }
}

/// A job whose effect goes through the ledger.
#[derive(Clone)]
struct Charge {
    ledger: Ledger,
    begun: Arc<AtomicUsize>,
    effects: Arc<AtomicUsize>,
}

#[derive(Serialize, Deserialize)]
struct Customer(usize);

impl Handler for Charge {
    type Job = Customer;
    const JOB: &'static str = "charge";

    async fn run(&self, _: Customer, context: Context) -> Result<(), Failure> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(JOB).await;
        let effects = Arc::clone(&self.effects);
        let charge = move |_: &_| {
            effects.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        match self.ledger.once(&context.id, context.epoch, charge).await {
            Ok(Once::Done | Once::Before) => Ok(()),
            Ok(Once::Fenced) => Err(Failure::Retry("somebody else has it".to_owned())),
            Err(error) => Err(Failure::Retry(error.to_string())),
        }
    }
}

async fn worker_dies(stage: Stage) -> anyhow::Result<()> {
    let (queues, source) = store(&["work"]).await?;
    let charge =
        Charge { ledger: Ledger::in_memory()?, begun: Arc::default(), effects: Arc::default() };
    for n in 0..JOBS {
        enqueue::<Charge, _>(&source, "work", &Customer(n), Duration::ZERO).await?;
    }
    stage.scene(format!("a queue in memory, leases of {} ms, a ledger", LEASE.as_millis()));
    stage.load(format!("{JOBS} jobs of {} ms, {AT_ONCE} at once", JOB.as_millis()));
    let first = hire(&source, &charge)?;
    wait(|| charge.effects.load(Ordering::SeqCst) >= AT_ONCE).await?;
    // Some are in its hands now, wherever they are in their 150 ms.
    wait(|| charge.begun.load(Ordering::SeqCst) > charge.effects.load(Ordering::SeqCst)).await?;
    // Ending a runtime stops every task of it at once, heartbeats too, as SIGKILL does.
    first.shutdown_background();
    stage.fault("kill-9", "the worker, in the middle of its jobs");
    let died = Instant::now();
    let held = queues.counts(&id("work")).await?.in_flight;
    let begun = charge.begun.load(Ordering::SeqCst);
    let second = hire(&source, &charge)?;
    while left(&queues).await? > 0 {
        anyhow::ensure!(died.elapsed() < PATIENCE, "the jobs are never done");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = died.elapsed();
    second.shutdown_background();
    stage.observe("in the dead worker's hands", held);
    stage.observe("all done", format!("{} ms after its death", took.as_millis()));
    let runs = charge.begun.load(Ordering::SeqCst);
    stage.observe("runs", format!("{begun} before, {} after, for {JOBS} jobs", runs - begun));
    stage.expect("it died with jobs in its hands", held > 0, held);
    stage.expect("they are begun again", runs > JOBS, format!("{runs} runs of {JOBS} jobs"));
    let effects = charge.effects.load(Ordering::SeqCst);
    stage.expect("each has one effect", effects == JOBS, format!("{effects} effects"));
    only_asleep(&stage, &queues).await?;
    stage.because("a lease ends by itself; a receipt and an epoch say whose it is now");
    Ok(())
}

/// A worker on a runtime of its own.
fn hire(source: &Direct<Memory>, charge: &Charge) -> anyhow::Result<Runtime> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let settings =
        WorkerSettings { concurrency: AT_ONCE, visibility: LEASE, ..WorkerSettings::of("work") };
    let worker = Worker::new(source.clone(), settings).handle(charge.clone());
    runtime.spawn(async move { worker.run(CancellationToken::new()).await });
    Ok(runtime)
}

async fn wait(mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !condition() {
        anyhow::ensure!(began.elapsed() < PATIENCE, "nothing happens any more");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// It slept through its lease, and wakes up.
async fn only_asleep(stage: &Stage, queues: &Memory) -> anyhow::Result<()> {
    let source = Direct::new(queues.clone(), super::REGION, job_queue::clock::Clock::system());
    enqueue::<Charge, _>(&source, "work", &Customer(0), Duration::ZERO).await?;
    let ask = |visibility_ms, wait_ms| Ask {
        visibility_ms: Some(visibility_ms),
        wait_ms: Some(wait_ms),
        ..Ask::now(1)
    };
    let sleeper = receipt(queues, ask(50, 1_000)).await?;
    let other = receipt(queues, ask(10_000, 10_000)).await?;
    stage.fault("pause", "a worker sleeps through its lease, another has its job, it wakes up");
    let deleted = queues.delete(&id("work"), vec![sleeper]).await?.pop();
    let moved = queues.change_visibility(&id("work"), vec![(sleeper, 60_000)]).await?.pop();
    let refused = matches!((&deleted, &moved), (Some(Err(Error::Stale)), Some(Err(Error::Stale))));
    stage.expect("it can neither delete nor extend", refused, format!("{deleted:?}, {moved:?}"));
    let fenced = sleeper.epoch < other.epoch;
    let epochs = format!("{} and {}", sleeper.epoch.0, other.epoch.0);
    stage.expect("its fencing token is lower than the other's", fenced, epochs);
    Ok(())
}

async fn receipt(queues: &Memory, ask: Ask) -> anyhow::Result<Receipt> {
    let received = queues.receive(&id("work"), ask).await?;
    received.first().map(|it| it.receipt).ok_or_else(|| anyhow::anyhow!("nothing was received"))
}
