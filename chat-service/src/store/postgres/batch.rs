//! The verdicts of a batch: what is there is looked up once for all, each piece of work is judged
//! against it in the order in which it came, as the pure core would, and what changed is written
//! once for all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::{PgConnection, Row};

use super::committer::{Answer, Work};
use super::{blob, id_of, number, place, seq_of, text_of, user_of, uuid_of};
use crate::chat::{
    Appended, CLIENT_ID_REUSED, Error, Moved, NO_CONVERSATION, NewMessage, Receipt, beyond_the_log,
};
use crate::ids::{ClientId, ConversationId, DeviceId, Seq, UserId};

type Member = (ConversationId, UserId);

/// The end of a log whose row this transaction has locked.
#[derive(Clone, Copy, Debug)]
struct Log {
    last_seq: Seq,
    members_version: u64,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    delivered: Seq,
    read: Seq,
}

/// The first message under a client id.
#[derive(Clone, Debug)]
struct Original {
    conversation: ConversationId,
    seq: Seq,
    at_ms: u64,
    /// `None` for an entry that is no text.
    text: Option<Arc<str>>,
}

/// What the batch needs to know, kept up to date as it is judged.
pub(super) struct Seen {
    logs: HashMap<ConversationId, Log>,
    members: HashMap<Member, Standing>,
    originals: HashMap<(UserId, ClientId), Original>,
    pub(super) changes: Changes,
}

impl Seen {
    /// Locks the conversations first; what is read after that stands until the commit.
    pub(super) async fn look(tx: &mut PgConnection, work: &[Work]) -> Result<Self, Error> {
        let mut wanted = BTreeSet::new();
        let mut members = BTreeSet::new();
        let mut sends = Vec::new();
        for work in work {
            match work {
                Work::Append(messages) => {
                    sends.extend(messages);
                    members.extend(messages.iter().map(|new| (new.conversation, &new.sender)));
                }
                Work::Acknowledge { user, cursors, .. } => {
                    members.extend(cursors.iter().map(|(id, _)| (*id, user)));
                }
                Work::Read { user, conversation, .. } => {
                    members.insert((*conversation, user));
                }
                Work::Published(cursors) => wanted.extend(cursors.iter().map(|(id, _)| *id)),
            }
        }
        wanted.extend(members.iter().map(|(id, _)| *id));
        let logs = lock(tx, &wanted).await?;
        let (members, originals) = look_up(tx, &members, &sends).await?;
        Ok(Self { logs, members, originals, changes: Changes::default() })
    }

    fn append(&mut self, new: &NewMessage) -> Result<Appended, Error> {
        new.check()?;
        let key = (new.sender.clone(), new.client_id);
        if let Some(original) = self.originals.get(&key) {
            let same = original.text.as_ref().is_some_and(|text| **text == *new.text);
            if original.conversation != new.conversation || !same {
                return Err(CLIENT_ID_REUSED);
            }
            let (seq, at_ms) = (original.seq, original.at_ms);
            let members_version =
                self.logs.get(&new.conversation).ok_or(NO_CONVERSATION)?.members_version;
            return Ok(Appended { seq, at_ms, duplicate: true, members_version });
        }
        if !self.members.contains_key(&(new.conversation, new.sender.clone())) {
            return Err(NO_CONVERSATION);
        }
        let log = self.logs.get_mut(&new.conversation).ok_or(NO_CONVERSATION)?;
        log.last_seq = log.last_seq.next();
        let (seq, at_ms, conversation) = (log.last_seq, new.now_ms, new.conversation);
        let appended =
            Appended { seq, at_ms, duplicate: false, members_version: log.members_version };
        let text = Some(Arc::clone(&new.text));
        self.originals.insert(key, Original { conversation, seq, at_ms, text });
        self.changes.append(new, seq);
        Ok(appended)
    }

    fn standing(&mut self, id: ConversationId, user: &UserId) -> Result<(Log, Standing), Error> {
        let standing = self.members.get(&(id, user.clone())).ok_or(NO_CONVERSATION)?;
        Ok((*self.logs.get(&id).ok_or(NO_CONVERSATION)?, *standing))
    }

    fn acknowledge(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        id: ConversationId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        let (log, before) = self.standing(id, user)?;
        if seq > log.last_seq {
            return Err(beyond_the_log(log.last_seq));
        }
        highest(&mut self.changes.devices, (user.clone(), device.clone(), id), seq);
        let now = Standing { delivered: seq.max(before.delivered), ..before };
        highest(&mut self.changes.delivered, (id, user.clone()), now.delivered);
        Ok(self.moved(id, user, log, before, now))
    }

