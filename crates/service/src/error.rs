//! What can go wrong before a service serves. After that, failures are [`Problem`](crate::Problem)s.

use std::io;
use std::net::SocketAddr;

/// A start that failed. Every message is one line and names the flag to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process listens there: choose another port.
    #[error(
        "--listen {0}: address already in use (another process serves there; \
         choose another port, or port 0 for any free one)"
    )]
    AddressInUse(SocketAddr),

    /// The address cannot be listened on: not ours, or a port that needs privileges.
    #[error("--listen {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why the system refused it.
        source: io::Error,
    },

    /// A setting that parses as text but means nothing here.
    #[error("--{flag} {value}: {why}")]
    Setting {
        /// The flag, without its dashes.
        flag: &'static str,
        /// What was given (passwords already hidden).
        value: String,
        /// What would be accepted.
        why: String,
    },

    /// The signal handlers could not be installed.
    #[error("cannot listen for SIGTERM and Ctrl-C: {0}")]
    Signals(#[source] io::Error),
}
