//! SQLite: the durable answer that needs no server.
//!
//! One writer thread takes everything that queued while the last fsync ran and commits it as one
//! transaction ([`group_commit`]); that is what makes "sent means durable" affordable. Reads run on
//! connections of their own, in snapshots, and wait for nobody.
//!
//! The statements state the rules of the pure core once more, in SQL; the conformance suite holds
//! the two to each other.

mod members;

use std::path::Path;
use std::sync::Arc;

use group_commit::rusqlite::{Connection, OptionalExtension, Row, params};
use group_commit::{Location, Options, Writer};

use crate::chat::{
    Account, Appended, CLIENT_ID_REUSED, Changed, Content, DEVICES_PER_USER_MAX, Device, Error,
    Identity, Members, Message, Moved, NO_CONVERSATION, NewGroup, NewMessage, Page, PageLimit,
    Receipt, Store, Summaries, Summary, beyond_the_log,
};
use crate::ids::{ClientId, ConversationId, DeviceId, Epoch, Seq, UserId};

const SCHEMA: &str = include_str!("sqlite/schema.sql");

impl From<group_commit::Error> for Error {
    fn from(error: group_commit::Error) -> Self {
        Self::Unavailable { what: "use the SQLite file", source: Some(Box::new(error)) }
    }
}

impl From<group_commit::rusqlite::Error> for Error {
    fn from(error: group_commit::rusqlite::Error) -> Self {
        group_commit::Error::from(error).into()
    }
}

/// A store in a SQLite file.
pub struct Sqlite {
    identity: Identity,
    writer: Writer,
}

impl Sqlite {
    /// Opens the file, creating it with a fresh identity when there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let options = Options { name: "chat", ..Options::default() };
        let writer = Writer::open(Location::File(path.to_owned()), SCHEMA, options)?;
        let fresh = Identity::fresh();
        let identity = writer.call(move |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO identity VALUES (1, ?1, ?2)",
                params![fresh.epoch.0 as i64, &fresh.token_key[..]],
            )?;
            Ok::<_, Error>(tx.query_row("SELECT epoch, token_key FROM identity", [], |row| {
                Ok(Identity { epoch: Epoch(unsigned(row, 0)?), token_key: row.get(1)? })
            })?)
        });
        Ok(Self { identity: identity.await?, writer })
    }

    /// Finishes what is queued and closes the file.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

fn id_of(row: &Row<'_>, column: usize) -> group_commit::rusqlite::Result<ConversationId> {
    row.get::<_, [u8; 16]>(column).map(|bytes| ConversationId(uuid::Uuid::from_bytes(bytes)))
}

/// Counts are stored as SQLite's signed integers; none of ours reaches the sign.
fn unsigned(row: &Row<'_>, column: usize) -> group_commit::rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| value.max(0) as u64)
}

fn seq_of(row: &Row<'_>, column: usize) -> group_commit::rusqlite::Result<Seq> {
    unsigned(row, column).map(Seq)
}

fn blob(id: &ConversationId) -> &[u8] {
    &id.0.as_bytes()[..]
}

