//! Postgres: for several servers over the same logs.
//!
//! Everything that is written per message (appends, acknowledgements, read marks, the published
//! mark) goes through a few committers: each takes what waited while its last commit was on its way
//! to the disk, and makes one transaction of it. So an fsync is shared by hundreds of messages, and
//! nobody waits for a timer. Servers that write to the same conversation
//! take turns at its row; that is where the sequence is allocated, which is why a reader never sees
//! a later message before an earlier one.
//!
//! Trap: a database sequence would be faster and wrong. It hands out 7 before 6 has committed, and
//! a reader whose cursor is at 7 by then never sees 6.

mod batch;
mod committer;
mod members;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Connection, PgConnection, PgPool, Row};

use crate::chat::{
    Account, Appended, Changed, Content, Device, Error, Identity, Members, Message, Moved,
    NO_CONVERSATION, NewGroup, NewMessage, Page, PageLimit, Receipt, Store, Summaries, Summary,
};
use crate::ids::{ClientId, ConversationId, DeviceId, Epoch, Seq, UserId};

use committer::{Answer, Committer, Work};

/// The tables; made on every start, and by tests as a template.
pub const SCHEMA: &str = include_str!("postgres/sql/schema.sql");

/// Connections of one server. Postgres does its best work with a few per core; more callers wait
/// here, where it costs nothing.
const CONNECTIONS_MAX: u32 = 12;
/// How long a caller waits for a connection before it is told that the store is down.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Times a transaction is tried again when another one was faster.
const ATTEMPTS_MAX: u32 = 5;
/// Any number, the same in every server: they take turns at the schema.
const SCHEMA_LOCK: i64 = 0x6368_6174;
/// A statement that takes longer has lost its index or its disk; a transaction that idles longer
/// belongs to a server that hangs, and would keep a conversation locked for ever.
const LIMITS: [(&str, &str); 5] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // Every statement here is a range of an index, read in its order. Trap: a plan that was made
    // while a table was small reads the whole of it, or all of a conversation to sort its newest
    // hundred (40 ms instead of 0.2 for one of 100,000), and still does so when it has grown.
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable { what: "use Postgres", source: Some(Box::new(error)) }
    }
}

/// A store in a Postgres database.
pub struct Postgres {
    identity: Identity,
    pool: PgPool,
    committer: Committer,
}

impl Postgres {
    /// Connects, and makes the tables when they are not there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the server does not answer or the URL is wrong.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)?.options(LIMITS);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_TIME_MAX)
            .connect_with(options)
            .await?;
        let mut tx = pool.begin().await?;
        // Trap: CREATE IF NOT EXISTS is no protection between two transactions at once.
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK).execute(&mut *tx).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
        let identity = identity(&mut tx).await?;
        tx.commit().await?;
        let committer = Committer::start(&pool);
        Ok(Self { identity, pool, committer })
    }

    /// Runs `work` in a transaction, again when another one was faster. A COMMIT of unknown fate is
    /// not repeated: the caller is told, and asks again under the same names.
    async fn transact<T>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let done = async {
                let mut connection = self.pool.acquire().await?;
                let mut tx = connection.begin().await?;
                let done = work(&mut tx).await?;
                tx.commit().await?;
                Ok(done)
            };
            match done.await {
                Err(error) if attempt < ATTEMPTS_MAX && may_be_repeated(&error) => attempt += 1,
                done => return done,
            }
        }
    }
}

/// A deadlock, a serialization failure, or somebody else's row of the same key: nothing happened,
/// and the same transaction finds another state now.
fn may_be_repeated(error: &Error) -> bool {
    let Error::Unavailable { source: Some(source), .. } = error else { return false };
    let database = source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    let code = database.and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "40P01" | "40001" | "23505"))
}

async fn identity(tx: &mut PgConnection) -> Result<Identity, Error> {
    let fresh = Identity::fresh();
    let make = "INSERT INTO identity (epoch, token_key) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let make = sqlx::query(make).bind(fresh.epoch.0 as i64).bind(&fresh.token_key[..]);
    make.execute(&mut *tx).await?;
    let row = sqlx::query("SELECT epoch, token_key FROM identity").fetch_one(tx).await?;
    let key: Vec<u8> = row.try_get(1)?;
    let token_key = key.try_into().map_err(|_| corrupt("the token key is not of 32 bytes"))?;
    Ok(Identity { epoch: Epoch(number(&row, 0)?), token_key })
}

fn corrupt(what: &'static str) -> Error {
    Error::Unavailable { what, source: None }
}

/// Counts are stored as signed integers; none of ours reaches the sign.
fn number(row: &PgRow, column: usize) -> Result<u64, Error> {
    Ok(row.try_get::<i64, _>(column)?.max(0) as u64)
}

fn seq_of(row: &PgRow, column: usize) -> Result<Seq, Error> {
    number(row, column).map(Seq)
}

