//! One effect, however often the job is delivered: the ledger of what was done.
//!
//! "Look whether it was done, do it, write down that it was done" is wrong twice: two workers look
//! at the same time, and a crash between doing and writing does it again. So the effect and its
//! record are one transaction, and the record's primary key decides who does it.
//!
//! It also keeps the highest fencing token seen for each job: a worker that lost its lease, and
//! does not know it yet, is refused even when the one who has it now is not done.

use std::path::Path;

use group_commit::rusqlite::{self, Connection, OptionalExtension, params};
use group_commit::{Location, Options, Writer};

const SCHEMA: &str = include_str!("ledger.sql");

/// What [`Ledger::once`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// The effect happened now, and is on disk.
    Done,
    /// It had happened before: a duplicate delivery.
    Before,
    /// Somebody holds a later lease: stop.
    Fenced,
}

/// What was done, in a SQLite file beside the effects (or in the database that holds them).
#[derive(Clone, Debug)]
pub struct Ledger {
    writer: Writer,
}

/// A failure of the ledger or of the effect; nothing of either was kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("the ledger failed: {0}")]
    Store(#[from] group_commit::Error),
    /// The effect itself.
    #[error("the effect failed: {0}")]
    Effect(String),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Ledger {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let options = Options { name: "ledger", ..Options::default() };
        Ok(Self { writer: Writer::open(path, SCHEMA, options)? })
    }

    /// A ledger for a test.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { writer: Writer::open(Location::Memory, SCHEMA, Options::default())? })
    }

    /// Announces that the lease of `epoch` works on `key`; leases before it are fenced from now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn begin(&self, key: &str, epoch: u32) -> Result<Once, Error> {
        let key = key.to_owned();
        self.writer.call(move |tx| admit(tx, &key, epoch)).await
    }

    /// Runs `effect` in the transaction that records it, unless it was recorded before or a later
    /// lease has begun. An effect outside of the database (a file, a call) must itself be
    /// repeatable: it can happen and its record can be lost in a crash.
    ///
    /// # Errors
    /// [`Error::Effect`] with what `effect` said; nothing is recorded.
    pub async fn once(
        &self,
        key: &str,
        epoch: u32,
        effect: impl FnOnce(&Connection) -> Result<(), String> + Send + 'static,
    ) -> Result<Once, Error> {
        let key = key.to_owned();
        self.writer
            .call(move |tx| {
                match admit(tx, &key, epoch)? {
                    Once::Done => {}
                    refused => return Ok(refused),
                }
                effect(tx).map_err(Error::Effect)?;
                tx.prepare_cached("UPDATE jobs SET done = done + 1 WHERE key = ?1")?
                    .execute([&key])?;
                Ok(Once::Done)
            })
            .await
    }

    /// How many jobs had their effect, and how many had it more than once. The second number is
    /// zero, or the ledger is broken.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn totals(&self) -> Result<(u64, u64), Error> {
        self.writer
            .read(|connection| {
                let sql = "SELECT count(*) FILTER (WHERE done >= 1),
                                  count(*) FILTER (WHERE done > 1) FROM jobs";
                Ok(connection.query_row(sql, [], |row| {
                    let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
                    Ok((number(0)?, number(1)?))
                })?)
            })
            .await
    }
}

/// `Done` stands for "go ahead".
fn admit(tx: &Connection, key: &str, epoch: u32) -> Result<Once, Error> {
    let known: Option<(u32, u32)> = tx
        .prepare_cached("SELECT epoch, done FROM jobs WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((_, done)) if done > 0 => return Ok(Once::Before),
        Some((highest, _)) if epoch < highest => return Ok(Once::Fenced),
        _ => {}
    }
    tx.prepare_cached(
        "INSERT INTO jobs (key, epoch) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
    )?
    .execute(params![key, epoch])?;
    Ok(Once::Done)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[tokio::test]
    async fn a_duplicate_delivery_has_no_second_effect_and_a_failed_one_leaves_no_record() {
        let ledger = Ledger::in_memory().unwrap();
        let effects = Arc::new(AtomicU32::new(0));
        let count = |effects: &Arc<AtomicU32>| {
            let effects = Arc::clone(effects);
            move |_: &Connection| {
                effects.fetch_add(1, SeqCst);
                Ok(())
            }
        };
        let failed = ledger.once("job", 1, |_| Err("disk full".to_owned())).await;
        assert!(matches!(failed, Err(Error::Effect(why)) if why == "disk full"));
        assert_eq!(ledger.once("job", 2, count(&effects)).await.unwrap(), Once::Done);
        assert_eq!(ledger.once("job", 3, count(&effects)).await.unwrap(), Once::Before);
        assert_eq!((effects.load(SeqCst), ledger.totals().await.unwrap()), (1, (1, 0)));
    }

    #[tokio::test]
    async fn a_worker_whose_lease_was_given_to_another_is_fenced() {
        let ledger = Ledger::in_memory().unwrap();
        assert_eq!(ledger.begin("job", 1).await.unwrap(), Once::Done);
        assert_eq!(ledger.begin("job", 2).await.unwrap(), Once::Done);
        assert_eq!(ledger.once("job", 1, |_| Ok(())).await.unwrap(), Once::Fenced);
        assert_eq!(ledger.once("job", 2, |_| Ok(())).await.unwrap(), Once::Done);
    }
}
