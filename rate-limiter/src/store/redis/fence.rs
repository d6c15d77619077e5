//! Waiting for replicas without slowing anybody down.
//!
//! `WAIT` blocks its connection until the replicas have what that connection wrote. So it has a
//! connection of its own, on which it follows a small write: what was acknowledged before that
//! write is before it in the stream too, so replicas that have the one have the other. While one
//! fence is under way, those that come gather for the next: one fence for any number of charges,
//! as with a disk's group commit.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;

use super::RedisSettings;

/// How long the small write is kept.
const KEPT_MS: u32 = 1_000;

pub(super) struct Fence(Arc<Gate>);

struct Gate {
    connection: MultiplexedConnection,
    replicas: u32,
    timeout_ms: u64,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    under_way: bool,
}

impl Fence {
    pub(super) fn new(connection: MultiplexedConnection, settings: &RedisSettings) -> Self {
        let (replicas, timeout) = (settings.wait_replicas, settings.response_timeout);
        let timeout_ms = timeout.as_millis().max(1) as u64;
        Self(Arc::new(Gate { connection, replicas, timeout_ms, line: Mutex::default() }))
    }

    /// Returns once enough replicas have everything that was acknowledged before this was called.
    ///
    /// # Errors
    /// With the reason, when they did not say so in time. What was charged stays charged.
    pub(super) async fn pass(&self, key: &str) -> Result<(), String> {
        let (passed, wait) = oneshot::channel();
        let starts = {
            let mut line = self.0.line.lock();
            line.waiting.push(passed);
            !std::mem::replace(&mut line.under_way, true)
        };
        if starts {
            // In the slot of the caller, which this server serves.
            tokio::spawn(Arc::clone(&self.0).serve(format!("rl-fence:{key}")));
        }
        wait.await.unwrap_or_else(|_| Err("the wait for replicas was abandoned".to_owned()))
    }
}

impl Gate {
    async fn serve(self: Arc<Self>, key: String) {
        loop {
            let waiting = {
                let mut line = self.line.lock();
                line.under_way = !line.waiting.is_empty();
                std::mem::take(&mut line.waiting)
            };
            if waiting.is_empty() {
                return;
            }
            let outcome = self.fence(&key).await;
            metrics::counter!("rate_limiter_redis_fences_total").increment(1);
            for passed in waiting {
                let _ = passed.send(outcome.clone());
            }
        }
    }

    async fn fence(&self, key: &str) -> Result<(), String> {
        let mut both = redis::pipe();
        both.cmd("SET").arg(key).arg(1).arg("PX").arg(KEPT_MS).ignore();
        both.cmd("WAIT").arg(self.replicas).arg(self.timeout_ms);
        let reply = both.query_async::<(u32,)>(&mut self.connection.clone()).await;
        let (replicas,) = reply.map_err(|error| error.to_string())?;
        if replicas < self.replicas {
            metrics::counter!("rate_limiter_redis_unreplicated_total").increment(1);
            return Err(format!("{replicas} of {} replicas have it", self.replicas));
        }
        Ok(())
    }
}
