//! A job and what does it: a payload in JSON, its type in an attribute, a handler for the type.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use super::source::{Outgoing, Source, SourceError};

/// The attribute that names the job's type.
pub const JOB_ATTRIBUTE: &str = "job";
/// The attribute that says when, in milliseconds since 1970, the job may begin.
pub const NOT_BEFORE_ATTRIBUTE: &str = "not-before-ms";
/// The attribute of a dead letter that says why it was given up.
pub const REASON_ATTRIBUTE: &str = "reason";
/// The attribute of a dead letter with the id of the message it was.
pub const ORIGIN_ATTRIBUTE: &str = "origin-id";

/// Does the jobs of one type.
///
/// A handler is called at least once per job. Make its effect happen once with a
/// [`Ledger`](super::Ledger), and put work that blocks the thread into
/// [`tokio::task::spawn_blocking`].
pub trait Handler: Send + Sync + 'static {
    /// The payload.
    type Job: DeserializeOwned + Send + 'static;
    /// The type's name on the queue.
    const JOB: &'static str;

    /// Limits and retries of this type.
    fn policy(&self) -> Policy {
        Policy::default()
    }

    /// Does one job.
    fn run(
        &self,
        job: Self::Job,
        context: Context,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a handler knows about the delivery.
#[derive(Clone, Debug)]
pub struct Context {
    /// The message's identity: the same at every delivery, and so the key to do it once.
    pub id: String,
    /// How often it was delivered, this time included.
    pub receives: u32,
    /// The lease's fencing token.
    pub epoch: u32,
    /// When it was sent.
    pub sent_at_ms: u64,
    /// The tick of a recurring job: equal for every scheduler that sent it, and so the key to do
    /// it once on a queue that does not deduplicate.
    pub tick: Option<String>,
}

/// How a job failed, by what should happen next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Try again after the type's backoff.
    #[error("{0}")]
    Retry(String),
    /// Try again after this long: somebody said when.
    #[error("{0}")]
    RetryAfter(String, Duration),
    /// Never try again: into the dead-letter queue, with the reason.
    #[error("{0}")]
    Permanent(String),
}

/// Limits and retries of a job type.
#[derive(Clone, Debug)]
pub struct Policy {
    /// A job that takes longer is stopped and counts as failed.
    pub time_max: Duration,
    /// After this many deliveries the job is given up. The queue's own limit should be higher: it
    /// is for jobs that kill their worker, and knows no reason.
    pub attempts_max: u32,
    /// How long to wait before which retry.
    pub backoff: Backoff,
}

impl Default for Policy {
    fn default() -> Self {
        Self { time_max: Duration::from_secs(300), attempts_max: 5, backoff: Backoff::default() }
    }
}

/// Puts a job on a queue.
///
/// # Errors
/// What the queue answers; [`SourceError::Refused`] when the payload cannot be written as JSON.
pub async fn enqueue<H: Handler, S: Source>(
    source: &S,
    queue: &str,
    job: &impl Serialize,
    delay: Duration,
) -> Result<String, SourceError> {
    let body = serde_json::to_string(job).map_err(|it| SourceError::Refused(it.to_string()))?;
    let attributes = [(JOB_ATTRIBUTE.to_owned(), H::JOB.to_owned())].into();
    let delay_ms = delay.as_millis() as u64;
    source.send(queue, Outgoing { body, attributes, delay_ms, ..Outgoing::default() }).await
}
