//! The contract: what every message store promises, and the words it promises it in.
//!
//! A conversation is one durable, append-only log with a gapless sequence. Everything a person
//! sees is a read of that log from a cursor: live push, resume after a tunnel, delivery after a
//! week offline and scrolling up are the same read at different positions.
//!
//! Invariants, each a promise of [`conformance`](crate::conformance):
//! - *sent* means durable: an appended message is never lost, and gets the next sequence.
//! - one client id, one message: a repeat returns the original sequence.
//! - *delivered* means that a device acknowledged; *read* is a cumulative cursor. Both only grow.
//! - unread is derived by subtraction, never counted up: it cannot drift.
//! - who is not in a conversation can neither see nor change it, nor learn that it exists.

use std::future::Future;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ClientId, ConversationId, DeviceId, Epoch, Seq, UserId};

/// Longest text of a message. Larger content belongs in object storage, with a link here.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Longest title of a group.
pub const TITLE_BYTES_MAX: usize = 128;
/// Most members of a conversation. One message costs one lookup per member; beyond this a
/// broadcast channel, read on demand, is the better design.
pub const MEMBERS_MAX: usize = 16_384;
/// Most members named in one request, so that one request cannot hold the writer for long.
pub const MEMBERS_PER_REQUEST_MAX: usize = 512;
/// Most conversations of one user. All of them are looked at when a device connects.
pub const CONVERSATIONS_PER_USER_MAX: usize = 4_096;
/// Most devices of one user. Each has a cursor per conversation.
pub const DEVICES_PER_USER_MAX: usize = 8;
/// Most messages in a page.
pub const PAGE_MESSAGES_MAX: usize = 500;
/// Most bytes of text in a page; the first message is always returned, so that paging goes on.
pub const PAGE_BYTES_MAX: usize = 128 * 1024;
/// Most summaries in a page.
pub const SUMMARIES_MAX: usize = 100;
/// Most messages in one call of [`Store::append`].
pub const APPEND_MAX: usize = 256;

/// What a store is, for as long as it exists.
#[derive(Clone)]
pub struct Identity {
    /// Goes with every cursor.
    pub epoch: Epoch,
    /// Signs tokens. Kept by the store so that every server of it, and every restart, agrees.
    pub token_key: [u8; 32],
}

impl Identity {
    /// The identity of a new store.
    ///
    /// # Panics
    /// When the operating system has no randomness, because guessable tokens are worse.
    pub fn fresh() -> Self {
        let mut token_key = [0; 32];
        getrandom::fill(&mut token_key).expect("the operating system provides randomness");
        Self { epoch: Epoch::fresh(), token_key }
    }
}

/// Who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: UserId,
    /// The password's argon2 hash in PHC form; never the password.
    pub password_hash: String,
}

/// A device a user logged in from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, unique for the user.
    pub device: DeviceId,
    /// When it was first seen.
    pub added_ms: u64,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Something a person wrote.
    Text(Arc<str>),
    /// The sender added this user. Membership is in the log, so that everybody sees it at the
    /// same place between the same messages.
    Joined(UserId),
    /// The sender removed this user, or left.
    Left(UserId),
}

impl Content {
    /// What a message weighs in every bound that is in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Joined(user) | Self::Left(user) => user.as_str().len(),
        }
    }
}

/// One entry of a conversation's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which log.
    pub conversation: ConversationId,
    /// Where in it.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// The sender's own id of it.
    pub client_id: ClientId,
    /// When the store took it: to be shown, never to be ordered by.
    pub at_ms: u64,
    /// What it says.
    #[serde(flatten)]
    pub content: Content,
}

/// A message on its way into the log.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Where to.
    pub conversation: ConversationId,
    /// Who writes; the caller has authenticated them.
    pub sender: UserId,
    /// Drawn once per message, the same in every retry.
    pub client_id: ClientId,
    /// At least one byte, at most [`TEXT_BYTES_MAX`].
    pub text: Arc<str>,
    /// The time to show.
    pub now_ms: u64,
}

