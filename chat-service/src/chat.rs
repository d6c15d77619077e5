//! The contract: what every message store promises, and the words it promises it in.
//!
//! A conversation is one durable, append-only log with a gapless sequence. Everything a person
//! sees is a read of that log from a cursor: live push, resume after a tunnel, delivery after a
//! week offline and scrolling up are the same read at different positions.
//!
//! Invariants, each a promise of `conformance`:
//! - *sent* means durable: an appended message is never lost, and gets the next sequence.
//! - one client id, one message: a repeat returns the original sequence.
//! - *delivered* means that a device acknowledged; *read* is a cumulative cursor. Both only grow.
//! - unread is derived by subtraction, never counted up: it cannot drift.
//! - who is not in a conversation can neither see nor change it, nor learn that it exists.

mod people;
mod log;
mod standing;
mod error;

use std::future::Future;

use crate::ids::{ConversationId, DeviceId, Seq, UserId};

pub use error::Error;
pub(crate) use error::{CLIENT_ID_REUSED, NO_CONVERSATION, beyond_the_log};
pub use log::{Appended, Content, Message, NewMessage, Page, PageLimit};
pub use people::{Account, Device, Identity};
pub use standing::{Changed, Members, Moved, NewGroup, Receipt, Summaries, Summary, check_named};

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
