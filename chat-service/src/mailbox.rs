//! What is on its way to one connection, bounded in bytes. Pure: no socket, no clock.
//!
//! The publisher never waits for a reader. What fits is queued; what does not fit is only noted
//! ("this conversation has moved to 4711") and read from the log later, at the reader's pace. The
//! note is a number per conversation, so a connection that is a million messages behind costs as
//! much as one that is a single message behind. This is *catch-up mode*; nothing is lost, because
//! nothing but the log ever held it.
//!
//! Typing and presence have a lane of their own that overwrites and drops: they can never take the
//! place of a message.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;

use crate::chat::{Message, Receipt};
use crate::ids::{ConversationId, Seq, UserId};
use crate::protocol::{CloseCode, ServerFrame};

/// Most bytes of frames queued for a connection. Above it the connection is in catch-up mode.
pub const MAILBOX_BYTES_MAX: usize = 64 * 1024;
/// Most receipts kept for a connection. They are cumulative: the next one tells what a dropped one
/// said, and `GET .../members` tells all of them.
pub const RECEIPTS_MAX: usize = 128;
/// Most typing and presence notices kept for a connection; older ones are dropped.
pub const NOTICES_MAX: usize = 32;

/// Which connection. Ordered by the time of connecting, over all servers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct SessionId(pub uuid::Uuid);

/// A message on its way, encoded once for everybody.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) message: Arc<Message>,
    pub(crate) frame: Utf8Bytes,
    /// The connection it came by: that one knows it from the `sent` frame.
    pub(crate) origin: Option<SessionId>,
}

impl Live {
    pub(crate) fn new(message: Arc<Message>, origin: Option<SessionId>) -> Self {
        let frame = ServerFrame::Message(Arc::clone(&message)).to_json().into();
        Self { message, frame, origin }
    }
}

/// What is queued in order.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A message of the conversation.
    Live(Live),
    /// The answer to a message of this connection. Queued before the message is told to anybody,
    /// so that no later message can overtake it on its way to its sender.
    Answer(ServerFrame),
}

/// A notice that may be dropped: who, where, and the frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    key: (Option<ConversationId>, UserId),
    pub(crate) frame: ServerFrame,
}

impl Notice {
    pub(crate) fn typing(conversation: ConversationId, user: UserId) -> Self {
        let frame = ServerFrame::Typing { conversation, user: user.clone() };
        Self { key: (Some(conversation), user), frame }
    }

    pub(crate) fn presence(user: UserId, online: bool) -> Self {
        Self { key: (None, user.clone()), frame: ServerFrame::Presence { user, online } }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    queue: VecDeque<Entry>,
    bytes: usize,
    behind: HashMap<ConversationId, Seq>,
    receipts: HashMap<(ConversationId, UserId), Receipt>,
    notices: VecDeque<Notice>,
    removed: Vec<ConversationId>,
    resync: bool,
    close: Option<CloseCode>,
}

/// What a connection takes out at once.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) queue: VecDeque<Entry>,
    pub(crate) behind: HashMap<ConversationId, Seq>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) removed: Vec<ConversationId>,
    /// Something may have been missed that nobody knows of: look at every conversation.
    pub(crate) resync: bool,
    pub(crate) close: Option<CloseCode>,
}

impl Mailbox {
    /// Queues a message, or notes that its conversation moved. A conversation that is behind stays
    /// so until the notes are taken: what follows a hole is no use.
    pub(crate) fn message(&mut self, live: &Live) {
        let conversation = live.message.conversation;
        let bytes = live.frame.len();
        let fits = self.bytes + bytes <= MAILBOX_BYTES_MAX;
        if fits && !self.behind.contains_key(&conversation) {
            self.bytes += bytes;
            self.queue.push_back(Entry::Live(live.clone()));
        } else {
            self.moved(conversation, live.message.seq);
        }
    }

    /// Queues an answer. Never dropped; bounded by what one connection may have under way.
    pub(crate) fn answer(&mut self, frame: ServerFrame) {
        self.queue.push_back(Entry::Answer(frame));
    }

    /// Notes that a conversation's log reaches `last`.
    pub(crate) fn moved(&mut self, conversation: ConversationId, last: Seq) {
        let known = self.behind.entry(conversation).or_default();
        *known = last.max(*known);
    }

