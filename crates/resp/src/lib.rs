//! RESP, the protocol of Redis, for servers that want its clients and its tools: `redis-cli` to look,
//! `redis-benchmark` to measure.
//!
//! [`frame`] has the bytes, [`server`] the sockets. What a request means is the business of each
//! server: `lru-cache` answers at once, `rate-limiter` may have to ask somebody first.

pub mod frame;
pub mod server;
