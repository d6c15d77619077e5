//! Writes the core's changes into rows, and reads them back after a restart.

use std::sync::Arc;

use group_commit::rusqlite::{Connection, Result, Row, params};
use uuid::Uuid;

use crate::engine::Engine;
use crate::message::{Epoch, MessageId, Phase, QueueId, Sent, Seq};
use crate::settings::Settings;
use crate::state::{Change, Duplicate, Message};

/// Writes one change.
pub(super) fn write(tx: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::Stored { queue_number, message } => insert(tx, *queue_number, message),
        Change::Leased { seq, epoch, receives, first_received_at_ms, phase } => {
            let (since_ms, until_ms) = match phase {
                Phase::Leased { since_ms, until_ms } => (*since_ms, *until_ms),
                Phase::Ready | Phase::Delayed { .. } => (0, 0),
            };
            tx.prepare_cached("INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    int(seq.0),
                    epoch.0,
                    receives,
                    int(*first_received_at_ms),
                    int(since_ms),
                    int(until_ms)
                ])
                .map(drop)
        }
        Change::Removed { seq } => {
            tx.prepare_cached("DELETE FROM messages WHERE seq = ?1")?.execute([int(seq.0)])?;
            tx.prepare_cached("DELETE FROM leases WHERE seq = ?1")?.execute([int(seq.0)]).map(drop)
        }
        Change::Purged { queue_number } => purge(tx, *queue_number),
        Change::Accepted { queue_number, record } => {
            let Duplicate { key, original, expires_at_ms } = record;
            let id = original.id.0.as_bytes();
            // Those that expired go first: what is expired by now was forgotten in memory.
            tx.prepare_cached("DELETE FROM accepted WHERE expires_at_ms <= ?1 - ?2")?
                .execute([int(*expires_at_ms), int(crate::limits::DEDUP_WINDOW_MS)])?;
            tx.prepare_cached("INSERT OR REPLACE INTO accepted VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    int(*queue_number),
                    &**key,
                    id,
                    int(original.seq.0),
                    int(*expires_at_ms)
                ])
                .map(drop)
        }
    }
}

fn insert(tx: &Connection, queue_number: u64, message: &Message) -> Result<()> {
    let delayed_until_ms = match message.phase {
        Phase::Delayed { until_ms } => until_ms,
        Phase::Ready | Phase::Leased { .. } => 0,
    };
    let source = message.dead_letter_source.as_ref().map(json);
    tx.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            int(message.seq.0),
            int(queue_number),
            message.id.0.as_bytes(),
            int(message.sent_at_ms),
            int(delayed_until_ms),
            message.epoch.0,
            source,
            json(&*message.content),
        ])
        .map(drop)
}

pub(super) fn purge(tx: &Connection, queue_number: u64) -> Result<()> {
    tx.execute(
        "DELETE FROM leases WHERE seq IN (SELECT seq FROM messages WHERE queue = ?1)",
        [int(queue_number)],
    )?;
    tx.execute("DELETE FROM messages WHERE queue = ?1", [int(queue_number)]).map(drop)
}

pub(super) fn put_queue(
    tx: &Connection,
    queue: &QueueId,
    number: u64,
    settings: &Settings,
) -> Result<()> {
    tx.execute(
        "INSERT INTO queues VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (number) DO UPDATE SET settings = excluded.settings",
        params![int(number), &*queue.region, &*queue.name, json(settings)],
    )
    .map(drop)
}

pub(super) fn remove_queue(tx: &Connection, number: u64) -> Result<()> {
    purge(tx, number)?;
    tx.execute("DELETE FROM accepted WHERE queue = ?1", [int(number)])?;
    tx.execute("DELETE FROM queues WHERE number = ?1", [int(number)]).map(drop)
}

/// The version on disk.
pub(super) fn version(tx: &Connection) -> Result<u64> {
    tx.prepare_cached("SELECT version FROM store")?.query_row([], |row| number(row, 0))
}

