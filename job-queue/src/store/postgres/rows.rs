//! Our types as parameters and rows of the functions in `sql`.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use uuid::Uuid;

use crate::limits;
use crate::message::{
    Content, Delivery, Epoch, MessageId, NewMessage, Peeked, Phase, Position, QueueId, Receipt,
    Sent, Seq,
};
use crate::queue::Error;
use crate::settings::{Scope, Settings};

pub(super) type Call<'a> = Query<'a, Postgres, PgArguments>;

/// A batch of messages, a column each.
pub(super) struct Batch {
    ids: Vec<String>,
    lanes: Vec<String>,
    dedup_ids: Vec<Option<String>>,
    delays: Vec<Option<i64>>,
    bytes: Vec<i64>,
    contents: Vec<String>,
}

impl Batch {
    pub(super) fn of(messages: &[NewMessage]) -> Self {
        let each = || messages.iter();
        Self {
            ids: each().map(|it| it.id.to_string()).collect(),
            lanes: each().map(|it| lane(&it.content)).collect(),
            dedup_ids: each().map(|it| it.content.dedup_id.clone()).collect(),
            delays: each().map(|it| it.delay_ms.map(|ms| ms as i64)).collect(),
            bytes: each().map(|it| it.content.bytes() as i64).collect(),
            contents: each().map(|it| json(&*it.content)).collect(),
        }
    }

    pub(super) fn send<'a>(&'a self, queue: &'a QueueId, now_ms: i64) -> Call<'a> {
        let limits = [limits::QUEUE_MESSAGES_MAX, limits::QUEUE_BYTES_MAX, limits::DEDUP_IDS_MAX];
        sqlx::query("SELECT * FROM queue_send($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
            .bind(&*queue.region)
            .bind(&*queue.name)
            .bind(&self.ids)
            .bind(&self.lanes)
            .bind(&self.dedup_ids)
            .bind(&self.delays)
            .bind(&self.bytes)
            .bind(&self.contents)
            .bind(limits.map(|limit| limit as i64))
            .bind(limits::DEDUP_WINDOW_MS as i64)
            .bind(now_ms)
    }
}

/// No group and every group are told apart by the first character; nothing sorts before both but
/// the empty string, from which a turn begins.
fn lane(content: &Content) -> String {
    content.group.as_ref().map_or_else(|| ".".to_owned(), |group| format!(":{group}"))
}

pub(super) fn sent(row: &PgRow) -> Result<Result<Sent, Error>, sqlx::Error> {
    let required = |field| Err(Error::invalid(field, "is required on a FIFO queue"));
    Ok(match row.try_get::<i32, _>("outcome")? {
        0 => Ok(Sent { id: id(row, "id")?, seq: Seq(number(row, "seq")?) }),
        1 => Err(Error::Full { what: "the queue (messages)", limit: limits::QUEUE_MESSAGES_MAX }),
        4 => required("MessageGroupId"),
        5 => required("MessageDeduplicationId"),
        _ => Err(Error::Full { what: "the queue (bytes)", limit: limits::QUEUE_BYTES_MAX }),
    })
}

/// Receipts, a column each.
pub(super) struct Receipts {
    numbers: Vec<i64>,
    seqs: Vec<i64>,
    epochs: Vec<i64>,
}

impl Receipts {
    pub(super) fn of(receipts: impl IntoIterator<Item = Receipt>) -> Self {
        let (mut numbers, mut seqs, mut epochs) = (vec![], vec![], vec![]);
        for it in receipts {
            numbers.push(it.queue_number as i64);
            seqs.push(it.seq.0 as i64);
            epochs.push(i64::from(it.epoch.0));
        }
        Self { numbers, seqs, epochs }
    }

    pub(super) fn delete<'a>(&'a self, queue: &'a QueueId, now_ms: i64) -> Call<'a> {
        self.bind("SELECT * FROM queue_delete($1, $2, $3, $4, $5, $6)", queue).bind(now_ms)
    }

    pub(super) fn hide<'a>(&'a self, queue: &'a QueueId, ms: &'a [i64], now_ms: i64) -> Call<'a> {
        self.bind("SELECT * FROM queue_hide($1, $2, $3, $4, $5, $6, $7, $8)", queue)
            .bind(ms)
            .bind(limits::VISIBILITY_MAX_MS as i64)
            .bind(now_ms)
    }

    fn bind<'a>(&'a self, call: &'static str, queue: &'a QueueId) -> Call<'a> {
        sqlx::query(call)
            .bind(&*queue.region)
            .bind(&*queue.name)
            .bind(&self.numbers)
            .bind(&self.seqs)
            .bind(&self.epochs)
    }
}

