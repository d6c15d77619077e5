//! Postgres: for several servers over the same queues.
//!
//! Every operation is one call of a function in the database (`postgres/sql`), so one round trip
//! and one transaction, and what it decides cannot race:
//!
//! - A standard queue leases with `FOR UPDATE SKIP LOCKED`: each of many consumers passes by the
//!   rows that another is just taking, and nobody waits.
//! - A FIFO queue has a row for each group. Whoever locks it owns the group for the moment, which
//!   keeps order and "one batch in flight"; consumers skip groups that are locked.
//! - Consumers wait in their server. It is told with `LISTEN`/`NOTIFY` what became ready elsewhere.
//!
//! Trade-off: against the answers that keep everything in memory, a message costs three versions of
//! a row and a vacuum. That buys servers that can come and go, and a queue in the same database as
//! the data its jobs are about.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{PgConnection, PgPool, Row};

use super::remote::Here;
use crate::clock::Clock;
use crate::limits;
use crate::message::{Delivery, NewMessage, Peeked, Position, QueueId, Receipt, Sent};
use crate::meter::Reading;
use crate::queue::{Ask, Counts, Created, Error, Queues, Transferred};
use crate::settings::Settings;

mod rows;
mod telling;

use rows::{Answers, Batch, Receipts, column, delivery, peeked};
use telling::Telling;

/// Connections of one server: Postgres does its best work with a few per core, and who waits here
/// costs nothing there.
const CONNECTIONS_MAX: u32 = 12;
/// How long a caller waits for a connection before it is told that the store is down.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Times a call is repeated that Postgres ended in favour of another (deadlock, serialization).
const ATTEMPTS_MAX: u32 = 5;
/// Any number, the same in every server: they take turns at the schema.
const SCHEMA_LOCK: i64 = 0x6a6f_625f_7175;

/// Tables and functions; every server brings them when it connects.
const SCHEMA: [&str; 6] = [
    include_str!("postgres/sql/schema.sql"),
    include_str!("postgres/sql/common.sql"),
    include_str!("postgres/sql/send.sql"),
    include_str!("postgres/sql/receive.sql"),
    include_str!("postgres/sql/acknowledge.sql"),
    include_str!("postgres/sql/manage.sql"),
];

/// Queues in a Postgres database; clones share connections.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: PgPool,
    here: Arc<Here>,
    telling: Arc<Telling>,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|it| it.code()).unwrap_or_default();
        match &*code {
            "JQ404" => Self::NoSuchQueue,
            "JQ403" => Self::PurgedRecently,
            "JQ429" => Self::TooManyInFlight,
            "JQ507" => Self::Full { what: "the queue", limit: limits::QUEUE_MESSAGES_MAX },
            _ => Self::Unavailable {
                what: format!("Postgres: {error}"),
                source: Some(Arc::new(error)),
            },
        }
    }
}

/// Postgres chose another transaction over this one: nothing happened, the same call may work now.
fn may_be_repeated(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|it| it.code());
    code.is_some_and(|code| code == "40P01" || code == "40001")
}

/// Every call is one transaction, so repeating it repeats nothing that happened.
macro_rules! settled {
    ($call:expr) => {{
        let mut attempt = 1;
        loop {
            match $call.await {
                Err(error) if attempt < ATTEMPTS_MAX && may_be_repeated(&error) => attempt += 1,
                done => break done.map_err(Error::from),
            }
        }
    }};
}

