//! # A job queue
//!
//! *"Design background processing for image jobs: at-least-once, retry with exponential backoff and
//! jitter, dead-letter queue for poison messages, idempotent workers, priorities, autoscaling; and
//! how do you monitor it?"* The answer in ten sentences:
//!
//! 1. A queue hands out *leases*, not messages: what is received is hidden until a timeout and
//!    comes back unless it is deleted, so a worker that dies loses nothing ([`queue`]).
//! 2. The queue is a pure state machine over (state, operation, now) in which nothing scans, so a
//!    million waiting messages cost no more than a thousand ([`state`]).
//! 3. A receive is counted when the lease is given: a message that kills its worker reaches the
//!    dead-letter queue although nobody ever reported a failure.
//! 4. A receipt names one lease; a stale one proves nothing, and its epoch is a fencing token
//!    ([`message`]).
//! 5. Order is kept per group by leasing at most one batch of a group at a time; on a standard
//!    queue the same lanes, left open, make tenants take turns.
//! 6. Durability is a journal of row changes in SQLite, one fsync for all who wait
//!    ([`store::sqlite`]); without it the same core runs in memory ([`store::memory`]). Several
//!    servers share a Postgres ([`store::postgres`]: `SKIP LOCKED`) or a Redis ([`store::redis`]).
//! 7. Clients speak Amazon SQS, both protocols, so every AWS SDK is a client ([`sqs`]).
//! 8. Workers renew their leases from a task of their own, spread retries with jitter, give up with
//!    a reason, and drain when told to stop ([`worker`]).
//! 9. One effect per job, however often it is delivered, comes from a ledger in the effect's own
//!    transaction ([`worker::ledger`]).
//! 10. Watch the age of the oldest message and the time in queue, not the depth ([`meter`],
//!     [`http`]); scale on work, not on count ([`worker::autoscale`]).
//!
//! Everything above is a promise kept by every answer, and thirty-five wrong queues show that the
//! promises can say no (`conformance`, with the feature of that name).

pub mod message;
pub mod limits;
pub mod settings;
pub mod queue;
pub mod clock;
pub mod state;
pub mod meter;
pub mod engine;
pub mod store;
pub mod sqs;
pub mod http;
pub mod client;
pub mod worker;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use message::{
    Attribute, AttributeValue, Content, Delivery, MessageId, NewMessage, Peeked, QueueId, Receipt,
    Sent,
};
pub use meter::Reading;
pub use queue::{Ask, Counts, Created, Error, Queues, Transferred};
pub use settings::Settings;