/// A name that was checked when it was stored.
fn user_of(row: &Row<'_>, column: usize) -> group_commit::rusqlite::Result<UserId> {
    let name: String = row.get(column)?;
    UserId::new(&name).map_err(|error| {
        use group_commit::rusqlite::{Error, types::Type};
        Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// Columns: seq, sender, client_id, at_ms, kind, text.
fn message_of(
    conversation: ConversationId,
    row: &Row<'_>,
) -> group_commit::rusqlite::Result<Arc<Message>> {
    let content = match row.get::<_, i64>(4)? {
        1 => Content::Joined(user_of(row, 5)?),
        2 => Content::Left(user_of(row, 5)?),
        _ => Content::Text(Arc::from(row.get_ref(5)?.as_str()?)),
    };
    Ok(Arc::new(Message {
        conversation,
        seq: seq_of(row, 0)?,
        sender: user_of(row, 1)?,
        client_id: ClientId(uuid::Uuid::from_bytes(row.get(2)?)),
        at_ms: unsigned(row, 3)?,
        content,
    }))
}

/// A member, and what of the conversation is needed with it.
struct Standing {
    visible_after: Seq,
    delivered: Seq,
    read: Seq,
    sent: u64,
    sent_up_to_read: u64,
    last_own: Seq,
    last_seq: Seq,
    members_version: u64,
}

fn standing(tx: &Connection, id: &ConversationId, user: &UserId) -> Result<Standing, Error> {
    let mut find = tx.prepare_cached(include_str!("sqlite/member.sql"))?;
    let found = find.query_row(params![blob(id), user.as_str()], |row| {
        Ok(Standing {
            visible_after: seq_of(row, 0)?,
            delivered: seq_of(row, 1)?,
            read: seq_of(row, 2)?,
            sent: unsigned(row, 3)?,
            sent_up_to_read: unsigned(row, 4)?,
            last_own: seq_of(row, 5)?,
            last_seq: seq_of(row, 6)?,
            members_version: unsigned(row, 7)?,
        })
    });
    found.optional()?.ok_or(NO_CONVERSATION)
}

/// All checks come before the first write: a refused message leaves nothing to undo.
fn append(tx: &Connection, new: &NewMessage) -> Result<Appended, Error> {
    new.check()?;
    if let Some(original) = original(tx, new)? {
        return original;
    }
    let content = Content::Text(Arc::clone(&new.text));
    let place = push(tx, &new.conversation, &new.sender, new.client_id, &content, new.now_ms)?;
    let (seq, members_version) = place.ok_or(NO_CONVERSATION)?;
    Ok(Appended { seq, at_ms: new.now_ms, duplicate: false, members_version })
}

/// The place of the first attempt, if this is not the first.
fn original(tx: &Connection, new: &NewMessage) -> Result<Option<Result<Appended, Error>>, Error> {
    let mut find = tx.prepare_cached(include_str!("sqlite/find_client_id.sql"))?;
    let keys = params![new.sender.as_str(), &new.client_id.0.as_bytes()[..]];
    let found = find.query_row(keys, |row| {
        let same = row.get::<_, i64>(3)? == 0 && row.get_ref(4)?.as_str()? == &*new.text;
        Ok((id_of(row, 0)?, seq_of(row, 1)?, unsigned(row, 2)?, same))
    });
    let Some((conversation, seq, at_ms, same)) = found.optional()? else { return Ok(None) };
    if conversation != new.conversation || !same {
        return Ok(Some(Err(CLIENT_ID_REUSED)));
    }
    let version = "SELECT members_version FROM conversations WHERE id = ?1";
    let members_version =
        tx.prepare_cached(version)?.query_row([blob(&conversation)], |row| unsigned(row, 0))?;
    Ok(Some(Ok(Appended { seq, at_ms, duplicate: true, members_version })))
}

/// Takes the next sequence and writes there. `None` when the sender is no member.
fn push(
    tx: &Connection,
    id: &ConversationId,
    sender: &UserId,
    client_id: ClientId,
    content: &Content,
    at_ms: u64,
) -> Result<Option<(Seq, u64)>, Error> {
    let mut take = tx.prepare_cached(include_str!("sqlite/take_sequence.sql"))?;
    let taken = take.query_row(params![blob(id), sender.as_str()], |row| {
        Ok((seq_of(row, 0)?, unsigned(row, 1)?))
    });
    let Some((seq, members_version)) = taken.optional()? else { return Ok(None) };
    tx.prepare_cached(include_str!("sqlite/count_own.sql"))?.execute(params![
        blob(id),
        sender.as_str(),
        seq.0 as i64
    ])?;
    let (kind, text) = match content {
        Content::Text(text) => (0, &**text),
        Content::Joined(user) => (1, user.as_str()),
        Content::Left(user) => (2, user.as_str()),
    };
    tx.prepare_cached(include_str!("sqlite/insert_message.sql"))?.execute(params![
        blob(id),
        seq.0 as i64,
        sender.as_str(),
        &client_id.0.as_bytes()[..],
        at_ms as i64,
        kind,
        text
    ])?;
    Ok(Some((seq, members_version)))
}

/// Reads rows until the page is full.
fn page(
    conversation: ConversationId,
    mut rows: group_commit::rusqlite::Rows<'_>,
    limit: PageLimit,
) -> Result<Page, Error> {
    let messages = std::iter::from_fn(|| {
        let row = rows.next().transpose()?;
        Some(row.and_then(|row| message_of(conversation, row)))
    });
    Ok(Page::fill(limit, messages)?)
}

fn acknowledge(
    tx: &Connection,
    user: &UserId,
    device: &DeviceId,
    id: ConversationId,
    seq: Seq,
) -> Result<Moved, Error> {
    let before = standing(tx, &id, user)?;
    if seq > before.last_seq {
        return Err(beyond_the_log(before.last_seq));
    }
    tx.prepare_cached(include_str!("sqlite/move_device.sql"))?.execute(params![
        user.as_str(),
        device.as_str(),
        blob(&id),
        seq.0 as i64
    ])?;
    let changed = seq > before.delivered;
    if changed {
        tx.prepare_cached(include_str!("sqlite/move_delivered.sql"))?.execute(params![
            blob(&id),
            user.as_str(),
            seq.0 as i64
        ])?;
    }
    let (delivered, read) = (seq.max(before.delivered), before.read);
    let receipt = Receipt { conversation: id, user: user.clone(), delivered, read };
    Ok(Moved { receipt, changed, members_version: before.members_version })
}

fn read(tx: &Connection, user: &UserId, id: ConversationId, seq: Seq) -> Result<Moved, Error> {
    let before = standing(tx, &id, user)?;
    if seq > before.last_seq {
        return Err(beyond_the_log(before.last_seq));
    }
    let changed = seq > before.read;
    if changed {
        let own = match seq >= before.last_own {
            true => before.sent,
            false => before.sent_up_to_read + own_between(tx, user, &id, &before, seq)?,
        };
        tx.prepare_cached(include_str!("sqlite/move_read.sql"))?.execute(params![
            blob(&id),
            user.as_str(),
            seq.0 as i64,
            own as i64
        ])?;
    }
    let (read, delivered) = (seq.max(before.read), before.delivered.max(seq.max(before.read)));
    let receipt = Receipt { conversation: id, user: user.clone(), delivered, read };
    Ok(Moved { receipt, changed, members_version: before.members_version })
}

fn own_between(
    tx: &Connection,
    user: &UserId,
    id: &ConversationId,
    before: &Standing,
    to: Seq,
) -> Result<u64, Error> {
    let from = before.read.max(before.visible_after);
    let mut count = tx.prepare_cached(include_str!("sqlite/own_between.sql"))?;
    let keys = params![blob(id), from.0 as i64, to.0 as i64, user.as_str()];
    Ok(count.query_row(keys, |row| unsigned(row, 0))?)
}

fn summaries(
    conn: &Connection,
    user: &UserId,
    device: &DeviceId,
    after: Option<ConversationId>,
    limit: usize,
) -> Result<Summaries, Error> {
    let after = after.as_ref().map_or(&[][..], blob); // before every id
    let mut list = conn.prepare_cached(include_str!("sqlite/summaries.sql"))?;
    let keys = params![user.as_str(), device.as_str(), after, limit as i64 + 1];
    let rows = list.query_map(keys, |row| {
        let summary = Summary {
            conversation: id_of(row, 0)?,
            title: row.get(1)?,
            with: None,
            members: unsigned(row, 3)?,
            last_seq: seq_of(row, 4)?,
            read_seq: seq_of(row, 5)?,
            unread: unsigned(row, 6)?,
            delivered_seq: seq_of(row, 7)?,
            newest: None,
        };
        Ok((summary, row.get::<_, bool>(2)?, seq_of(row, 8)?))
    })?;
    let mut items = Vec::new();
    for row in rows {
        let (mut summary, is_direct, visible_after) = row?;
        if items.len() == limit {
            return Ok(Summaries { items, has_more: true });
        }
        if is_direct {
            let mut other = conn.prepare_cached(include_str!("sqlite/other_member.sql"))?;
            let keys = params![blob(&summary.conversation), user.as_str()];
            summary.with = other.query_row(keys, |row| user_of(row, 0)).optional()?;
        }
        if summary.last_seq > visible_after {
            let id = summary.conversation;
            let mut newest = conn.prepare_cached(include_str!("sqlite/since.sql"))?;
            let keys = params![blob(&id), summary.last_seq.0 as i64 - 1, 1];
            summary.newest = newest.query_row(keys, |row| message_of(id, row)).optional()?;
        }
        items.push(summary);
    }
    Ok(Summaries { items, has_more: false })
}

impl Store for Sqlite {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn create_account(&self, account: Account) -> Result<(), Error> {
        let inserted = self.writer.call(move |tx| {
            let sql = "INSERT OR IGNORE INTO accounts (user, password_hash) VALUES (?1, ?2)";
            let keys = params![account.user.as_str(), account.password_hash];
            Ok::<_, Error>(tx.prepare_cached(sql)?.execute(keys)?)
        });
        match inserted.await? {
            0 => Err(Error::Conflict { field: "user", reason: "is taken" }),
            _ => Ok(()),
        }
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, Error> {
        let found = self.writer.read(move |conn| {
            let sql = "SELECT password_hash FROM accounts WHERE user = ?1";
            let mut find = conn.prepare_cached(sql)?;
            let hash = find.query_row([user.as_str()], |row| row.get(0)).optional()?;
            Ok::<_, Error>(hash.map(|password_hash| Account { user, password_hash }))
        });
        found.await
    }

    async fn put_device(&self, user: UserId, device: DeviceId, now_ms: u64) -> Result<(), Error> {
        self.writer.call(move |tx| members::put_device(tx, &user, &device, now_ms)).await
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        self.writer.read(move |conn| members::devices(conn, &user)).await
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<(), Error> {
        self.writer.call(move |tx| members::remove_device(tx, &user, &device)).await
    }

    async fn open_direct(&self, by: UserId, with: UserId) -> Result<Changed, Error> {
        self.writer.call(move |tx| members::open_direct(tx, by, with)).await
    }

    async fn create_group(&self, group: NewGroup) -> Result<Changed, Error> {
        self.writer.call(move |tx| members::create_group(tx, &group)).await
    }

    async fn add_members(
        &self,
        by: UserId,
        conversation: ConversationId,
        members: Vec<UserId>,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let adding = move |tx: &Connection| members::add(tx, &by, conversation, &members, now_ms);
        self.writer.call(adding).await
    }

    async fn remove_member(
        &self,
        by: UserId,
        conversation: ConversationId,
        member: UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let removing =
            move |tx: &Connection| members::remove(tx, &by, conversation, &member, now_ms);
        self.writer.call(removing).await
    }

    async fn members(&self, conversation: ConversationId) -> Result<Members, Error> {
        self.writer.read(move |conn| members::list(conn, conversation)).await
    }

    async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Appended, Error>> {
        let count = messages.len();
        let appended = self.writer.call(move |tx| {
            let one = |new: &NewMessage| match append(tx, new) {
                // A failing statement fails the batch, which is then rolled back as a whole.
                Err(error @ Error::Unavailable { .. }) => Err(error),
                result => Ok(result),
            };
            messages.iter().map(one).collect::<Result<Vec<_>, Error>>()
        });
        appended.await.unwrap_or_else(|error| {
            tracing::warn!(?error, "a batch was not appended");
            let failed = || Err(Error::Unavailable { what: "append", source: None });
            (0..count).map(|_| failed()).collect()
        })
    }

    async fn since(
        &self,
        reader: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let reading = self.writer.read(move |conn| {
            let after = after.max(standing(conn, &conversation, &reader)?.visible_after);
            let mut since = conn.prepare_cached(include_str!("sqlite/since.sql"))?;
            let after = i64::try_from(after.0).unwrap_or(i64::MAX);
            let keys = params![blob(&conversation), after, limit.messages.max(1) as i64 + 1];
            page(conversation, since.query(keys)?, limit)
        });
        reading.await
    }

    async fn before(
        &self,
        reader: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let reading = self.writer.read(move |conn| {
            let first = standing(conn, &conversation, &reader)?.visible_after;
            let end = before.map_or(i64::MAX, |seq| i64::try_from(seq.0).unwrap_or(i64::MAX));
            let mut older = conn.prepare_cached(include_str!("sqlite/before.sql"))?;
            let count = limit.messages.max(1) as i64 + 1;
            let keys = params![blob(&conversation), first.0 as i64, end, count];
            let mut page = page(conversation, older.query(keys)?, limit)?;
            page.messages.reverse();
            Ok(page)
        });
        reading.await
    }

    async fn acknowledge(
        &self,
        user: UserId,
        device: DeviceId,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> Vec<Result<Moved, Error>> {
        let count = cursors.len();
        let moved = self.writer.call(move |tx| {
            let one = |(id, seq)| match acknowledge(tx, &user, &device, id, seq) {
                Err(error @ Error::Unavailable { .. }) => Err(error),
                result => Ok(result),
            };
            cursors.into_iter().map(one).collect::<Result<Vec<_>, Error>>()
        });
        moved.await.unwrap_or_else(|error| {
            tracing::warn!(?error, "acknowledgements were not stored");
            let failed = || Err(Error::Unavailable { what: "acknowledge", source: None });
            (0..count).map(|_| failed()).collect()
        })
    }

    async fn read(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        self.writer.call(move |tx| read(tx, &user, conversation, seq)).await
    }

    async fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Vec<Receipt>, Error> {
        let reading = self.writer.read(move |conn| {
            standing(conn, &conversation, &user)?;
            let mut list = conn.prepare_cached(include_str!("sqlite/receipts.sql"))?;
            let rows = list.query_map([blob(&conversation)], |row| {
                let (user, delivered) = (user_of(row, 0)?, seq_of(row, 1)?);
                Ok(Receipt { conversation, user, delivered, read: seq_of(row, 2)? })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        reading.await
    }

    async fn summaries(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Summaries, Error> {
        self.writer.read(move |conn| summaries(conn, &user, &device, after, limit)).await
    }

    async fn published(&self, cursors: Vec<(ConversationId, Seq)>) -> Result<(), Error> {
        let noting = self.writer.call(move |tx| {
            let mut publish = tx.prepare_cached(include_str!("sqlite/publish.sql"))?;
            for (id, seq) in cursors {
                publish.execute(params![blob(&id), seq.0 as i64])?;
            }
            Ok(())
        });
        noting.await
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<Changed>, Error> {
        let reading = self.writer.read(move |conn| {
            let mut list = conn.prepare_cached(include_str!("sqlite/unpublished.sql"))?;
            let rows = list.query_map([limit as i64], |row| {
                let (conversation, last_seq) = (id_of(row, 0)?, seq_of(row, 1)?);
                let members_version = unsigned(row, 2)?;
                Ok(Changed { conversation, changed: true, last_seq, members_version })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        reading.await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.writer.read(|conn| Ok(conn.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}