    fn read(&mut self, user: &UserId, id: ConversationId, seq: Seq) -> Result<Moved, Error> {
        let (log, before) = self.standing(id, user)?;
        if seq > log.last_seq {
            return Err(beyond_the_log(log.last_seq));
        }
        let read = seq.max(before.read);
        let now = Standing { delivered: before.delivered.max(read), read };
        if read > before.read {
            highest(&mut self.changes.read, (id, user.clone()), read);
        }
        Ok(self.moved(id, user, log, before, now))
    }

    fn moved(
        &mut self,
        conversation: ConversationId,
        user: &UserId,
        log: Log,
        before: Standing,
        now: Standing,
    ) -> Moved {
        self.members.insert((conversation, user.clone()), now);
        let (delivered, read) = (now.delivered, now.read);
        let receipt = Receipt { conversation, user: user.clone(), delivered, read };
        let changed = now.delivered > before.delivered || now.read > before.read;
        Moved { receipt, changed, members_version: log.members_version }
    }
}

/// Judges one piece of work after all before it.
pub(super) fn judge(seen: &mut Seen, work: &Work) -> Answer {
    match work {
        Work::Append(messages) => {
            Answer::Appended(messages.iter().map(|new| seen.append(new)).collect())
        }
        Work::Acknowledge { user, device, cursors } => {
            let acknowledged =
                cursors.iter().map(|(id, seq)| seen.acknowledge(user, device, *id, *seq));
            Answer::Moved(acknowledged.collect())
        }
        Work::Read { user, conversation, seq } => {
            Answer::Moved(vec![seen.read(user, *conversation, *seq)])
        }
        Work::Published(cursors) => {
            for (id, seq) in cursors {
                highest(&mut seen.changes.published, *id, *seq);
            }
            Answer::Noted
        }
    }
}

fn highest<K: Ord>(of: &mut BTreeMap<K, Seq>, key: K, seq: Seq) {
    let kept = of.entry(key).or_default();
    *kept = seq.max(*kept);
}

async fn lock(
    tx: &mut PgConnection,
    wanted: &BTreeSet<ConversationId>,
) -> Result<HashMap<ConversationId, Log>, Error> {
    let ids: Vec<&[u8]> = wanted.iter().map(blob).collect();
    let lock = sqlx::query(include_str!("sql/lock.sql")).bind(ids);
    let mut logs = HashMap::with_capacity(wanted.len());
    for row in lock.fetch_all(tx).await? {
        let log = Log { last_seq: seq_of(&row, 1)?, members_version: number(&row, 2)? };
        logs.insert(id_of(&row, 0)?, log);
    }
    Ok(logs)
}

type Members = HashMap<Member, Standing>;
type Originals = HashMap<(UserId, ClientId), Original>;

/// How members stand, and what was sent before: one question, as each is a way there and back.
async fn look_up(
    tx: &mut PgConnection,
    of: &BTreeSet<(ConversationId, &UserId)>,
    sends: &[&NewMessage],
) -> Result<(Members, Originals), Error> {
    let (mut members, mut originals) = (HashMap::with_capacity(of.len()), HashMap::new());
    if of.is_empty() {
        return Ok((members, originals)); // whoever sends is a member to be looked up
    }
    let look = sqlx::query(include_str!("sql/look.sql"))
        .bind(of.iter().map(|(id, _)| blob(id)).collect::<Vec<_>>())
        .bind(of.iter().map(|(_, user)| user.as_str()).collect::<Vec<_>>())
        .bind(sends.iter().map(|new| new.sender.as_str()).collect::<Vec<_>>())
        .bind(sends.iter().map(|new| &new.client_id.0.as_bytes()[..]).collect::<Vec<_>>());
    for row in look.fetch_all(tx).await? {
        let (conversation, user) = (id_of(&row, 0)?, user_of(&row, 1)?);
        let Some(kind) = row.try_get::<Option<i16>, _>(5)? else {
            let standing = Standing { delivered: seq_of(&row, 2)?, read: seq_of(&row, 3)? };
            members.insert((conversation, user), standing);
            continue;
        };
        let (seq, at_ms, text) = (seq_of(&row, 2)?, number(&row, 3)?, text_of(row.try_get(6)?)?);
        let text = (kind == 0).then(|| Arc::from(text));
        let original = Original { conversation, seq, at_ms, text };
        originals.insert((user, ClientId(uuid_of(&row, 4)?)), original);
    }
    Ok((members, originals))
}

