//! The front for Envoy and the gateways built on it: `RateLimitService` v3 over gRPC.
//!
//! A request names a domain and descriptors, each a list of key-value pairs; a tree that operators
//! write ([`tree`]) says which of them are limited and how. Every descriptor is decided by itself
//! and answered with a status of its own, in their order; one that is over its limit makes the
//! whole request over it. A descriptor that matches nothing is unlimited.
//!
//! A store that does not answer is the gRPC status UNAVAILABLE, never a made-up decision: Envoy's
//! own `failure_mode_deny` then says whether to let the request pass. (Not UNKNOWN: Envoy takes
//! that for a yes.)

pub mod tree;
pub mod wire;
mod grpc;
mod service;

pub use grpc::router;
pub use service::{DESCRIPTORS_MAX, Envoy, RULES_MAX};
