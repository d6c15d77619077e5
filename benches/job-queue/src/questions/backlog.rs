//! The backlog grows.

use std::time::{Duration, Instant};

use job_queue::worker::autoscale::Aim;
use job_queue::worker::{CancellationToken, Worker, WorkerSettings};

use super::{Sleeps, enqueue_naps, left, store};
use measure::{Question, Stage};

const JOBS: usize = 600;
const JOB_MS: u64 = 20;
const FEW: usize = 2;
const MANY: usize = 24;

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "backlog",
        asks: "The backlog grows. How many workers, and who decides?",
        explanation: "Depth alone says nothing: work is depth times time per job. The scaler wants \
            `backlog * mean time / target` workers, believes the oldest message when it says that \
            is not enough, goes up at once and down slowly, and never beyond what the database \
            behind the workers can bear.",
        run: |stage| Box::pin(backlog(stage)),
    }
}

async fn backlog(stage: Stage) -> anyhow::Result<()> {
    stage.scene(format!(
        "workers in this process; {FEW} at once, or {FEW} to {MANY} by the backlog"
    ));
    stage.load(format!(
        "{JOBS} jobs of {JOB_MS} ms at once: {} s of work",
        JOBS as u64 * JOB_MS / 1_000
    ));
    let (fixed, _) = drain(None).await?;
    let aim = Aim { workers_min: FEW, workers_max: MANY, drain_ms: 500, patience: 3 };
    let (scaled, most) = drain(Some(aim)).await?;
    stage.observe(format!("{FEW} at once"), format!("empty after {:.1} s", fixed.as_secs_f64()));
    stage.observe(
        "scaled",
        format!("empty after {:.1} s, up to {most} at once", scaled.as_secs_f64()),
    );
    stage.expect(
        "the scaled workers are done in less than half of the time",
        scaled * 2 < fixed,
        format!("{:.1} s instead of {:.1} s", scaled.as_secs_f64(), fixed.as_secs_f64()),
    );
    stage.expect("and stay within their limit", most <= MANY, most);
    stage.because("workers follow work, not depth, and go down more slowly than up");
    Ok(())
}

/// How long it takes, and how many jobs ran at once at most.
async fn drain(aim: Option<Aim>) -> anyhow::Result<(Duration, usize)> {
    let (queues, source) = store(&["work"]).await?;
    enqueue_naps(&source, JOBS, JOB_MS).await?;
    let settings = WorkerSettings { concurrency: FEW, ..WorkerSettings::of("work") };
    let worker = Worker::new(source, settings).handle(Sleeps::default());
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let began = Instant::now();
    if let Some(aim) = aim {
        let (worker, stop) = (worker.clone(), stop.clone());
        tasks.spawn(async move { worker.autoscale(aim, Duration::from_millis(50), stop).await });
    }
    let (running, stopping) = (worker.clone(), stop.clone());
    tasks.spawn(async move { running.run(stopping).await });
    let mut most = 0;
    while left(&queues).await? > 0 {
        most = most.max(worker.running());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok((took, most))
}
