//! The textbook answer, to be measured against: a history table indexed by sender, receiver and
//! time, a queue of undelivered messages per user, timestamps as cursors, and no id from the
//! sender.
//!
//! It cannot implement [`Store`](crate::Store): there is no sequence to return and no retry to
//! recognise. What each of those costs is shown by `ask chat-service/textbook`.

use std::path::Path;

use group_commit::rusqlite::params;
use group_commit::{Location, Options, Writer};

use crate::chat::Error;

/// A message as this schema has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who wrote it.
    pub sender: String,
    /// When, which here is also where.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Letter {
    /// From whom.
    pub sender: String,
    /// To whom.
    pub receiver: String,
    /// The sender's or the server's clock.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// The store.
pub struct Textbook {
    writer: Writer,
}

impl Textbook {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`Error::Unavailable`], here and below.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let options = Options { name: "textbook", ..Options::default() };
        let schema = include_str!("textbook/schema.sql");
        Ok(Self { writer: Writer::open(Location::File(path.to_owned()), schema, options)? })
    }

    /// Writes messages to history and to the receivers' queues. A retry is another message.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn send(&self, letters: Vec<Letter>) -> Result<(), Error> {
        let writing = self.writer.call(move |tx| {
            let mut history = tx.prepare_cached(
                "INSERT INTO history (sender, receiver, at_ms, text) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut queue =
                tx.prepare_cached("INSERT INTO undelivered (receiver, message) VALUES (?1, ?2)")?;
            for letter in &letters {
                let at_ms = letter.at_ms as i64;
                history.execute(params![letter.sender, letter.receiver, at_ms, letter.text])?;
                queue.execute(params![letter.receiver, tx.last_insert_rowid()])?;
            }
            Ok(())
        });
        writing.await
    }

    /// The newest messages between two people, newest first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn newest(&self, one: &str, other: &str, limit: usize) -> Result<Vec<Row>, Error> {
        let (one, other) = (one.to_owned(), other.to_owned());
        let reading = self.writer.read(move |conn| {
            let mut newest = conn.prepare_cached(include_str!("textbook/newest.sql"))?;
            let rows = newest.query_map(params![one, other, limit as i64], row)?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        reading.await
    }

    /// The messages after a timestamp, oldest first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn since(
        &self,
        one: &str,
        other: &str,
        after_ms: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let (one, other) = (one.to_owned(), other.to_owned());
        let after = after_ms.map_or(-1, |after| after as i64);
        let reading = self.writer.read(move |conn| {
            let mut since = conn.prepare_cached(include_str!("textbook/since.sql"))?;
            let rows = since.query_map(params![one, other, after, limit as i64], row)?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        reading.await
    }

    /// How many messages wait for somebody.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn waiting(&self, receiver: &str) -> Result<u64, Error> {
        let receiver = receiver.to_owned();
        let counting = self.writer.read(move |conn| {
            let count = "SELECT count(*) FROM undelivered WHERE receiver = ?1";
            Ok(conn.query_row(count, [receiver], |row| row.get::<_, i64>(0))?)
        });
        counting.await.map(|count: i64| count.max(0) as u64)
    }
}

fn row(row: &group_commit::rusqlite::Row<'_>) -> group_commit::rusqlite::Result<Row> {
    let at_ms: i64 = row.get(1)?;
    Ok(Row { sender: row.get(0)?, at_ms: at_ms.max(0) as u64, text: row.get(2)? })
}
