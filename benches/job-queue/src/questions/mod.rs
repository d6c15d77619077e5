//! An interviewer's follow-up questions about the job queue.

mod backlog;
mod brokers;
mod crash;
mod depth;
mod duplicates;
mod poison;
mod retry_storm;
mod short_lease;
mod worker_dies;

use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::store::memory::Memory;
use job_queue::worker::{Context, Direct, Failure, Handler, Policy, enqueue};
use job_queue::{QueueId, Queues, Settings};
use serde::{Deserialize, Serialize};

use measure::Question;

/// In the order an interviewer would ask them.
pub(super) fn questions() -> Vec<Question> {
    vec![
        poison::question(),
        worker_dies::question(),
        duplicates::question(),
        short_lease::question(),
        retry_storm::question(),
        backlog::question(),
        depth::question(),
        crash::question(),
        brokers::question(),
    ]
}

pub(super) const REGION: &str = "us-east-1";

pub(super) fn id(queue: &str) -> QueueId {
    QueueId::new(REGION, queue)
}

/// A store in memory with these queues, and workers' access to it.
async fn store(queues: &[&str]) -> anyhow::Result<(Memory, Direct<Memory>)> {
    let store = Memory::new(Clock::system());
    for queue in queues {
        store.create(&id(queue), Settings::standard()).await?;
    }
    Ok((store.clone(), Direct::new(store, REGION, Clock::system())))
}

/// A job that takes this long and counts how often it ran.
#[derive(Clone, Default)]
struct Sleeps {
    runs: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

#[derive(Serialize, Deserialize)]
struct Nap {
    ms: u64,
}

impl Handler for Sleeps {
    type Job = Nap;
    const JOB: &'static str = "nap";

    fn policy(&self) -> Policy {
        Policy::default()
    }

    async fn run(&self, nap: Nap, _: Context) -> Result<(), Failure> {
        self.runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(nap.ms)).await;
        Ok(())
    }
}

async fn enqueue_naps(source: &Direct<Memory>, count: usize, ms: u64) -> anyhow::Result<()> {
    for _ in 0..count {
        enqueue::<Sleeps, _>(source, "work", &Nap { ms }, Duration::ZERO).await?;
    }
    Ok(())
}

/// Jobs that are not deleted yet.
async fn left(store: &Memory) -> anyhow::Result<usize> {
    let counts = store.counts(&id("work")).await?;
    Ok(counts.ready + counts.in_flight + counts.delayed)
}