    /// Keeps the furthest receipt of each member.
    pub(crate) fn receipt(&mut self, receipt: &Receipt) {
        let key = (receipt.conversation, receipt.user.clone());
        if self.receipts.len() >= RECEIPTS_MAX && !self.receipts.contains_key(&key) {
            return;
        }
        let kept = self.receipts.entry(key).or_insert_with(|| receipt.clone());
        kept.delivered = receipt.delivered.max(kept.delivered);
        kept.read = receipt.read.max(kept.read);
    }

    /// Keeps the newest notice of each kind; drops the oldest above the bound.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.notices.retain(|kept| kept.key != notice.key);
        if self.notices.len() >= NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// Bounded by the number of conversations the user was in.
    pub(crate) fn removed(&mut self, conversation: ConversationId) {
        if !self.removed.contains(&conversation) {
            self.removed.push(conversation);
        }
    }

    pub(crate) fn resync(&mut self) {
        self.resync = true;
    }

    /// The first reason counts.
    pub(crate) fn close(&mut self, code: CloseCode) {
        self.close.get_or_insert(code);
    }

    /// Everything, leaving an empty mailbox without memory of its own.
    pub(crate) fn take(&mut self) -> Taken {
        let Self { queue, behind, receipts, notices, removed, resync, close, .. } =
            std::mem::take(self);
        let receipts = receipts.into_values().collect();
        Taken { queue, behind, receipts, notices, removed, resync, close }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Content;
    use crate::ids::ClientId;

    fn live(conversation: ConversationId, seq: u64, bytes: usize) -> Live {
        let message = Message {
            conversation,
            seq: Seq(seq),
            sender: UserId::new("alice").unwrap(),
            client_id: ClientId::fresh(),
            at_ms: 0,
            content: Content::Text("x".repeat(bytes).into()),
        };
        Live::new(Arc::new(message), None)
    }

    #[test]
    fn what_does_not_fit_is_noted_and_costs_a_number() {
        let (mut mailbox, conversation) = (Mailbox::default(), ConversationId::fresh());
        for seq in 1..=10_000 {
            mailbox.message(&live(conversation, seq, 1_000));
        }
        assert!(mailbox.bytes <= MAILBOX_BYTES_MAX);
        let taken = mailbox.take();
        let queued = taken.queue.iter().filter_map(|entry| match entry {
            Entry::Live(live) => Some(live.message.seq.0),
            Entry::Answer(_) => None,
        });
        let queued: Vec<u64> = queued.collect();
        assert_eq!(queued, (1..=queued.len() as u64).collect::<Vec<_>>(), "a hole in the queue");
        assert_eq!(taken.behind[&conversation], Seq(10_000));
        assert!(mailbox.take().queue.is_empty());
    }

    #[test]
    fn a_full_mailbox_of_one_conversation_does_not_let_a_later_message_overtake() {
        let (mut mailbox, conversation) = (Mailbox::default(), ConversationId::fresh());
        mailbox.message(&live(conversation, 1, MAILBOX_BYTES_MAX - 300));
        mailbox.message(&live(conversation, 2, 1_000));
        mailbox.message(&live(conversation, 3, 1));
        let taken = mailbox.take();
        assert_eq!(taken.queue.len(), 1);
        assert_eq!(taken.behind[&conversation], Seq(3));
    }

    #[test]
    fn notices_coalesce_and_are_bounded_and_never_displace_a_message() {
        let (mut mailbox, conversation) = (Mailbox::default(), ConversationId::fresh());
        mailbox.message(&live(conversation, 1, 10));
        for user in 0..1_000 {
            let user = UserId::new(&format!("u{user}")).unwrap();
            mailbox.notice(Notice::typing(conversation, user.clone()));
            mailbox.notice(Notice::typing(conversation, user));
        }
        let taken = mailbox.take();
        assert_eq!((taken.queue.len(), taken.notices.len()), (1, NOTICES_MAX));
    }

    #[test]
    fn receipts_keep_the_furthest() {
        let (mut mailbox, conversation) = (Mailbox::default(), ConversationId::fresh());
        let user = UserId::new("bob").unwrap();
        for (delivered, read) in [(5, 0), (3, 2), (4, 1)] {
            let (user, delivered, read) = (user.clone(), Seq(delivered), Seq(read));
            mailbox.receipt(&Receipt { conversation, user, delivered, read });
        }
        let taken = mailbox.take();
        assert_eq!((taken.receipts[0].delivered, taken.receipts[0].read), (Seq(5), Seq(2)));
    }
}
