//! Stopping in the right order, with a deadline.
//!
//! 1. begin: `/readyz` turns 503, so that a load balancer sends no more traffic
//! 2. after the delay, close: stop accepting, tell every connection to finish
//! 3. wait for what is in flight, up to the deadline; then abort the rest
//! 4. run the hooks (flush, checkpoint): nothing can add work any more
//!
//! [`serve`](fn@crate::serve) walks through it. One `Shutdown` belongs to one `serve`; other fronts
//! of the same process (a RESP or gRPC port, background workers) stop on [`Shutdown::closing`] and
//! run under [`Shutdown::track`], so that the drain waits for them too.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Error;

/// How long requests in flight may take to finish once the port is closed.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long one hook may take. A flush that hangs must not keep the process for ever.
pub const HOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// How long aborted tasks get to unwind; only one that blocks its thread needs any of it.
const ABORT_TIME_MAX: Duration = Duration::from_secs(1);

type Hook = (&'static str, BoxFuture<'static, ()>);

/// The handle everybody who must know about stopping holds a clone of.
#[derive(Clone)]
pub struct Shutdown {
    begun: CancellationToken,
    closing: CancellationToken,
    aborting: CancellationToken,
    tasks: TaskTracker,
    hooks: Arc<Mutex<Vec<Hook>>>,
    deadline: Duration,
    delay: Duration,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections and tracked tasks that were cut off at the deadline.
    pub aborted: usize,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// One that begins when somebody calls [`Shutdown::begin`].
    pub fn new() -> Self {
        Self {
            begun: CancellationToken::new(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
            tasks: TaskTracker::new(),
            hooks: Arc::default(),
            deadline: DEADLINE,
            delay: Duration::ZERO,
        }
    }

    /// The longest wait for what is in flight.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The time between "not ready" and closing the port.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Begins on SIGTERM or Ctrl-C; a second one exits at once, for the person who cannot wait.
    ///
    /// # Errors
    /// [`Error::Signals`] when the handlers cannot be installed.
    pub fn on_signals(&self) -> Result<(), Error> {
        let mut signals = signals().map_err(Error::Signals)?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            signals.recv().await;
            tracing::info!("stopping; a second signal exits at once");
            shutdown.begin();
            signals.recv().await;
            tracing::warn!("second signal: exiting without draining");
            std::process::exit(130); // 128 + SIGINT, what a shell reports for Ctrl-C
        });
        Ok(())
    }

    /// Begins to stop. Calling it again changes nothing.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether stopping has begun, so that nothing new should be promised.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Cancelled when the port closes: long polls answer, streams end, sockets say goodbye.
    pub fn closing(&self) -> CancellationToken {
        self.closing.child_token()
    }

    /// Runs `work` so that the drain waits for it; at the deadline it is dropped and `None`
    /// returned.
    pub fn track<F: Future>(&self, work: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        // A child has a lock of its own: work that shares the parent's would queue for it at
        // every poll.
        let aborting = self.aborting.child_token();
        self.tasks.track_future(async move { aborting.run_until_cancelled(work).await })
    }

    /// Runs `hook` after the last request: flush a buffer, checkpoint a log. Hooks run one after
    /// the other, last registered first, as the pieces they flush were built.
    pub fn on_drained(&self, name: &'static str, hook: impl Future<Output = ()> + Send + 'static) {
        self.hooks.lock().push((name, Box::pin(hook)));
    }

    /// Waits until stopping has begun and the delay is over, then closes.
    pub(crate) async fn closed(&self) {
        self.begun.cancelled().await;
        tokio::time::sleep(self.delay).await;
        self.closing.cancel();
    }

    /// Steps 3 and 4. The port is closed and every connection has been told.
    pub(crate) async fn drain(&self) -> Drained {
        self.tasks.close();
        let mut aborted = 0;
        if tokio::time::timeout(self.deadline, self.tasks.wait()).await.is_err() {
            aborted = self.tasks.len();
            let deadline_ms = self.deadline.as_millis() as u64;
            tracing::warn!(aborted, deadline_ms, "deadline reached: aborting what is in flight");
            self.aborting.cancel();
            if tokio::time::timeout(ABORT_TIME_MAX, self.tasks.wait()).await.is_err() {
                tracing::error!(left = self.tasks.len(), "some tasks block and cannot be aborted");
            }
        }
        let hooks = std::mem::take(&mut *self.hooks.lock());
        for (name, hook) in hooks.into_iter().rev() {
            match tokio::time::timeout(HOOK_TIME_MAX, hook).await {
                Ok(()) => tracing::debug!(hook = name, "flushed"),
                Err(_) => tracing::error!(hook = name, "gave up on a hook: it hangs"),
            }
        }
        crate::telemetry::flush().await;
        Drained { aborted }
    }
}

#[cfg(unix)]
fn signals() -> std::io::Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    })
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
fn signals() -> std::io::Result<Signals> {
    Ok(Signals)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    async fn recv(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