/// What a batch changes, in the order of the keys: every transaction writes in the same order.
#[derive(Default)]
pub(super) struct Changes {
    messages: Vec<(NewMessage, Seq)>,
    logs: BTreeMap<ConversationId, Seq>,
    /// How many messages of the batch are whose, and the last one.
    senders: BTreeMap<Member, (u64, Seq)>,
    devices: BTreeMap<(UserId, DeviceId, ConversationId), Seq>,
    delivered: BTreeMap<Member, Seq>,
    read: BTreeMap<Member, Seq>,
    published: BTreeMap<ConversationId, Seq>,
}

impl Changes {
    fn append(&mut self, new: &NewMessage, seq: Seq) {
        self.logs.insert(new.conversation, seq);
        let own = self.senders.entry((new.conversation, new.sender.clone())).or_default();
        *own = (own.0 + 1, seq);
        self.messages.push((new.clone(), seq));
    }

    pub(super) async fn write(&self, tx: &mut PgConnection) -> Result<(), Error> {
        if !self.messages.is_empty() {
            self.write_messages(tx).await?;
        }
        if !self.devices.is_empty() {
            self.write_acknowledged(tx).await?;
        }
        if !self.read.is_empty() {
            let (ids, users, seqs) = columns(&self.read);
            let read = sqlx::query(include_str!("sql/read.sql"));
            read.bind(ids).bind(users).bind(seqs).execute(&mut *tx).await?;
        }
        if !self.published.is_empty() {
            let ids: Vec<&[u8]> = self.published.keys().map(blob).collect();
            let seqs: Vec<i64> = self.published.values().map(|seq| place(*seq)).collect();
            let publish = sqlx::query(include_str!("sql/published.sql"));
            publish.bind(ids).bind(seqs).execute(tx).await?;
        }
        Ok(())
    }

    async fn write_messages(&self, tx: &mut PgConnection) -> Result<(), Error> {
        let new = || self.messages.iter().map(|(new, _)| new);
        let append = sqlx::query(include_str!("sql/append.sql"))
            .bind(new().map(|new| blob(&new.conversation)).collect::<Vec<_>>())
            .bind(self.messages.iter().map(|(_, seq)| place(*seq)).collect::<Vec<_>>())
            .bind(new().map(|new| new.sender.as_str()).collect::<Vec<_>>())
            .bind(new().map(|new| &new.client_id.0.as_bytes()[..]).collect::<Vec<_>>())
            .bind(new().map(|new| new.now_ms as i64).collect::<Vec<_>>())
            .bind(vec![0_i16; self.messages.len()])
            .bind(new().map(|new| new.text.as_bytes()).collect::<Vec<_>>())
            .bind(self.senders.keys().map(|(id, _)| blob(id)).collect::<Vec<_>>())
            .bind(self.senders.keys().map(|(_, user)| user.as_str()).collect::<Vec<_>>())
            .bind(self.senders.values().map(|(sent, _)| *sent as i64).collect::<Vec<_>>())
            .bind(self.senders.values().map(|(_, last)| place(*last)).collect::<Vec<_>>())
            .bind(self.logs.keys().map(blob).collect::<Vec<_>>())
            .bind(self.logs.values().map(|seq| place(*seq)).collect::<Vec<_>>());
        append.execute(tx).await?;
        Ok(())
    }

    async fn write_acknowledged(&self, tx: &mut PgConnection) -> Result<(), Error> {
        let (ids, users, seqs) = columns(&self.delivered);
        let keys = || self.devices.keys();
        let acknowledge = sqlx::query(include_str!("sql/acknowledge.sql"))
            .bind(keys().map(|(user, _, _)| user.as_str()).collect::<Vec<_>>())
            .bind(keys().map(|(_, device, _)| device.as_str()).collect::<Vec<_>>())
            .bind(keys().map(|(_, _, id)| blob(id)).collect::<Vec<_>>())
            .bind(self.devices.values().map(|seq| place(*seq)).collect::<Vec<_>>())
            .bind(ids)
            .bind(users)
            .bind(seqs);
        acknowledge.execute(tx).await?;
        Ok(())
    }
}

/// Conversations, members and places, as Postgres takes them.
fn columns(of: &BTreeMap<Member, Seq>) -> (Vec<&[u8]>, Vec<&str>, Vec<i64>) {
    let ids = of.keys().map(|(id, _)| blob(id)).collect();
    let users = of.keys().map(|(_, user)| user.as_str()).collect();
    (ids, users, of.values().map(|seq| place(*seq)).collect())
}