/// Raises the version, and notes the highest numbers given out: a number that was deleted before a
/// restart must not come back after it, or an old receipt would fit a new message.
pub(super) fn raise(tx: &Connection, last_queue_number: u64, last_seq: u64) -> Result<()> {
    tx.prepare_cached(
        "UPDATE store SET version = version + 1, last_queue_number = ?1, last_seq = ?2",
    )?
    .execute([int(last_queue_number), int(last_seq)])
    .map(drop)
}

/// Everything on disk, into an engine that is empty; returns the version.
pub(super) fn load(tx: &Connection, engine: &Engine) -> Result<u64> {
    let (version, last_queue_number, last_seq) =
        tx.query_row("SELECT version, last_queue_number, last_seq FROM store", [], |row| {
            Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?))
        })?;
    engine.continue_after(last_queue_number, Seq(last_seq));
    let mut queues = tx.prepare("SELECT number, region, name, settings FROM queues")?;
    let queues = queues.query_map([], |row| {
        let (region, name): (String, String) = (row.get(1)?, row.get(2)?);
        Ok((QueueId::new(&region, &name), number(row, 0)?, from_json(row, 3)?))
    })?;
    for queue in queues {
        let (queue, queue_number, settings): (QueueId, u64, Settings) = queue?;
        let slot = engine.restore_queue(queue, queue_number, settings);
        let mut messages = tx.prepare_cached(
            "SELECT seq, id, sent_at_ms, delayed_until_ms, messages.epoch, source, content,
                    leases.epoch, receives, first_received_at_ms, since_ms, until_ms
             FROM messages LEFT JOIN leases USING (seq) WHERE queue = ?1",
        )?;
        for message in messages.query_map([int(queue_number)], message)? {
            let message = message?;
            slot.with(|state| state.restore(message));
        }
        let mut accepted = tx.prepare_cached(
            "SELECT key, id, seq, expires_at_ms FROM accepted WHERE queue = ?1
             ORDER BY expires_at_ms",
        )?;
        for record in accepted.query_map([int(queue_number)], duplicate)? {
            let record = record?;
            slot.with(|state| state.restore_duplicate(record));
        }
    }
    Ok(version)
}

fn message(row: &Row<'_>) -> Result<Message> {
    let delayed_until_ms = number(row, 3)?;
    let leased: Option<u32> = row.get(7)?;
    let (receives, first_received_at_ms, phase) = match leased {
        // A lease that ran out while we were down is due at once, like any other.
        Some(_) => {
            let phase = Phase::Leased { since_ms: number(row, 10)?, until_ms: number(row, 11)? };
            (row.get(8)?, number(row, 9)?, phase)
        }
        None if delayed_until_ms > 0 => (0, 0, Phase::Delayed { until_ms: delayed_until_ms }),
        None => (0, 0, Phase::Ready),
    };
    Ok(Message {
        seq: Seq(number(row, 0)?),
        id: id(row, 1)?,
        sent_at_ms: number(row, 2)?,
        epoch: Epoch(leased.map_or_else(|| row.get(4), Ok)?),
        dead_letter_source: optional_json(row, 5)?,
        content: Arc::new(from_json(row, 6)?),
        receives,
        first_received_at_ms,
        phase,
    })
}

fn duplicate(row: &Row<'_>) -> Result<Duplicate> {
    let key: String = row.get(0)?;
    let original = Sent { id: id(row, 1)?, seq: Seq(number(row, 2)?) };
    Ok(Duplicate { key: key.into(), original, expires_at_ms: number(row, 3)? })
}

/// SQLite's integers are signed; times and counters stay far below the sign.
fn int(number: u64) -> i64 {
    number as i64
}

fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(|number: i64| number as u64)
}

fn id(row: &Row<'_>, column: usize) -> Result<MessageId> {
    Ok(MessageId(Uuid::from_bytes(row.get(column)?)))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our own types have text keys only")
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn optional_json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|it| unreadable(column, it))
}

fn unreadable(column: usize, error: serde_json::Error) -> group_commit::rusqlite::Error {
    let text = group_commit::rusqlite::types::Type::Text;
    group_commit::rusqlite::Error::FromSqlConversionFailure(column, text, Box::new(error))
}