/// What became of each receipt.
pub(super) struct Answers {
    pub(super) outcomes: Vec<Result<(), Error>>,
    /// How long the leases lasted that ended in a delete.
    pub(super) worked_ms: Vec<u64>,
    /// Consumers that have something to do since.
    pub(super) news: usize,
}

impl Answers {
    pub(super) fn of(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut answers =
            Self { outcomes: Vec::with_capacity(rows.len()), worked_ms: vec![], news: 0 };
        for row in rows {
            answers.outcomes.push(match row.try_get::<i32, _>("outcome")? {
                0 => Ok(()),
                1 => Err(Error::ReceiptInvalid),
                2 => Err(Error::Stale),
                3 => Err(Error::Expired),
                4 => Err(Error::NotInFlight),
                _ => Err(Error::lease_too_long()),
            });
            let worked_ms: Option<i64> = row.try_get("worked_ms")?;
            answers.worked_ms.extend(worked_ms.map(|ms| ms.max(0) as u64));
            answers.news += row.try_get::<i32, _>("news")? as usize;
        }
        Ok(answers)
    }
}

/// The parameters of `insert_queue.sql` and `update_queue.sql`.
pub(super) fn put_queue<'a>(
    sql: &'static str,
    queue: &'a QueueId,
    settings: &Settings,
) -> Call<'a> {
    let dedup_by_group =
        settings.fifo.as_ref().is_some_and(|it| it.dedup_scope == Scope::MessageGroup);
    let redrive = settings.redrive.as_ref();
    sqlx::query(sql)
        .bind(&*queue.region)
        .bind(&*queue.name)
        .bind(json(settings))
        .bind(settings.visibility_timeout_ms as i64)
        .bind(settings.delay_ms as i64)
        .bind(settings.retention_ms as i64)
        .bind(settings.fifo.is_some())
        .bind(dedup_by_group)
        .bind(redrive.map(|it| it.target.region.to_string()))
        .bind(redrive.map(|it| it.target.name.to_string()))
        .bind(redrive.map(|it| i32::try_from(it.max_receives).unwrap_or(i32::MAX)))
}

pub(super) fn delivery(row: &PgRow) -> Result<Delivery, sqlx::Error> {
    let seq = Seq(number(row, "seq")?);
    let epoch = Epoch(number(row, "epoch")? as u32);
    Ok(Delivery {
        id: id(row, "id")?,
        seq,
        receipt: Receipt { queue_number: number(row, "queue_number")?, seq, epoch },
        content: Arc::new(from_json(row, "content")?),
        sent_at_ms: number(row, "sent_at_ms")?,
        receives: row.try_get::<i32, _>("receives")? as u32,
        first_received_at_ms: number(row, "first_received_at_ms")?,
        dead_letter_source: optional_json(row, "source")?,
    })
}

pub(super) fn peeked(row: &PgRow) -> Result<Peeked, sqlx::Error> {
    let until_ms = number(row, "until_ms")?;
    let phase = match row.try_get::<i16, _>("phase")? {
        0 => Phase::Ready,
        1 => Phase::Delayed { until_ms },
        _ => Phase::Leased { until_ms, since_ms: number(row, "since_ms")? },
    };
    Ok(Peeked {
        position: Position {
            sent_at_ms: number(row, "sent_at_ms")?,
            seq: Seq(number(row, "seq")?),
        },
        id: id(row, "id")?,
        content: Arc::new(from_json(row, "content")?),
        receives: row.try_get::<i32, _>("receives")? as u32,
        phase,
        dead_letter_source: optional_json(row, "source")?,
    })
}

/// Postgres's integers are signed; times and counters stay far below the sign.
fn number(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(|number| number as u64)
}

pub(super) fn column(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(|number| number as u64)
}

fn id(row: &PgRow, column: &str) -> Result<MessageId, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    let uuid = Uuid::try_parse(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(MessageId(uuid))
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types have text keys only")
}

pub(super) fn from_json<T: DeserializeOwned>(
    row: &PgRow,
    column: impl sqlx::ColumnIndex<PgRow>,
) -> Result<T, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn optional_json<T: DeserializeOwned>(row: &PgRow, column: &str) -> Result<Option<T>, sqlx::Error> {
    let text: Option<&str> = row.try_get(column)?;
    let read = |text| serde_json::from_str(text);
    text.map(read).transpose().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