/// A place as the database has it; beyond its range is beyond every log.
fn place(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

fn uuid_of(row: &PgRow, column: usize) -> Result<uuid::Uuid, Error> {
    let bytes: &[u8] = row.try_get(column)?;
    uuid::Uuid::from_slice(bytes).map_err(|_| corrupt("an id is not of 16 bytes"))
}

fn id_of(row: &PgRow, column: usize) -> Result<ConversationId, Error> {
    uuid_of(row, column).map(ConversationId)
}

fn user_of(row: &PgRow, column: usize) -> Result<UserId, Error> {
    UserId::new(row.try_get(column)?).map_err(|_| corrupt("a stored name is none"))
}

fn text_of(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| corrupt("a stored text is none"))
}

fn blob(id: &ConversationId) -> &[u8] {
    &id.0.as_bytes()[..]
}

/// Columns from `first`: seq, sender, client_id, at_ms, kind, text. `None` where they are NULL.
fn message_of(
    conversation: ConversationId,
    row: &PgRow,
    first: usize,
) -> Result<Option<Arc<Message>>, Error> {
    let Some(seq) = row.try_get::<Option<i64>, _>(first)? else { return Ok(None) };
    let text = text_of(row.try_get(first + 5)?)?;
    let user = || UserId::new(text).map_err(|_| corrupt("a stored name is none"));
    let content = match row.try_get::<i16, _>(first + 4)? {
        1 => Content::Joined(user()?),
        2 => Content::Left(user()?),
        _ => Content::Text(Arc::from(text)),
    };
    Ok(Some(Arc::new(Message {
        conversation,
        seq: Seq(seq.max(0) as u64),
        sender: user_of(row, first + 1)?,
        client_id: ClientId(uuid_of(row, first + 2)?),
        at_ms: number(row, first + 3)?,
        content,
    })))
}

/// The rows that fit, and whether there are more. The query asks for one row too many.
fn page(conversation: ConversationId, rows: &[PgRow], limit: PageLimit) -> Result<Page, Error> {
    if rows.is_empty() {
        return Err(NO_CONVERSATION); // not even the member's own row
    }
    Page::fill(limit, rows.iter().map_while(|row| message_of(conversation, row, 0).transpose()))
}

fn summary(row: &PgRow) -> Result<Summary, Error> {
    let conversation = id_of(row, 0)?;
    let title: Option<&[u8]> = row.try_get(1)?;
    let with: Option<&str> = row.try_get(7)?;
    Ok(Summary {
        conversation,
        title: title.map(|title| text_of(title).map(str::to_owned)).transpose()?,
        with: with.map(|_| user_of(row, 7)).transpose()?,
        members: number(row, 2)?,
        last_seq: seq_of(row, 3)?,
        read_seq: seq_of(row, 4)?,
        unread: number(row, 5)?,
        delivered_seq: seq_of(row, 6)?,
        newest: message_of(conversation, row, 8)?,
    })
}

impl Store for Postgres {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn create_account(&self, account: Account) -> Result<(), Error> {
        let sql =
            "INSERT INTO accounts (name, password_hash) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let insert = sqlx::query(sql).bind(account.user.as_str()).bind(&account.password_hash);
        match insert.execute(&self.pool).await?.rows_affected() {
            0 => Err(Error::Conflict { field: "user", reason: "is taken" }),
            _ => Ok(()),
        }
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, Error> {
        let find = sqlx::query_scalar("SELECT password_hash FROM accounts WHERE name = $1");
        let hash: Option<String> = find.bind(user.as_str()).fetch_optional(&self.pool).await?;
        Ok(hash.map(|password_hash| Account { user, password_hash }))
    }

