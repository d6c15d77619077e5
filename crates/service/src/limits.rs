//! What one request may cost, as named numbers.

use std::time::Duration;

/// Largest body. Above it the client gets 413 and the rest is not read.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Largest sum of header names and values. Above it the client gets 431.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Longest time from the request's head to the response's head. After it the handler is dropped
/// at its current `await` and the client gets 503, also when it was slow to send its own body.
/// A response's body that streams on, and an upgraded connection, are not cut. Long polls must
/// answer below it.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Most requests worked on at once. One more gets 503 at once, because a queue without a bound
/// would turn overload into latency for everybody and memory without end.
pub const IN_FLIGHT_MAX: usize = 10_000;

/// The limits [`harden`](fn@crate::harden) applies; the defaults are the constants of this module.
#[derive(Clone, Debug)]
pub struct Limits {
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes: usize,
    /// See [`HEADER_BYTES_MAX`].
    pub header_bytes: usize,
    /// See [`REQUEST_TIME_MAX`].
    pub request_time: Duration,
    /// See [`IN_FLIGHT_MAX`].
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES_MAX,
            header_bytes: HEADER_BYTES_MAX,
            request_time: REQUEST_TIME_MAX,
            in_flight: IN_FLIGHT_MAX,
        }
    }
}