impl NewMessage {
    /// Checks what needs no store.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `text`.
    pub fn check(&self) -> Result<(), Error> {
        match self.text.len() {
            0 => Err(Error::invalid("text", "must not be empty")),
            bytes if bytes > TEXT_BYTES_MAX => Err(Error::invalid(
                "text",
                format!("is {bytes} bytes long; at most {TEXT_BYTES_MAX} are"),
            )),
            _ => Ok(()),
        }
    }
}

/// A message that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub seq: Seq,
    /// When it was taken, the first time.
    pub at_ms: u64,
    /// True when it was there already: this was a retry.
    pub duplicate: bool,
    /// The version of the member list under which it was appended.
    pub members_version: u64,
}

/// How much a page may hold. Both bounds hold, except that one message is always returned.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// At most [`PAGE_MESSAGES_MAX`].
    pub messages: usize,
    /// At most [`PAGE_BYTES_MAX`].
    pub bytes: usize,
}

impl PageLimit {
    /// `messages`, cut to the bounds.
    pub fn messages(messages: usize) -> Self {
        Self { messages: messages.clamp(1, PAGE_MESSAGES_MAX), bytes: PAGE_BYTES_MAX }
    }
}

/// Consecutive messages of one log, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// Whether there are more in the direction that was read.
    pub has_more: bool,
}

impl Page {
    /// As many of `messages` as the limit allows, and at least one, so that paging goes on.
    ///
    /// # Errors
    /// The first error among the messages that were looked at.
    pub(crate) fn fill<E>(
        limit: PageLimit,
        messages: impl IntoIterator<Item = Result<Arc<Message>, E>>,
    ) -> Result<Self, E> {
        let (mut page, mut bytes) = (Self::default(), 0);
        for message in messages {
            let message = message?;
            bytes += message.content.bytes().max(1);
            let is_full = page.messages.len() >= limit.messages.max(1) || bytes > limit.bytes;
            if is_full && !page.messages.is_empty() {
                return Ok(Self { has_more: true, ..page });
            }
            page.messages.push(message);
        }
        Ok(page)
    }
}

/// How far one member is: two cumulative cursors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Whose.
    pub user: UserId,
    /// Everything up to here was acknowledged by a device of theirs.
    pub delivered: Seq,
    /// Everything up to here was read.
    pub read: Seq,
}

/// A receipt after an acknowledgement, and what is needed to tell the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The cursors now.
    pub receipt: Receipt,
    /// Whether this call moved one of them.
    pub changed: bool,
    /// The version of the member list.
    pub members_version: u64,
}

/// A conversation as its list shows it, for one device of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which.
    pub conversation: ConversationId,
    /// The group's title; none between two people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The other person, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<UserId>,
    /// How many members there are.
    pub members: u64,
    /// The newest message's place.
    pub last_seq: Seq,
    /// Everything up to here was read by this user.
    pub read_seq: Seq,
    /// Everything up to here was acknowledged by this device.
    pub delivered_seq: Seq,
    /// The messages of others after `read_seq`: derived, see the module.
    pub unread: u64,
    /// The newest message, if this user may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Arc<Message>>,
}

/// A page of summaries, ordered by conversation id.
#[derive(Clone, Debug, Default)]
pub struct Summaries {
    /// The summaries.
    pub items: Vec<Summary>,
    /// Whether there are more after the last one.
    pub has_more: bool,
}

/// Who hears a message.
#[derive(Clone, Debug)]
pub struct Members {
    /// Grows with every change.
    pub version: u64,
    /// The members, in no order.
    pub users: Arc<[UserId]>,
}

/// A conversation and the state others must be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub conversation: ConversationId,
    /// False when it was already as asked for.
    pub changed: bool,
    /// The end of its log.
    pub last_seq: Seq,
    /// The version of its member list.
    pub members_version: u64,
}