impl Postgres {
    /// Connects, and makes tables and functions when they are not there.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connect(url: &str, clock: Clock) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)?.options([
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "10s"),
            // Every statement is written for an index. The planner, which sees an empty table now
            // and a million rows a minute later, is not asked.
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("plan_cache_mode", "force_generic_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_TIME_MAX)
            .connect_with(options)
            .await?;
        let mut tx = pool.begin().await?;
        // Trap: CREATE IF NOT EXISTS is no protection between two transactions at once.
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK).execute(&mut *tx).await?;
        for part in SCHEMA {
            sqlx::raw_sql(part).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let here = Arc::new(Here::new(clock));
        telling::learn_time(&pool, &here).await?;
        let telling = Telling::start(&pool, &here).await?;
        Ok(Self { pool, here, telling: Arc::new(telling) })
    }

    /// Rates and latencies of every queue, as far as they passed through this server.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn readings(&self) -> Result<Vec<(QueueId, Counts, Reading)>, Error> {
        let queues = sqlx::query("SELECT region, name FROM queues ORDER BY region, name");
        let mut counts = Vec::new();
        for row in queues.fetch_all(&self.pool).await? {
            let queue = QueueId::new(row.try_get(0)?, row.try_get(1)?);
            match self.counts(&queue).await {
                Ok(found) => counts.push((queue, found)),
                Err(Error::NoSuchQueue) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.here.read(counts))
    }

    fn now_ms(&self) -> i64 {
        self.here.time.now_ms() as i64
    }

    /// So many consumers of the queue have something to do: those here know at once, other servers
    /// after the commit.
    fn ready(&self, queue: &QueueId, count: usize) {
        if count > 0 {
            self.here.line(queue).wake(count);
            self.telling.tell(queue, count);
        }
    }

    /// One look, without waiting.
    async fn look(&self, queue: &QueueId, ask: &Ask) -> Result<Vec<Delivery>, Error> {
        let line = self.here.line(queue);
        let now_ms = self.now_ms();
        let turn = line.turn.lock().clone();
        let rows = settled!(
            sqlx::query("SELECT * FROM queue_receive($1, $2, $3, $4, $5, $6, $7, $8, $9)")
                .bind(&*queue.region)
                .bind(&*queue.name)
                .bind(ask.max.min(limits::IN_FLIGHT_MAX) as i32)
                .bind(ask.visibility_ms.map(|ms| ms as i64))
                .bind(ask.attempt.as_deref())
                .bind(&turn)
                .bind(limits::IN_FLIGHT_MAX as i64)
                .bind(limits::DEDUP_WINDOW_MS as i64)
                .bind(now_ms)
                .fetch_all(&self.pool)
        )?;
        let deliveries: Vec<_> = rows.iter().map(delivery).collect::<Result<_, _>>()?;
        if let Some(last) = rows.last() {
            *line.turn.lock() = last.try_get("lane")?;
            line.meter.lock().received(&deliveries, now_ms as u64);
            // The exact end is known to the database; an end too early costs the watch one look.
            line.due_at(ask.visibility_ms.map_or(0, |ms| now_ms as u64 + ms));
        }
        Ok(deliveries)
    }

    /// When the next delay or lease ends.
    async fn next_due(&self, queue: &QueueId) -> Result<Option<u64>, Error> {
        let query = sqlx::query(include_str!("postgres/sql/next_due.sql"));
        let row = query.bind(&*queue.region).bind(&*queue.name).fetch_optional(&self.pool).await?;
        row.map(|row| column(&row, 0)).transpose().map_err(Error::from)
    }

    /// A function over receipts, its answers in order.
    async fn answered(&self, queue: &QueueId, answers: Answers) -> Vec<Result<(), Error>> {
        let line = self.here.line(queue);
        let now_ms = self.here.time.now_ms();
        {
            let mut meter = line.meter.lock();
            answers.worked_ms.iter().for_each(|&worked_ms| meter.deleted(worked_ms, now_ms));
        }
        self.ready(queue, answers.news);
        answers.outcomes
    }

    async fn settings_of(
        connection: &mut PgConnection,
        queue: &QueueId,
        lock: bool,
    ) -> Result<Option<Settings>, Error> {
        let sql = if lock {
            "SELECT settings FROM queues WHERE region = $1 AND name = $2 FOR UPDATE"
        } else {
            "SELECT settings FROM queues WHERE region = $1 AND name = $2 FOR SHARE"
        };
        let query = sqlx::query(sql).bind(&*queue.region).bind(&*queue.name);
        let row = query.fetch_optional(connection).await?;
        row.map(|row| rows::from_json(&row, 0)).transpose().map_err(Error::from)
    }

    async fn check_redrive(
        connection: &mut PgConnection,
        queue: &QueueId,
        settings: &Settings,
    ) -> Result<(), Error> {
        let target = match &settings.redrive {
            Some(redrive) if redrive.target != *queue => {
                Self::settings_of(connection, &redrive.target, false).await?
            }
            _ => None,
        };
        settings.check_redrive(queue, target.as_ref())
    }
}

