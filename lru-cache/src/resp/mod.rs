//! The cache as a server that speaks RESP, the protocol of Redis, so that its tools work here:
//! `redis-cli` to look, `redis-benchmark` to measure.
//!
//! [`frame`] (the crate `resp`) turns bytes into requests and replies into bytes, [`command`] turns a request into what
//! it asks for, [`keyspace`] does it, and [`server`] moves bytes. Only the last knows a socket.

pub use ::resp::frame;
pub mod command;
pub mod keyspace;
pub mod server;
