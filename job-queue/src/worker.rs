//! The library that does the jobs: typed handlers over any SQS-compatible queue.
//!
//! A job is delivered at least once, so the library's work is everything around the handler: keep
//! the lease alive while it runs ([`heartbeat`](runtime)), spread the retries ([`backoff`]), give
//! up with a reason ([`job::Failure`]), have one effect however often it is delivered
//! ([`ledger`]), let no lane starve ([`lanes`]), stop without losing anything ([`runtime`]), and
//! have as many workers as the backlog needs ([`autoscale`]).
//!
//! Everything that decides is a pure function of its arguments; only [`runtime`] acts.

pub mod source;
pub mod job;
pub mod backoff;
pub mod lanes;
pub mod autoscale;
pub mod schedule;
pub mod ledger;
pub mod runtime;

mod places;
mod acknowledge;
mod direct;
mod over_http;

pub use backoff::{Backoff, Jitter};
pub use direct::Direct;
pub use job::{Context, Failure, Handler, Policy, enqueue};
pub use ledger::{Ledger, Once};
pub use runtime::{Event, Worker, WorkerSettings};
pub use schedule::{Recurring, recur};
/// Tells a [`Worker`] to stop.
pub use tokio_util::sync::CancellationToken;

pub use source::{Depth, Incoming, Outgoing, Source, SourceError};
