//! What the operator is told when writing begins to fail, and when it works again: once each. The
//! callers are told every time, but a full disk is nothing that they can do something about.

use rusqlite::ErrorCode;

use crate::error::Error;

/// Whether the last batch was written.
pub(crate) struct Health {
    database: &'static str,
    file: String,
    is_failing: bool,
}

impl Health {
    pub(crate) fn of(connection: &rusqlite::Connection, database: &'static str) -> Self {
        let file = connection.path().filter(|path| !path.is_empty()).unwrap_or(":memory:");
        Self { database, file: file.to_owned(), is_failing: false }
    }

    /// Takes note of how a batch ended.
    pub(crate) fn note(&mut self, result: &Result<(), Error>) {
        let (database, file) = (self.database, &self.file);
        match result {
            Ok(()) if self.is_failing => tracing::info!(database, file, "writes work again"),
            Err(error) if !self.is_failing => {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                let cause = cause.unwrap_or_else(|| error.to_string());
                tracing::error!(database, file, cause, "nothing can be written: {}", advice(error));
            }
            _ => {}
        }
        self.is_failing = result.is_err();
    }
}

fn advice(error: &Error) -> &'static str {
    let code = match error {
        Error::NotCommitted(cause) => cause.sqlite_error_code(),
        // SQLite ends a transaction by itself when there is no room for its pages.
        Error::Aborted => Some(ErrorCode::DiskFull),
        _ => None,
    };
    match code {
        Some(ErrorCode::DiskFull) => {
            "free some space on its disk, and it goes on by itself; what was acknowledged is there"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "make the file and its directory writable, and it goes on by itself"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds it: end that one, or wait"
        }
        _ => "look at its disk",
    }
}
