//! What every HTTP service of this workspace shares, so that a system's `http.rs` holds nothing
//! but its routes.
//!
//! A binary does five things with it: parse [`ServerSettings`], start [`telemetry`], build its
//! router (routes + [`operations`](fn@operations)), [`harden`](fn@harden) it, and
//! [`serve`](fn@serve) it until a [`Shutdown`].
//! Inside handlers it uses [`Json`], [`Query`], [`Path`] (whose rejections name the wrong field)
//! and returns [`Problem`] for everything that fails.
//!
//! Invariant: every error a client can see, from an unknown route to a panic, is RFC 9457
//! `application/problem+json` and carries the request id that stands in the log.
//! The one exception is what hyper refuses before there is a request at all (bytes that are not
//! HTTP, a head above [`serve::CONNECTION_BUFFER_BYTES`]): those get a bare 4xx.
//!
//! Reading order is the order of the modules below.

// ---- starting
pub mod clock;
pub mod settings;
pub mod store_url;
pub mod telemetry;
#[cfg(feature = "otlp")]
mod otlp;
pub mod reach;

// ---- one request
pub mod request_id;
pub mod problem;
pub mod extract;
pub mod limits;
pub mod harden;
pub mod metrics;

// ---- the operator's endpoints
pub mod operations;

// ---- one process
pub mod shutdown;
pub mod first;
pub mod serve;

// ---- headers that take thought
pub mod etag;
pub mod idempotency;
pub mod client_ip;

mod error;
mod shape;

pub use self::client_ip::TrustedProxies;
pub use self::clock::Clock;
pub use self::error::Error;
pub use self::etag::{ETag, Preconditions};
pub use self::extract::{Json, Path, Query};
pub use self::first::{First, Head};
pub use self::harden::harden;
pub use self::idempotency::IdempotencyKey;
pub use self::limits::Limits;
pub use self::operations::{Readiness, operations};
pub use self::problem::{FieldError, Problem};
pub use self::request_id::RequestId;
pub use self::serve::{Connection, ConnectionLimits, bind, serve, serve_first, serve_with};
pub use self::settings::{ServerSettings, StoreSettings};
pub use self::shutdown::{Drained, Shutdown};
pub use self::store_url::StoreUrl;
