//! SQLite with group commit: many callers, one writer thread, one fsync per batch.
//!
//! A durable commit costs an fsync, and SQLite has one writer at a time. One transaction per
//! call therefore gives as many calls per second as the disk has fsyncs. Here calls queue; the
//! writer thread takes everything that queued *while the last commit ran*, runs each call in its
//! own savepoint inside one transaction, commits once, and then answers everybody. Batches grow
//! with the load by themselves: a lone caller pays one fsync and never waits for a timer.
//!
//! Use it for a store that must survive `kill -9` and needs no server. Use Postgres when several
//! machines write.
//!
//! ```
//! # async fn example() -> Result<(), group_commit::Error> {
//! use group_commit::{Error, Location, Options, Writer};
//!
//! let schema = "CREATE TABLE IF NOT EXISTS visits (page TEXT PRIMARY KEY, count INTEGER)";
//! let writer = Writer::open(Location::Memory, schema, Options::default())?;
//! let count: i64 = writer
//!     .call(|tx| {
//!         let mut add = tx.prepare_cached(
//!             "INSERT INTO visits VALUES (?1, 1)
//!              ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
//!         )?;
//!         Ok::<_, Error>(add.query_row(["/"], |row| row.get(0))?)
//!     })
//!     .await?;
//! assert_eq!(count, 1); // and it is on disk
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! # Invariants
//! - A call that returned `Ok` is on disk (WAL, `synchronous=FULL`), unless the database is in
//!   memory.
//! - A call that returned `Err` or panicked left nothing behind and harmed no other call.
//! - When a commit fails, nobody in its batch is told `Ok`.
//! - Calls run in the order in which they were queued; a read that starts after a call returned
//!   sees what that call wrote.
//!
//! # What it gives up
//! - Calls of a batch wait for each other: a slow closure delays everybody. Compute first, then
//!   call.
//! - Trap: constraints that are checked at commit (`DEFERRABLE INITIALLY DEFERRED`) let one
//!   caller's mistake fail the whole batch. Use immediate ones.
//! - Trap: a reader that never finishes keeps the WAL from being reset; it grows until then.

mod error;
mod options;
mod writer;
mod job;
mod health;
mod batch;
mod readers;
mod connection;

pub use error::Error;
pub use options::{
    BATCH_LIMIT, CACHE_KIB, CHECKPOINT_PAGES, Location, Options, QUEUE_LIMIT, READERS,
};
pub use rusqlite;
pub use writer::Writer;
