//! Where the database is, and every bound.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Calls that may wait in the queue. When it is full, callers wait in `call` until there is room,
/// in the order they came; nobody is turned away.
pub const QUEUE_LIMIT: usize = 4_096;

/// Calls in one transaction. More would not save much fsync time, and would make the first caller
/// of a batch wait longer for the last.
pub const BATCH_LIMIT: usize = 1_024;

/// Threads with a read connection each. More reads than that wait for one to be free.
pub const READERS: usize = 2;

/// Memory for pages of the database on the writer's connection. Pages that do not fit are read
/// again for every call, and written before the commit when they were changed.
pub const CACHE_KIB: u32 = 2 * 1024;

/// Pages in the WAL before they are copied into the database. SQLite's default of 1000 pays for
/// the copy and its two fsyncs more often than a steady load needs.
pub const CHECKPOINT_PAGES: u32 = 4_000;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In memory, gone with the writer: the same code without durability. Reads run on the writer
    /// thread, between batches.
    Memory,
    /// In a file (with `-wal` and `-shm` beside it), created when it does not exist.
    File(PathBuf),
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Location::File(path.to_owned())
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Location::File(path)
    }
}

/// The bounds of a writer; the defaults suit a service.
#[derive(Debug, Clone)]
pub struct Options {
    /// See [`QUEUE_LIMIT`].
    pub queue_limit: usize,
    /// See [`BATCH_LIMIT`].
    pub batch_limit: usize,
    /// See [`READERS`].
    pub readers: usize,
    /// See [`CACHE_KIB`].
    pub cache_kib: u32,
    /// See [`CHECKPOINT_PAGES`].
    pub checkpoint_pages: u32,
    /// How long to wait for another process that holds the database.
    pub busy_timeout: Duration,
    /// The `database` label of the metrics `group_commit_batch_calls` and
    /// `group_commit_commit_seconds`.
    pub name: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_limit: QUEUE_LIMIT,
            batch_limit: BATCH_LIMIT,
            readers: READERS,
            cache_kib: CACHE_KIB,
            checkpoint_pages: CHECKPOINT_PAGES,
            busy_timeout: Duration::from_secs(5),
            name: "main",
        }
    }
}
