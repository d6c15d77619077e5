//! Checks one promise on one fresh subject, and tells apart the ways this can end.
//!
//! Invariant: only a check that *returned* [`Broken`] yields [`Outcome::Broken`]. A fixture that
//! could not be built, a panic and a hang are outcomes of their own, so that a wrong
//! implementation is never counted as caught because the stage collapsed under it.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};

use super::{Broken, Promise, Threads};
use crate::seed;

/// A trial that takes longer is judged as hanging; its thread is left behind.
pub const TRIAL_LIMIT: Duration = Duration::from_secs(60);

/// How long tasks that a check left running may delay the end of its trial.
const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// How the check of one promise ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The subject keeps the promise.
    Kept,
    /// The check ran and says how the subject breaks the promise.
    Broken(Broken),
    /// The check, or the subject under it, panicked. The promise is not kept.
    Panicked(String),
    /// The check did not end within the time limit. The promise is not kept.
    Hung(Duration),
    /// There was no subject to judge: building the fixture panicked.
    NoFixture(String),
}

impl Outcome {
    /// Whether the promise was kept.
    pub fn is_kept(&self) -> bool {
        *self == Outcome::Kept
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Kept => f.write_str("kept"),
            Outcome::Broken(broken) => write!(f, "broken: {broken}"),
            Outcome::Panicked(message) => write!(f, "broken by a panic: {message}"),
            Outcome::Hung(limit) => write!(f, "broken: no answer within {limit:?}"),
            Outcome::NoFixture(message) => {
                write!(f, "not judged, because the fixture could not be built: {message}")
            }
        }
    }
}

/// One promise and how it ended.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The promise's name.
    pub name: &'static str,
    /// The promise's sentence.
    pub says: &'static str,
    /// How its check ended.
    pub outcome: Outcome,
    /// The seeds the check drew, in order; `TESTKIT_SEED` replays the first.
    pub seeds: Vec<u64>,
}

pub(crate) type Make<F> = Arc<dyn Fn() -> BoxFuture<'static, F> + Send + Sync>;

/// Runs the check on a thread and a runtime of its own, so that neither a leaked task nor a
/// blocked thread reaches the next trial.
pub(crate) fn judge<F: Send + Sync + 'static>(
    promise: Promise<F>,
    make: Make<F>,
    limit: Duration,
) -> Judged {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name(promise.name.to_owned()).spawn(move || {
        let outcome = run(promise, make);
        // The receiver is gone when the limit has passed: nobody is left to tell.
        drop(tell.send((outcome, seed::drawn_on_this_thread())));
    });
    let (outcome, seeds) = match thread {
        Err(error) => (Outcome::NoFixture(format!("no thread for the trial: {error}")), vec![]),
        Ok(_) => told.recv_timeout(limit).unwrap_or_else(|error| match error {
            mpsc::RecvTimeoutError::Timeout => (Outcome::Hung(limit), vec![]),
            mpsc::RecvTimeoutError::Disconnected => {
                (Outcome::Panicked("while the trial was torn down".to_owned()), vec![])
            }
        }),
    };
    Judged { name: promise.name, says: promise.says, outcome, seeds }
}

fn run<F: Send + Sync + 'static>(promise: Promise<F>, make: Make<F>) -> Outcome {
    let runtime = match runtime(promise.threads) {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::NoFixture(format!("no runtime for the trial: {error}")),
    };
    let outcome = runtime.block_on(async {
        let fixture = match caught(async { make().await }).await {
            Ok(fixture) => Arc::new(fixture),
            Err(message) => return Outcome::NoFixture(message),
        };
        // The fixture is dropped inside the runtime: closing a connection may need it.
        match caught(async { (promise.check)(fixture).await }).await {
            Ok(Ok(())) => Outcome::Kept,
            Ok(Err(broken)) => Outcome::Broken(broken),
            Err(message) => Outcome::Panicked(message),
        }
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_LIMIT);
    outcome
}

fn runtime(threads: Threads) -> std::io::Result<Runtime> {
    match threads {
        Threads::One => Builder::new_current_thread().enable_all().build(),
        Threads::OneWithPausedClock => {
            Builder::new_current_thread().enable_all().start_paused(true).build()
        }
        Threads::Many => Builder::new_multi_thread().worker_threads(4).enable_all().build(),
    }
}

async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|panic| panic_message(&*panic))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|message| (*message).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
