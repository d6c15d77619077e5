//! # A distributed rate limiter
//!
//! *"Design a strongly consistent token-bucket rate limiter for N stateless API servers: no
//! races, low latency."* The answer in ten sentences:
//!
//! 1. A [`Policy`] holds one or more limits; a [`Key`] names the caller; [`Limiter::check`]
//!    charges a cost and returns a [`Decision`].
//! 2. The algorithms are pure functions over (state, now), in integers that never round
//!    ([`algorithm`]).
//! 3. A token bucket is refilled on paper, when somebody looks; nothing runs in the background.
//! 4. On one server the state sits in a sharded table that is bounded and never forgets a caller
//!    who is being limited ([`store::memory`]).
//! 5. On many servers the state sits in Redis, and read, decide and write are one Lua script, so
//!    there is nothing to race with ([`store::redis`]).
//! 6. The script reads Redis's clock: a server with a wrong clock cannot mint tokens.
//! 7. A key expires when its state has settled, which nobody can notice.
//! 8. A timeout is neither a yes nor a no: each policy says whether to pass, refuse, or enforce
//!    this server's share until the store is back ([`resilience`]).
//! 9. Clients see `RateLimit` fields, `Retry-After` and a problem document ([`headers`],
//!    [`layer`]).
//! 10. Everything above is a test over every (algorithm × store), and a dozen wrong limiters show
//!     that the tests can fail (`conformance`).
//!
//! When one Redis is not enough: many checks share one call ([`store::coalesced`]), tokens are leased
//! ([`store::lease`]), callers are spread over a cluster and a failover forgets nothing that was
//! waited for ([`store::redis`]), a hot caller is split ([`store::split`]), or there is no store at
//! all ([`store::gossip`]; the bound on its error is in [`gossip`]). Gateways speak RESP ([`resp`])
//! or gRPC (`envoy`, a feature).

// The contract
pub mod limiter;
pub mod policy;

// The pure core: no clock, no lock, no socket
pub mod algorithm;
pub mod breaker;
#[cfg(feature = "redis")]
pub mod coalesce;
pub mod lease;
#[cfg(feature = "gossip")]
pub mod gossip;

// The answers
pub mod clock;
pub mod store;
pub mod resilience;

// The fronts
#[cfg(feature = "http")]
pub mod headers;
#[cfg(feature = "http")]
pub mod denial;
#[cfg(feature = "http")]
pub mod layer;
#[cfg(feature = "http")]
pub mod registry;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "resp")]
pub mod resp;
#[cfg(feature = "envoy")]
pub mod envoy;

// The proof
#[cfg(feature = "conformance")]
pub mod conformance;

pub use limiter::{Decision, Error, Grant, Key, Limiter, Outcome, Quota, Source, Store};
pub use policy::{AlgorithmName, LimitSpec, OnStoreFailure, Policy, PolicySpec};