impl Queues for Postgres {
    async fn create(&self, queue: &QueueId, mut settings: Settings) -> Result<Created, Error> {
        let mut tx = self.pool.begin().await?;
        if let Some(there) = Self::settings_of(&mut tx, queue, false).await? {
            return Ok(Created::Existing(Box::new(there)));
        }
        Self::check_redrive(&mut tx, queue, &settings).await?;
        let queues = sqlx::query("SELECT count(*) FROM queues").fetch_one(&mut *tx).await?;
        if queues.try_get::<i64, _>(0)? >= limits::QUEUES_MAX as i64 {
            return Err(Error::Full { what: "the store (queues)", limit: limits::QUEUES_MAX });
        }
        let now_ms = self.here.time.now_ms();
        (settings.created_at_ms, settings.modified_at_ms) = (now_ms, now_ms);
        let insert =
            rows::put_queue(include_str!("postgres/sql/insert_queue.sql"), queue, &settings);
        let inserted = insert.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        match inserted {
            // Somebody else was faster.
            0 => Ok(Created::Existing(Box::new(self.settings(queue).await?))),
            _ => Ok(Created::New),
        }
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        settled!(
            sqlx::query("SELECT queue_remove($1, $2)")
                .bind(&*queue.region)
                .bind(&*queue.name)
                .execute(&self.pool)
        )?;
        self.here.forget(queue);
        self.telling.tell(queue, usize::MAX);
        Ok(())
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        let query = sqlx::query(
            "SELECT name, settings FROM queues WHERE region = $1 AND name > $2
             ORDER BY name LIMIT $3",
        );
        // Names are never empty, so nothing comes before all of them but nothing.
        let query = query.bind(region).bind(after.unwrap_or_default()).bind(limit as i64);
        let rows = query.fetch_all(&self.pool).await?;
        let read =
            |row: &PgRow| Ok((QueueId::new(region, row.try_get(0)?), rows::from_json(row, 1)?));
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(Error::from)
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        let query = sqlx::query("SELECT settings FROM queues WHERE region = $1 AND name = $2");
        let query = query.bind(&*queue.region).bind(&*queue.name);
        let row = query.fetch_optional(&self.pool).await?.ok_or(Error::NoSuchQueue)?;
        Ok(rows::from_json(&row, 0)?)
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let settings = Self::settings_of(&mut tx, queue, true).await?;
        let mut settings = settings.ok_or(Error::NoSuchQueue)?;
        change(&mut settings)?;
        Self::check_redrive(&mut tx, queue, &settings).await?;
        settings.modified_at_ms = self.here.time.now_ms();
        let update =
            rows::put_queue(include_str!("postgres/sql/update_queue.sql"), queue, &settings);
        update.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        let row = settled!(
            sqlx::query("SELECT * FROM queue_counts($1, $2, $3)")
                .bind(&*queue.region)
                .bind(&*queue.name)
                .bind(self.now_ms())
                .fetch_one(&self.pool)
        )?;
        let number = |at| row.try_get::<i64, _>(at).map(|it| usize::try_from(it).unwrap_or(0));
        let (messages, in_flight, delayed) = (number(0)?, number(1)?, number(2)?);
        let oldest: Option<i64> = row.try_get(3)?;
        Ok(Counts {
            ready: messages.saturating_sub(in_flight + delayed),
            in_flight,
            delayed,
            oldest_sent_at_ms: oldest.map(|it| it as u64),
        })
    }