/// What a group is created from.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Drawn by the creator, so that a retry is recognised.
    pub conversation: ConversationId,
    /// Who creates it and administers it.
    pub by: UserId,
    /// At least one byte, at most [`TITLE_BYTES_MAX`].
    pub title: String,
    /// The others.
    pub members: Vec<UserId>,
    /// The time to show.
    pub now_ms: u64,
}

impl NewGroup {
    /// Checks what needs no store.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `title` or `members`.
    pub fn check(&self) -> Result<(), Error> {
        match self.title.len() {
            0 => return Err(Error::invalid("title", "must not be empty")),
            bytes if bytes > TITLE_BYTES_MAX => {
                let reason = format!("is {bytes} bytes long; at most {TITLE_BYTES_MAX} are");
                return Err(Error::invalid("title", reason));
            }
            _ => {}
        }
        check_named(&self.members)
    }
}

/// [`Error::Invalid`] naming `members` when a request names too many.
pub fn check_named(members: &[UserId]) -> Result<(), Error> {
    if members.len() > MEMBERS_PER_REQUEST_MAX {
        let reason = format!("names {}; at most {MEMBERS_PER_REQUEST_MAX} at once", members.len());
        return Err(Error::invalid("members", reason));
    }
    Ok(())
}

/// A message store. Cheap to share: every method takes `&self`.
///
/// Every method is one atomic step. Where it returns `Ok`, what it did is as durable as the
/// answer says it is. Every method that names a user refuses, with [`Error::NotFound`], to say
/// anything about a conversation that user is not in.
pub trait Store: Send + Sync + 'static {
    /// The store's epoch and key, read once when it was opened. Free.
    fn identity(&self) -> &Identity;

    /// Adds an account; [`Error::Conflict`] when the name is taken.
    fn create_account(&self, account: Account) -> impl Future<Output = Result<(), Error>> + Send;

    /// The account, if there is one.
    fn account(&self, user: UserId) -> impl Future<Output = Result<Option<Account>, Error>> + Send;

    /// Adds a device, or finds it there already. [`Error::Full`] at [`DEVICES_PER_USER_MAX`].
    fn put_device(
        &self,
        user: UserId,
        device: DeviceId,
        now_ms: u64,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The user's devices.
    fn devices(&self, user: UserId) -> impl Future<Output = Result<Vec<Device>, Error>> + Send;

    /// Removes a device and its cursors; [`Error::NotFound`] when there is none.
    fn remove_device(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The conversation of two people, created by whoever asks first. Asking at the same moment
    /// from both sides gives both the same one.
    fn open_direct(
        &self,
        by: UserId,
        with: UserId,
    ) -> impl Future<Output = Result<Changed, Error>> + Send;

    /// Creates a group. Repeating it is no change; [`Error::Conflict`] when the id is another's.
    fn create_group(&self, group: NewGroup) -> impl Future<Output = Result<Changed, Error>> + Send;

    /// Adds members, each with a [`Content::Joined`] in the log; they see what follows their own.
    /// Those who are members already stay as they are. [`Error::Forbidden`] unless `by`
    /// administers the group.
    fn add_members(
        &self,
        by: UserId,
        conversation: ConversationId,
        members: Vec<UserId>,
        now_ms: u64,
    ) -> impl Future<Output = Result<Changed, Error>> + Send;

    /// Removes a member, with a [`Content::Left`] in the log they no longer see. Everybody may
    /// remove themselves; [`Error::Forbidden`] unless `by` administers the group otherwise.
    fn remove_member(
        &self,
        by: UserId,
        conversation: ConversationId,
        member: UserId,
        now_ms: u64,
    ) -> impl Future<Output = Result<Changed, Error>> + Send;

    /// Who hears a message. Asked by servers, not for users; empty for an unknown conversation.
    fn members(
        &self,
        conversation: ConversationId,
    ) -> impl Future<Output = Result<Members, Error>> + Send;

    /// Appends up to [`APPEND_MAX`] messages in the order given, each on its own: dedup, next
    /// sequence and message are one step. One result per message, in order.
    ///
    /// A repeated (sender, client id) returns the original place; with another text or
    /// conversation it is [`Error::Conflict`]. Ids are remembered as long as messages are.
    ///
    /// # Errors
    /// Per message. After [`Error::Unavailable`] it may or may not be in the log: send it again
    /// under the same client id.
    fn append(
        &self,
        messages: Vec<NewMessage>,
    ) -> impl Future<Output = Vec<Result<Appended, Error>>> + Send;

    /// The messages after `after`, oldest first: live, resume and offline delivery. Costs the page,
    /// not the log.
    fn since(
        &self,
        reader: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> impl Future<Output = Result<Page, Error>> + Send;

    /// The newest messages before `before` (the newest of all for `None`), oldest first: history.
    /// Costs the page, not the log.
    fn before(
        &self,
        reader: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> impl Future<Output = Result<Page, Error>> + Send;

    /// A device has everything up to the given places. Never moves back; [`Error::Invalid`] beyond
    /// the end of the log. One result per cursor, in order.
    fn acknowledge(
        &self,
        user: UserId,
        device: DeviceId,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> impl Future<Output = Vec<Result<Moved, Error>>> + Send;

    /// The user has read everything up to `seq`, on any device. What is read is delivered.
    fn read(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> impl Future<Output = Result<Moved, Error>> + Send;

    /// How far every member is, ordered by name: what a client's ticks are derived from.
    fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> impl Future<Output = Result<Vec<Receipt>, Error>> + Send;

    /// The user's conversations after `after`, as this device stands. Costs the page.
    fn summaries(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> impl Future<Output = Result<Summaries, Error>> + Send;

    /// Notes that the other servers were told of everything up to these places.
    fn published(
        &self,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Conversations with messages nobody was told of: what a server that died between commit and
    /// publish left behind. The outbox is a cursor too.
    fn unpublished(&self, limit: usize)
    -> impl Future<Output = Result<Vec<Changed>, Error>> + Send;

    /// `Ok` when the store answers now; used by `/readyz`.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What can go wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong and will stay wrong: fix `field`.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What is wrong, as a sentence that starts with the field's name.
        reason: String,
    },
    /// There is no such thing, or none that this user may know of.
    #[error("{field} does not exist{}", if *field == "conversation" { ", or you are not in it" } else { "" })]
    NotFound {
        /// The field that names it.
        field: &'static str,
    },
    /// The user is in the conversation and may not do this in it.
    #[error("{field} {reason}")]
    Forbidden {
        /// The field at fault.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something else is there under this name.
    #[error("{field} {reason}")]
    Conflict {
        /// The field at fault.
        field: &'static str,
        /// What is there.
        reason: &'static str,
    },
    /// A bound was reached: remove something first.
    #[error("{field}: at most {bound} are kept")]
    Full {
        /// What there are too many of.
        field: &'static str,
        /// The bound.
        bound: usize,
    },
    /// The store did not answer; what was asked may or may not have happened. Ask again.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// The client's own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    /// [`Error::Invalid`].
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    /// The field this is about.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. }
            | Self::NotFound { field }
            | Self::Forbidden { field, .. }
            | Self::Conflict { field, .. }
            | Self::Full { field, .. } => Some(field),
            Self::Unavailable { .. } => None,
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not-found",
            Self::Forbidden { .. } => "forbidden",
            Self::Conflict { .. } => "conflict",
            Self::Full { .. } => "full",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// What every store says to a stranger, to an unknown id and to a removed member alike.
pub(crate) const NO_CONVERSATION: Error = Error::NotFound { field: "conversation" };
/// What every store says when a client id is used for a second message.
pub(crate) const CLIENT_ID_REUSED: Error =
    Error::Conflict { field: "client_id", reason: "was used for another message" };
/// What every store says when a cursor would pass the log.
pub(crate) fn beyond_the_log(last: Seq) -> Error {
    Error::invalid("seq", format!("is beyond the end of the log, which is {last}"))
}