    async fn put_device(&self, user: UserId, device: DeviceId, now_ms: u64) -> Result<(), Error> {
        self.transact(move |tx| {
            Box::pin(members::put_device(tx, user.clone(), device.clone(), now_ms))
        })
        .await
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        members::devices(&mut *self.pool.acquire().await?, &user).await
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<(), Error> {
        self.transact(move |tx| Box::pin(members::remove_device(tx, user.clone(), device.clone())))
            .await
    }

    async fn open_direct(&self, by: UserId, with: UserId) -> Result<Changed, Error> {
        self.transact(move |tx| Box::pin(members::open_direct(tx, by.clone(), with.clone()))).await
    }

    async fn create_group(&self, group: NewGroup) -> Result<Changed, Error> {
        group.check()?;
        self.transact(move |tx| Box::pin(members::create_group(tx, group.clone()))).await
    }

    async fn add_members(
        &self,
        by: UserId,
        conversation: ConversationId,
        users: Vec<UserId>,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        crate::chat::check_named(&users)?;
        self.transact(move |tx| {
            Box::pin(members::add(tx, by.clone(), conversation, users.clone(), now_ms))
        })
        .await
    }

    async fn remove_member(
        &self,
        by: UserId,
        conversation: ConversationId,
        member: UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        self.transact(move |tx| {
            Box::pin(members::remove(tx, by.clone(), conversation, member.clone(), now_ms))
        })
        .await
    }

    async fn members(&self, conversation: ConversationId) -> Result<Members, Error> {
        let list = sqlx::query(include_str!("postgres/sql/members.sql")).bind(blob(&conversation));
        let rows = list.fetch_all(&self.pool).await?;
        let version = rows.first().map_or(Ok(0), |row| number(row, 0))?;
        let is_member = |row: &&PgRow| row.try_get::<Option<&str>, _>(1).is_ok_and(|m| m.is_some());
        let users = rows.iter().filter(is_member).map(|row| user_of(row, 1));
        Ok(Members { version, users: users.collect::<Result<Vec<_>, _>>()?.into() })
    }

    async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Appended, Error>> {
        let count = messages.len();
        match self.committer.commit(Work::Append(messages)).await {
            Some(Answer::Appended(appended)) => appended,
            _ => failed(count, "append"),
        }
    }

    async fn since(
        &self,
        reader: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let since = sqlx::query(include_str!("postgres/sql/since.sql"));
        let since = since.bind(blob(&conversation)).bind(reader.as_str()).bind(place(after));
        let since = since.bind(limit.messages.max(1) as i64 + 1).bind(limit.bytes as i64);
        page(conversation, &since.fetch_all(&self.pool).await?, limit)
    }

    async fn before(
        &self,
        reader: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let older = sqlx::query(include_str!("postgres/sql/before.sql"));
        let end = before.map_or(i64::MAX, place);
        let older = older.bind(blob(&conversation)).bind(reader.as_str()).bind(end);
        let older = older.bind(limit.messages.max(1) as i64 + 1).bind(limit.bytes as i64);
        let mut page = page(conversation, &older.fetch_all(&self.pool).await?, limit)?;
        page.messages.reverse();
        Ok(page)
    }

    async fn acknowledge(
        &self,
        user: UserId,
        device: DeviceId,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> Vec<Result<Moved, Error>> {
        let count = cursors.len();
        match self.committer.commit(Work::Acknowledge { user, device, cursors }).await {
            Some(Answer::Moved(moved)) => moved,
            _ => failed(count, "acknowledge"),
        }
    }

    async fn read(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        let unavailable = || Error::Unavailable { what: "mark as read", source: None };
        match self.committer.commit(Work::Read { user, conversation, seq }).await {
            Some(Answer::Moved(mut moved)) => moved.pop().unwrap_or_else(|| Err(unavailable())),
            _ => Err(unavailable()),
        }
    }

    async fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Vec<Receipt>, Error> {
        let list = sqlx::query(include_str!("postgres/sql/receipts.sql"));
        let list = list.bind(blob(&conversation)).bind(user.as_str());
        let rows = list.fetch_all(&self.pool).await?;
        if rows.is_empty() {
            return Err(NO_CONVERSATION);
        }
        let receipt = |row: &PgRow| {
            let (user, delivered) = (user_of(row, 0)?, seq_of(row, 1)?);
            Ok(Receipt { conversation, user, delivered, read: seq_of(row, 2)? })
        };
        rows.iter().map(receipt).collect()
    }

    async fn summaries(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Summaries, Error> {
        let list = sqlx::query(include_str!("postgres/sql/summaries.sql"));
        let after = after.as_ref().map_or(&[][..], blob); // before every id
        let list = list.bind(user.as_str()).bind(device.as_str()).bind(after);
        let rows = list.bind(limit as i64 + 1).fetch_all(&self.pool).await?;
        let items = rows.iter().take(limit).map(summary).collect::<Result<_, _>>()?;
        Ok(Summaries { items, has_more: rows.len() > limit })
    }

    async fn published(&self, cursors: Vec<(ConversationId, Seq)>) -> Result<(), Error> {
        let mut lines: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for (id, seq) in cursors {
            lines.entry(committer::line_of(id)).or_default().push((id, seq));
        }
        let noting = lines.into_values().map(|some| self.committer.commit(Work::Published(some)));
        match futures::future::join_all(noting).await.iter().all(Option::is_some) {
            true => Ok(()),
            false => Err(Error::Unavailable { what: "note what was published", source: None }),
        }
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<Changed>, Error> {
        let list = sqlx::query(include_str!("postgres/sql/unpublished.sql")).bind(limit as i64);
        let rows = list.fetch_all(&self.pool).await?;
        let changed = |row: &PgRow| {
            let (conversation, last_seq) = (id_of(row, 0)?, seq_of(row, 1)?);
            let members_version = number(row, 2)?;
            Ok(Changed { conversation, changed: true, last_seq, members_version })
        };
        rows.iter().map(changed).collect()
    }

    async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}

fn failed<T>(count: usize, what: &'static str) -> Vec<Result<T, Error>> {
    (0..count).map(|_| Err(Error::Unavailable { what, source: None })).collect()
}
