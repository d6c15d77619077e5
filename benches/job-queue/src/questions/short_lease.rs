//! The visibility timeout is shorter than the job.

use std::sync::atomic::Ordering;
use std::time::Duration;

use job_queue::worker::{CancellationToken, Source, Worker, WorkerSettings};

use super::{Sleeps, enqueue_naps, left, store};
use measure::{Question, Stage};

const LEASE: Duration = Duration::from_millis(200);
const JOB_MS: u64 = 700;
const JOBS: usize = 8;
/// More than jobs, as on a quiet night: somebody is always free to take what comes back.
const WORKERS: usize = 12;
/// Without it, the consumers without a heartbeat might hand the jobs around for ever.
const RUNS_MAX: usize = 4;

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "short-lease",
        asks: "The visibility timeout is 200 ms and some jobs take 700. What happens?",
        explanation: "Without care the message is handed out again while the first worker is still \
            on it, and again, and every copy is useless work. A longer timeout only moves the \
            problem: it is also how long a dead worker's job has to wait. The worker renews its \
            lease from a task of its own for as long as the job runs, so the timeout can be short \
            and the job can be long.",
        run: |stage| Box::pin(short_lease(stage)),
    }
}

async fn short_lease(stage: Stage) -> anyhow::Result<()> {
    stage.scene(format!("a queue in memory, leases of {} ms", LEASE.as_millis()));
    stage.load(format!("{JOBS} jobs of {JOB_MS} ms for {WORKERS} workers"));
    let naive = without_heartbeat().await?;
    let (queues, source) = store(&["work"]).await?;
    enqueue_naps(&source, JOBS, JOB_MS).await?;
    let naps = Sleeps::default();
    let settings =
        WorkerSettings { visibility: LEASE, concurrency: WORKERS, ..WorkerSettings::of("work") };
    let worker = Worker::new(source, settings).handle(naps.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await }
    });
    while left(&queues).await? > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await?;
    let runs = naps.runs.load(Ordering::SeqCst);
    stage.observe("runs without a heartbeat", format!("{naive} for {JOBS} jobs"));
    stage.observe("runs with a heartbeat", format!("{runs} for {JOBS} jobs"));
    stage.expect("without a heartbeat jobs run more than once", naive > JOBS, naive);
    stage.expect("with it each runs once", runs == JOBS, runs);
    stage.because("the heartbeat renews the lease at a third of its length, beside the job");
    Ok(())
}

/// Consumers that receive, work and delete, and never extend. How many runs there were.
async fn without_heartbeat() -> anyhow::Result<usize> {
    let (queues, source) = store(&["work"]).await?;
    enqueue_naps(&source, JOBS, JOB_MS).await?;
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (queues, source) = (queues.clone(), source.clone());
        consumers.spawn(async move {
            let mut runs = 0;
            let lease_ms = LEASE.as_millis() as u64;
            while left(&queues).await? > 0 && runs < RUNS_MAX {
                for job in source.receive("work", 1, lease_ms, 0).await? {
                    runs += 1;
                    tokio::time::sleep(Duration::from_millis(JOB_MS)).await;
                    // Refused when somebody else has it by now.
                    let _stale = source.delete("work", &job.receipt).await;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(runs)
        });
    }
    let mut runs = 0;
    while let Some(consumer) = consumers.join_next().await {
        runs += consumer??;
    }
    Ok(runs)
}
