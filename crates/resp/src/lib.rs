//! RESP, the protocol of Redis, for servers that want its clients and its tools: `redis-cli` to look,
//! `redis-benchmark` to measure.
//!
//! Only the bytes are here. What a request means, and the sockets, are the business of each server:
//! `lru-cache` answers at once, `rate-limiter` may have to ask somebody first.

pub mod frame;
