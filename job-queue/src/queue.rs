//! The contract: what every store of queues in this crate promises.
//!
//! Everything else is an *answer*: an implementation of [`Queues`] that keeps the same promises at
//! another price. The wire protocol ([`crate::sqs`]) and the workers ([`crate::worker`]) know
//! nothing but this trait.
//!
//! Invariants, each checked by promises in `conformance`:
//! - A message that was acknowledged to its sender is delivered until it is deleted, dead-lettered
//!   or past its retention: *at least once*.
//! - A message that was deleted with a valid receipt is never delivered again.
//! - While a lease lasts, nobody else gets the message; a stale receipt neither deletes nor extends.
//! - A receive is counted when the lease is given, not when the worker fails: a message that kills
//!   its worker still reaches the dead-letter queue.
//! - FIFO: within a group the order of sends is the order of deliveries, one batch in flight.

use std::future::Future;
use std::sync::Arc;

use crate::message::{Delivery, NewMessage, Peeked, Position, QueueId, Receipt, Sent};
use crate::settings::Settings;

/// A store of queues. Cheap to share: every method takes `&self` and is one atomic step.
///
/// Batches are answered entry by entry: one bad entry does not spoil the others, and each is
/// either completely done or not at all.
pub trait Queues: Send + Sync + 'static {
    /// Creates `queue`, or returns the settings it already has.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the redrive target does not exist or is of the other kind,
    /// [`Error::Full`] above [`QUEUES_MAX`](crate::limits::QUEUES_MAX).
    fn create(
        &self,
        queue: &QueueId,
        settings: Settings,
    ) -> impl Future<Output = Result<Created, Error>> + Send;

    /// Deletes `queue` with everything in it. Receipts of it are worthless from then on, also for
    /// a new queue of the same name.
    fn remove(&self, queue: &QueueId) -> impl Future<Output = Result<(), Error>> + Send;

    /// The queues of `region` in order of their names, after `after`, at most `limit`.
    ///
    /// # Cost
    /// Grows with the number of queues, never with messages.
    fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(QueueId, Settings)>, Error>> + Send;

    /// The settings of `queue`.
    fn settings(&self, queue: &QueueId) -> impl Future<Output = Result<Settings, Error>> + Send;

    /// Changes the settings in one step; when `change` fails nothing is changed.
    fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// How many messages are where. Costs the same at any depth.
    fn counts(&self, queue: &QueueId) -> impl Future<Output = Result<Counts, Error>> + Send;

    /// Stores the messages, each answered by itself. `Ok` means kept for as long as the answer
    /// keeps anything: with SQLite and Postgres it is on disk.
    ///
    /// FIFO: a message whose deduplication id was accepted within five minutes is answered with
    /// the numbers of the original and stored nowhere.
    fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> impl Future<Output = Result<Vec<Result<Sent, Error>>, Error>> + Send;

    /// Leases up to `ask.max` messages, waiting up to `ask.wait_ms` for the first.
    ///
    /// # Errors
    /// [`Error::TooManyInFlight`] when a standard queue has
    /// [`IN_FLIGHT_MAX`](crate::limits::IN_FLIGHT_MAX) messages leased.
    ///
    /// # Cost
    /// O(log n) in the number of delayed and leased messages; independent of depth and groups.
    fn receive(
        &self,
        queue: &QueueId,
        ask: Ask,
    ) -> impl Future<Output = Result<Vec<Delivery>, Error>> + Send;

    /// Deletes what the receipts prove to hold, each answered by itself. Deleting what is gone
    /// already is `Ok`: the caller wanted it gone.
    ///
    /// # Errors
    /// Per entry [`Error::ReceiptInvalid`] (never ours), [`Error::Stale`] (leased again since: the
    /// message stays), [`Error::Expired`] (FIFO, after the visibility timeout).
    fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> impl Future<Output = Result<Vec<Result<(), Error>>, Error>> + Send;

    /// Moves the end of leases to `now + ms`; zero gives the message back at once.
    ///
    /// # Errors
    /// Per entry [`Error::ReceiptInvalid`], [`Error::Stale`], [`Error::NotInFlight`], or
    /// [`Error::Invalid`] when the lease would exceed 12 hours in total.
    fn change_visibility(
        &self,
        queue: &QueueId,
        changes: Vec<(Receipt, u64)>,
    ) -> impl Future<Output = Result<Vec<Result<(), Error>>, Error>> + Send;

    /// Deletes every message of the queue, leased ones included.
    ///
    /// # Errors
    /// [`Error::PurgedRecently`] within a minute of the last purge.
    fn purge(&self, queue: &QueueId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Messages in order of age, after `after`, at most `limit`; nothing is leased.
    fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Peeked>, Error>> + Send;

    /// Moves up to `limit` ready messages from `from` to `to`, or each back to the queue it was
    /// given up in. Nothing is lost or doubled on the way. The receive count starts anew.
    fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> impl Future<Output = Result<Transferred, Error>> + Send;
}