    async fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let now_ms = self.now_ms();
        let batch = Batch::of(&messages);
        let rows = settled!(batch.send(queue, now_ms).fetch_all(&self.pool))?;
        let mut ready = 0;
        let mut sent = Vec::with_capacity(rows.len());
        for row in &rows {
            ready += usize::from(row.try_get::<bool, _>("is_ready")?);
            sent.push(rows::sent(row)?);
        }
        let line = self.here.line(queue);
        line.meter.lock().sent(sent.len());
        self.ready(queue, ready);
        if ready < sent.len() {
            line.due_at(0);
        }
        Ok(sent)
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        let wait_ms = match ask.wait_ms {
            Some(wait_ms) => wait_ms,
            None => self.settings(queue).await?.wait_ms,
        };
        let line = self.here.line(queue);
        let (look, next_due) = (|| self.look(queue, &ask), || self.next_due(queue));
        line.receive(&self.here.time, wait_ms, look, next_due).await
    }

    async fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let receipts = Receipts::of(receipts);
        let rows = settled!(receipts.delete(queue, self.now_ms()).fetch_all(&self.pool))?;
        Ok(self.answered(queue, Answers::of(&rows)?).await)
    }

    async fn change_visibility(
        &self,
        queue: &QueueId,
        changes: Vec<(Receipt, u64)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let now_ms = self.now_ms();
        let ms: Vec<i64> = changes.iter().map(|&(_, ms)| ms as i64).collect();
        let receipts = Receipts::of(changes.iter().map(|&(receipt, _)| receipt));
        let rows = settled!(receipts.hide(queue, &ms, now_ms).fetch_all(&self.pool))?;
        if let Some(&soonest_ms) = ms.iter().min() {
            self.here.line(queue).due_at((now_ms + soonest_ms) as u64);
        }
        Ok(self.answered(queue, Answers::of(&rows)?).await)
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        settled!(
            sqlx::query("SELECT queue_purge($1, $2, $3, $4)")
                .bind(&*queue.region)
                .bind(&*queue.name)
                .bind(limits::PURGE_INTERVAL_MS as i64)
                .bind(self.now_ms())
                .execute(&self.pool)
        )?;
        Ok(())
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        self.settings(queue).await?;
        let query = sqlx::query(include_str!("postgres/sql/peek.sql"))
            .bind(&*queue.region)
            .bind(&*queue.name)
            .bind(after.sent_at_ms as i64)
            .bind(after.seq.0 as i64)
            .bind(limit as i64);
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(peeked).collect::<Result<_, _>>().map_err(Error::from)
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        let line = self.here.line(from);
        let limit = limit.min(limits::TRANSFER_MAX);
        let mut transferred = Transferred::default();
        // Twice, if need be: to the last lane, and from the first on.
        for _ in 0..2 {
            let left = limit - transferred.moved - transferred.failed;
            let turn = line.turn.lock().clone();
            let row = settled!(
                sqlx::query("SELECT * FROM queue_transfer($1, $2, $3, $4, $5, $6, $7, $8)")
                    .bind(&*from.region)
                    .bind(&*from.name)
                    .bind(to.map(|to| &*to.region))
                    .bind(to.map(|to| &*to.name))
                    .bind(&turn)
                    .bind(left as i32)
                    .bind(limits::QUEUE_MESSAGES_MAX as i64)
                    .bind(self.now_ms())
                    .fetch_one(&self.pool)
            )?;
            transferred.moved += row.try_get::<i32, _>(0)? as usize;
            transferred.failed += row.try_get::<i32, _>(1)? as usize;
            *line.turn.lock() = row.try_get(2)?;
            if turn.is_empty() || transferred.moved + transferred.failed >= limit {
                break;
            }
        }
        Ok(transferred)
    }
}
