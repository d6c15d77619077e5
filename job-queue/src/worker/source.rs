//! Where jobs come from: five operations that every SQS-compatible queue has.

use std::collections::BTreeMap;
use std::future::Future;

use crate::limits::BATCH_MAX;

/// A connection to queues. [`Client`](crate::client::Client) reaches them over HTTP,
/// [`Direct`](super::Direct) in the same process; with the AWS SDK it is fifty lines.
pub trait Source: Clone + Send + Sync + 'static {
    /// How many messages one receive may bring, and one delete take.
    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    /// Sends a message; its id.
    fn send(
        &self,
        queue: &str,
        message: Outgoing,
    ) -> impl Future<Output = Result<String, SourceError>> + Send;

    /// Leases up to `max` messages for `visibility_ms`, waiting up to `wait_ms` for the first.
    fn receive(
        &self,
        queue: &str,
        max: usize,
        visibility_ms: u64,
        wait_ms: u64,
    ) -> impl Future<Output = Result<Vec<Incoming>, SourceError>> + Send;

    /// These jobs are done; at most [`batch_max`](Self::batch_max) of them. One answer for each, in
    /// their order.
    fn delete_batch(
        &self,
        queue: &str,
        receipts: &[String],
    ) -> impl Future<Output = Vec<Result<(), SourceError>>> + Send;

    /// This job is done.
    fn delete(
        &self,
        queue: &str,
        receipt: &str,
    ) -> impl Future<Output = Result<(), SourceError>> + Send {
        let receipt = [receipt.to_owned()];
        async move {
            let answer = self.delete_batch(queue, &receipt).await.pop();
            answer.unwrap_or_else(|| Err(SourceError::Unavailable("no answer".to_owned())))
        }
    }

    /// Keeps the message hidden for `ms` from now; zero gives it back. Rounded up to seconds where
    /// the queue knows only those.
    ///
    /// # Errors
    /// [`SourceError::LeaseLost`]: somebody else has it or will have it; stop working on it.
    fn hide(
        &self,
        queue: &str,
        receipt: &str,
        ms: u64,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// How much is waiting, for the autoscaler.
    fn depth(&self, queue: &str) -> impl Future<Output = Result<Depth, SourceError>> + Send;
}

/// A message to send.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// The body.
    pub body: String,
    /// Attributes, all of them text.
    pub attributes: BTreeMap<String, String>,
    /// How long to hide it first; at most 15 minutes.
    pub delay_ms: u64,
    /// The FIFO group, or the tenant.
    pub group: Option<String>,
    /// The FIFO deduplication id.
    pub dedup_id: Option<String>,
}

/// A message received.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// Its identity, the same at every delivery.
    pub id: String,
    /// The proof of this lease.
    pub receipt: String,
    /// The body.
    pub body: String,
    /// Its text attributes.
    pub attributes: BTreeMap<String, String>,
    /// How often it was received, this time included.
    pub receives: u32,
    /// The fencing token of this lease: higher than that of every earlier one.
    pub epoch: u32,
    /// When it was sent.
    pub sent_at_ms: u64,
    /// Its FIFO group, to be kept when it is given up.
    pub group: Option<String>,
}

/// What is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting.
    pub ready: u64,
    /// Being worked on.
    pub in_flight: u64,
    /// Hidden by a delay.
    pub delayed: u64,
    /// How old the oldest is, where the queue tells.
    pub oldest_age_ms: Option<u64>,
}

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// The lease is over: whatever was done since may be done by somebody else too.
    #[error("the lease is lost: {0}")]
    LeaseLost(String),
    /// The queue said no, and will say no again.
    #[error("the queue refused: {0}")]
    Refused(String),
    /// Nobody answered; try again.
    #[error("the queue did not answer: {0}")]
    Unavailable(String),
}
