//! Closed-loop saturation: every worker sends as soon as its last reply arrived.
//!
//! Use it for one figure only, the highest rate. Its latencies hide queueing (each worker waits
//! politely while the server is slow), and the report says so. For latencies use
//! [`Load`](super::Load).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::load::{Collected, Outcome, Shot, TICK};
use super::recorder::{Recorder, Stamps};
use super::run::{Mode, Progress, Run};

/// A number of workers and a time.
#[derive(Debug, Clone, Copy)]
pub struct ClosedLoop {
    /// Requests in flight at any time.
    pub workers: usize,
    /// How long.
    pub duration: Duration,
    /// Decides [`Shot::rng`].
    pub seed: u64,
}

impl ClosedLoop {
    /// Calls `op` from every worker until the time is over.
    pub async fn run<Op, Fut>(&self, op: Op) -> Run
    where
        Op: Fn(Shot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.run_watched(op, |_| {}).await
    }

    /// [`run`](ClosedLoop::run), reporting progress at every tick.
    pub async fn run_watched<Op, Fut>(&self, op: Op, mut watch: impl FnMut(&Progress)) -> Run
    where
        Op: Fn(Shot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let (recorder, op) = (Arc::new(Recorder::new(self.duration, false)), Arc::new(op));
        let started = Instant::now();
        let (duration, seed) = (self.duration, self.seed);
        let mut workers = JoinSet::new();
        let step = self.workers as u64;
        for worker in 0..step {
            let (recorder, op) = (Arc::clone(&recorder), Arc::clone(&op));
            workers.spawn(async move {
                // Numbers of its own: a counter that all workers change would be what is measured.
                let mut asked = 0;
                loop {
                    let sent = started.elapsed();
                    if sent >= duration {
                        break;
                    }
                    let n = worker + asked * step;
                    asked += 1;
                    let outcome = op(Shot::new(n, sent, seed)).await;
                    let stamps = Stamps { planned: sent, sent, done: started.elapsed() };
                    recorder.record(stamps, outcome);
                    // A reply that is always ready must not keep the others from running.
                    tokio::task::consume_budget().await;
                }
                recorder.planned.fetch_add(asked, Ordering::Relaxed);
            });
        }
        let mut collected = Collected::new(duration);
        let mut ticks = tokio::time::interval_at(started + TICK, TICK);
        loop {
            tokio::select! {
                worker = workers.join_next() => match worker {
                    Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                    Some(Ok(())) => {}
                    None => break,
                },
                _ = ticks.tick() => watch(&collected.tick(&recorder, started.elapsed())),
            }
        }
        watch(&collected.tick(&recorder, started.elapsed()));
        collected.into_run(Mode::Closed, &recorder, started)
    }
}
