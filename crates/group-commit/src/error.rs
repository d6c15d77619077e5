//! What can go wrong, by what the caller does next.

use std::sync::Arc;

/// Why a call, a read or opening failed. The error type of a closure is made from it with `From`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// This call's own statement failed; only this call was rolled back. Look at the cause: a
    /// constraint is the caller's business, a full disk is the operator's.
    #[error("the statement failed")]
    Statement(#[source] Arc<rusqlite::Error>),

    /// The batch could not be committed (disk full, I/O error, locked by another process):
    /// nothing of it is visible. Try again later, with something idempotent: when an fsync fails
    /// and the machine crashes right after, what the disk kept is not known.
    #[error("the batch was not committed")]
    NotCommitted(#[source] Arc<rusqlite::Error>),

    /// SQLite, or one of the closures, ended the transaction in the middle of the batch. What
    /// came before is rolled back (SQLite does this when the disk is full); try again later.
    #[error("the transaction ended before the batch was complete")]
    Aborted,

    /// The closure panicked and was rolled back: a bug to report.
    #[error("the closure panicked: {0}")]
    Panicked(String),

    /// The writer is closed, or its thread is gone: stop calling.
    #[error("the writer is closed")]
    Closed,

    /// The database could not be opened or set up.
    #[error("cannot open {path}: {what}")]
    Open {
        /// The file, or `:memory:`.
        path: String,
        /// Which step failed.
        what: &'static str,
        /// The cause, where SQLite gave one.
        #[source]
        source: Option<Arc<rusqlite::Error>>,
    },
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::Statement(Arc::new(error))
    }
}
