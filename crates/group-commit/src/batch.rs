//! The writer thread: takes what has queued, one transaction, one commit, then the answers.

use std::sync::Arc;
use std::time::Instant;
use std::vec;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::health::Health;
use crate::job::{Job, Read, run_cached};
use crate::options::Options;

/// What the queue carries.
pub(crate) enum Message {
    Call(Box<dyn Job>),
    /// Only for a database in memory, which has no other connection.
    Read(Read),
    Close(oneshot::Sender<()>),
}

impl Message {
    pub(crate) fn call(job: impl Job + 'static) -> Self {
        Message::Call(Box::new(job))
    }
}

/// Runs until the queue is closed and empty.
pub(crate) fn write(connection: Connection, mut queue: mpsc::Receiver<Message>, options: &Options) {
    let mut messages = Vec::with_capacity(options.batch_limit);
    let mut closing = Vec::new();
    let mut health = Health::of(&connection, options.name);
    // There is no timer: a batch is what has queued while the last commit ran.
    while queue.blocking_recv_many(&mut messages, options.batch_limit.max(1)) > 0 {
        let mut jobs = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Call(job) => jobs.push(job),
                // Before the batch: a read must not see what is not committed yet.
                Message::Read(read) => read_only(&connection, read),
                Message::Close(reply) => {
                    queue.close();
                    closing.push(reply);
                }
            }
        }
        let mut jobs = jobs.into_iter();
        while jobs.len() > 0 {
            one_transaction(&connection, &mut jobs, options.name, &mut health);
        }
    }
    drop(connection);
    for reply in closing {
        // Whoever closed may not have waited.
        let _ = reply.send(());
    }
}

fn read_only(connection: &Connection, read: Read) {
    if connection.pragma_update(None, "query_only", true).is_ok() {
        read(connection);
        // Should this fail, calls fail with an error of their own: nothing is written by mistake.
        drop(connection.pragma_update(None, "query_only", false));
    }
}

/// Runs the jobs in one transaction, up to the last or to the one that ended the transaction,
/// then answers those it ran.
fn one_transaction(
    connection: &Connection,
    jobs: &mut vec::IntoIter<Box<dyn Job>>,
    name: &'static str,
    health: &mut Health,
) {
    if let Err(error) = run_cached(connection, "BEGIN IMMEDIATE") {
        let refused = Err(Error::NotCommitted(Arc::new(error)));
        health.note(&refused);
        return jobs.for_each(|job| job.answer(&refused));
    }
    let changes_before = connection.total_changes();
    let alone = jobs.len() == 1;
    let mut ran = Vec::with_capacity(jobs.len());
    let mut keep_any = false;
    let mut result = Ok(());
    for mut job in jobs.by_ref() {
        // A lone job needs no savepoint: rolling it back is rolling back the transaction.
        let kept =
            if alone { Ok(job.run(connection)) } else { in_savepoint(connection, &mut *job) };
        ran.push(job);
        match kept {
            Ok(kept) => keep_any |= kept,
            Err(error) => result = Err(Error::NotCommitted(Arc::new(error))),
        }
        // Trap: on a full disk SQLite may roll back everything by itself. Going on would commit
        // each following statement alone, and tell the earlier callers Ok for nothing.
        if connection.is_autocommit() {
            result = Err(Error::Aborted);
        }
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| end(connection, keep_any, ran.len(), name));
    if !connection.is_autocommit() {
        // After a failed commit the transaction is still open. If even this fails, the next
        // BEGIN does too, and says so to its callers.
        drop(run_cached(connection, "ROLLBACK"));
    }
    // A batch that wrote nothing shows nothing about the disk.
    if result.is_err() || connection.total_changes() > changes_before {
        health.note(&result);
    }
    ran.into_iter().for_each(|job| job.answer(&result));
}

/// Whether the job's writes are kept; an error is one of the savepoint, not of the job.
fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<bool> {
    run_cached(connection, "SAVEPOINT one_call")?;
    let keep = job.run(connection);
    if connection.is_autocommit() {
        return Ok(false);
    }
    if !keep {
        run_cached(connection, "ROLLBACK TO one_call")?;
    }
    run_cached(connection, "RELEASE one_call")?;
    Ok(keep)
}

fn end(connection: &Connection, keep: bool, calls: usize, name: &'static str) -> Result<(), Error> {
    if !keep {
        return Ok(());
    }
    let begun = Instant::now();
    run_cached(connection, "COMMIT").map_err(|error| Error::NotCommitted(Arc::new(error)))?;
    metrics::histogram!("group_commit_commit_seconds", "database" => name).record(begun.elapsed());
    // A batch is far smaller than 2^52, so the count is exact.
    metrics::histogram!("group_commit_batch_calls", "database" => name).record(calls as f64);
    Ok(())
}
