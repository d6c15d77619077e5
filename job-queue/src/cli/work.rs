//! `work`: one worker process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use job_queue::clock::Clock;
use job_queue::worker::autoscale::Aim;
use job_queue::worker::{
    Event, Handler, Incoming, Ledger, Recurring, Worker, WorkerSettings, recur,
};
use service::Shutdown;

use super::operate::Server;
use super::thumbnail::MakeThumbnails;

/// How often the autoscaler looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon a backlog should be gone.
const DRAIN_MS: u64 = 10_000;

#[derive(Args)]
pub(crate) struct Work {
    /// The queue
    #[arg(long, default_value = "thumbnails")]
    queue: String,
    /// Where jobs go that cannot be done
    #[arg(long, default_value = "thumbnails-dead")]
    dead_letters: String,
    /// What was done, shared by all workers
    #[arg(long, default_value = "thumbnails.db")]
    ledger: PathBuf,
    /// Jobs at once; with --concurrency-max the least
    #[arg(long, default_value_t = 2)]
    concurrency: usize,
    /// Jobs at once at most: between the two, as many as the backlog needs
    #[arg(long)]
    concurrency_max: Option<usize>,
    /// Length of a lease; renewed while the job runs
    #[arg(long, default_value_t = 30)]
    visibility_seconds: u64,
    /// Least time a job takes, to watch it
    #[arg(long, default_value_t = 0)]
    pace_ms: u64,
    /// A job that comes again and again, as NAME=SECONDS=JSON: every worker with the flag sends
    /// each tick. On a FIFO queue a tick is one job all the same, elsewhere the ledger sees to it
    #[arg(long, value_name = "NAME=SECONDS=JSON", value_parser = recurring)]
    recurring: Vec<Recurring>,
    /// Which lines are logged
    #[arg(long, env = "SERVICE_LOG_FILTER", default_value = "info")]
    log_filter: String,
    #[command(flatten)]
    server: Server,
}

fn recurring(text: &str) -> Result<Recurring, String> {
    let mut parts = text.splitn(3, '=');
    let (Some(name), Some(seconds), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("must be NAME=SECONDS=JSON".to_owned());
    };
    let every_ms = seconds.parse::<u64>().ok().filter(|it| *it > 0).map(|it| it * 1_000);
    let every_ms = every_ms.ok_or_else(|| format!("{seconds:?} is not a number of seconds"))?;
    serde_json::from_str::<serde_json::Value>(body).map_err(|it| format!("{body:?}: {it}"))?;
    let (name, body) = (name.to_owned(), body.to_owned());
    Ok(Recurring { name, every_ms, job: MakeThumbnails::JOB.to_owned(), body })
}

impl Work {
    pub(crate) async fn run(self) -> Result<()> {
        service::telemetry::init_client(&self.log_filter);
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let ledger = Ledger::open(&self.ledger)
            .with_context(|| format!("--ledger {}", self.ledger.display()))?;
        let settings = WorkerSettings {
            dead_letters: Some(self.dead_letters.clone()),
            concurrency: self.concurrency.max(1),
            visibility: Duration::from_secs(self.visibility_seconds.max(1)),
            ..WorkerSettings::of(&self.queue)
        };
        let pace = Duration::from_millis(self.pace_ms);
        let worker = Worker::new(self.server.client()?, settings)
            .handle(MakeThumbnails { ledger, pace })
            .observe(report);
        // Workers outlive their servers, also one that is not there yet: wait, and say so.
        if let Err(error) = self.server.must_answer() {
            tracing::warn!("{error}; waiting for it");
        }
        let stop = tokio_util::sync::CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            while !shutdown.has_begun() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stopping.cancel();
        });
        if let Some(workers_max) = self.concurrency_max {
            let aim = Aim {
                workers_min: self.concurrency.max(1),
                workers_max,
                drain_ms: DRAIN_MS,
                patience: 5,
            };
            let (scaled, stop) = (worker.clone(), stop.clone());
            tokio::spawn(async move { scaled.autoscale(aim, LOOK_EVERY, stop).await });
        }
        if !self.recurring.is_empty() {
            let (source, queue) = (self.server.client()?, self.queue.clone());
            let (jobs, stop) = (self.recurring.clone(), stop.clone());
            tokio::spawn(
                async move { recur(&source, &queue, &jobs, &Clock::system(), stop).await },
            );
        }
        worker.run(stop).await;
        Ok(())
    }
}

fn report(message: &Incoming, event: &Event) {
    match event {
        Event::Done => println!("done       {}", message.id),
        Event::Retry(why, after) => println!("retry      {} in {after:?}: {why}", message.id),
        Event::GivenUp(why) => println!("given up   {}: {why}", message.id),
        Event::LeaseLost => println!("lease lost {}", message.id),
        Event::Released => println!("released   {}", message.id),
    }
}