/// What became of [`Queues::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The queue is new.
    New,
    /// The queue was there, with these settings.
    Existing(Box<Settings>),
}

/// A request for messages.
#[derive(Clone, Debug)]
pub struct Ask {
    /// At most this many.
    pub max: usize,
    /// How long they stay hidden; `None` takes the queue's timeout.
    pub visibility_ms: Option<u64>,
    /// How long to wait for the first; `None` takes the queue's.
    pub wait_ms: Option<u64>,
    /// FIFO: a receive repeated under the same id (the answer got lost) gets the same messages.
    pub attempt: Option<Arc<str>>,
}

impl Ask {
    /// Up to `max` messages, now, for the queue's own visibility timeout.
    pub fn now(max: usize) -> Self {
        Self { max, visibility_ms: None, wait_ms: Some(0), attempt: None }
    }
}

/// How many messages are where, and how old the oldest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Waiting for a consumer.
    pub ready: usize,
    /// In a consumer's hands.
    pub in_flight: usize,
    /// Sent and still hidden.
    pub delayed: usize,
    /// When the oldest message was sent.
    pub oldest_sent_at_ms: Option<u64>,
}

/// What one step of a transfer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Messages moved.
    pub moved: usize,
    /// Messages that stay because their destination does not exist or is full.
    pub failed: usize,
}

/// What can go wrong, by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Create it, or spell it right.
    #[error("the queue does not exist")]
    NoSuchQueue,
    /// The request is wrong and will stay wrong: fix `field`.
    #[error("{field} {reason}")]
    Invalid {
        /// The parameter at fault, in the API's spelling.
        field: &'static str,
        /// What is wrong with it, as a sentence that starts with the field's name.
        reason: String,
    },
    /// The receipt was not issued by this queue.
    #[error("the receipt handle is not valid for this queue")]
    ReceiptInvalid,
    /// Somebody else received the message since: stop working on it.
    #[error("the receipt handle is stale: the message was received again")]
    Stale,
    /// The lease ran out before the message was deleted: it will be delivered again.
    #[error("the receipt handle has expired")]
    Expired,
    /// The message is not in anybody's hands.
    #[error("the message is not in flight")]
    NotInFlight,
    /// Delete what you have before asking for more.
    #[error("too many messages are in flight")]
    TooManyInFlight,
    /// Wait a minute.
    #[error("the queue was purged within the last minute")]
    PurgedRecently,
    /// The store or queue has reached a bound; nothing was stored. Retry later.
    #[error("{what} is full: at most {limit}")]
    Full {
        /// What is full.
        what: &'static str,
        /// Its bound.
        limit: usize,
    },
    /// The store did not answer, or not in time. A send may or may not have been kept.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The store's own error.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    pub(crate) fn unanswered(what: &str) -> Self {
        Self::Unavailable { what: format!("{what}: no answer for an entry"), source: None }
    }

    pub(crate) fn lease_too_long() -> Self {
        let reason = "would hide the message for more than 43200 seconds in total";
        Self::invalid("VisibilityTimeout", reason)
    }
}

/// Several fronts may share one store.
impl<Q: Queues> Queues for Arc<Q> {
    async fn create(&self, queue: &QueueId, settings: Settings) -> Result<Created, Error> {
        (**self).create(queue, settings).await
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        (**self).remove(queue).await
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        (**self).list(region, after, limit).await
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        (**self).settings(queue).await
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        (**self).configure(queue, change).await
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        (**self).counts(queue).await
    }

    async fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        (**self).send(queue, messages).await
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        (**self).receive(queue, ask).await
    }

    async fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        (**self).delete(queue, receipts).await
    }

    async fn change_visibility(
        &self,
        queue: &QueueId,
        changes: Vec<(Receipt, u64)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        (**self).change_visibility(queue, changes).await
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        (**self).purge(queue).await
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        (**self).peek(queue, after, limit).await
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        (**self).transfer(from, to, limit).await
    }
}
