//! Opening connections: every pragma, and why.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use crate::error::Error;
use crate::options::{Location, Options};

/// Parsed statements that each connection keeps.
const STATEMENTS_KEPT: usize = 128;

/// The WAL file is cut back to this size when it is reset, so that one burst does not keep its
/// disk space for ever.
const WAL_BYTES_KEPT: i64 = 64 << 20;

pub(crate) fn writer(
    location: &Location,
    schema: &str,
    options: &Options,
) -> Result<Connection, Error> {
    let step = |what| move |error| failed(location, what, Some(error));
    let connection = match location {
        Location::Memory => Connection::open_in_memory(),
        Location::File(path) => Connection::open(path),
    }
    .map_err(step("open the database"))?;
    set_up(&connection, options).map_err(step("set it up"))?;
    if let Location::File(_) = location {
        durable(&connection, options).map_err(step("switch to the write-ahead log"))?;
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .map_err(step("read its journal mode"))?;
        // Some file systems cannot share memory; readers would then block the writer.
        if mode != "wal" {
            return Err(failed(location, "the file system does not support WAL", None));
        }
    }
    connection
        .execute_batch(&format!("BEGIN IMMEDIATE;\n{schema}\n;COMMIT;"))
        .map_err(step("run the schema"))?;
    Ok(connection)
}

pub(crate) fn reader(path: &Path, options: &Options) -> Result<Connection, Error> {
    let location = Location::from(path);
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        set_up(&connection, options)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error| failed(&location, "open a read connection", Some(error)))
}

fn set_up(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update(None, "foreign_keys", true)?;
    // Savepoints copy the pages they touch; without this, into a file.
    connection.pragma_update(None, "temp_store", "memory")
}

fn durable(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    // An fsync of the WAL with every commit. NORMAL would lose the last commits with the power.
    connection.pragma_update(None, "synchronous", "full")?;
    // On macOS a plain fsync does not reach the platter; elsewhere this changes nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", options.checkpoint_pages)?;
    // Negative for KiB, positive would be pages.
    connection.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)
}

pub(crate) fn failed(
    location: &Location,
    what: &'static str,
    source: Option<rusqlite::Error>,
) -> Error {
    let path = match location {
        Location::Memory => ":memory:".to_owned(),
        Location::File(path) => path.display().to_string(),
    };
    Error::Open { path, what, source: source.map(Arc::new) }
}
