//! What can go wrong, by what the caller does next.

use std::net::SocketAddr;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no proxy, or no fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text names no fault: use one of the forms that the message lists.
    #[error("{given:?} is not a fault: {why}; faults are {}", crate::Fault::EXAMPLES.join(", "))]
    BadFault {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },

    /// The upstream is neither `host:port` nor a URL with a host and a port.
    #[error("{given:?} is not an address to forward to: want host:port or scheme://host:port/..")]
    BadUpstream {
        /// What was given.
        given: String,
    },

    /// The proxy cannot listen: take another address.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
