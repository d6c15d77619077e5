//! One connection's delivery, as a pure state machine: what is pushed now, what is read from the
//! log next, and when the device is caught up. No socket, no clock, no async.
//!
//! For every conversation it remembers how far it has pushed. A message that is next in line and
//! covered by credit is pushed as it comes. Everything else (a hole, no credit, an overflown
//! mailbox, a week offline) is one case: the conversation is *behind*, and is read from its log
//! page by page, one conversation after the other, until it is not.
//!
//! Invariants:
//! - within a connection, each conversation is pushed in order, without a gap and never twice
//! - never more is pushed than there is credit for
//! - a conversation that has more than was pushed is in `behind`: nothing waits unnoticed

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::chat::{Message, PAGE_MESSAGES_MAX, Page, Summary};
use crate::ids::{ConversationId, Seq};
use crate::mailbox::{Live, SessionId};
use crate::protocol::{CREDIT_MAX, Resume};

/// Messages read at once for a conversation that is behind. Small, so that a long backlog in one
/// conversation does not keep the others waiting, and a page is encoded in well under a
/// millisecond.
pub(crate) const CATCH_UP_PAGE: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    credit: u32,
    tracks: HashMap<ConversationId, Track>,
    /// Those with more in the log than was pushed, each once, served round robin.
    behind: VecDeque<ConversationId>,
    reading: Option<ConversationId>,
    announced: bool,
}

#[derive(Debug, Default)]
struct Track {
    pushed: Seq,
    known: Seq,
    /// Places beyond `pushed` that the device knows from a `sent` frame. They are not pushed;
    /// they count as pushed when those before them have been.
    own: BTreeSet<Seq>,
}

impl Track {
    fn push(&mut self, seq: Seq) {
        self.pushed = seq;
        while self.own.first().is_some_and(|own| *own <= self.pushed.next()) {
            self.pushed = self.own.pop_first().map_or(self.pushed, |own| own.max(self.pushed));
        }
        self.known = self.known.max(self.pushed);
    }
}

/// What to do with a message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Push it now.
    Push,
    /// The device has it: pushed before, or sent by itself.
    Skip,
    /// It will be read from the log.
    Later,
}

/// A page to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) conversation: ConversationId,
    pub(crate) after: Seq,
    /// How far the log was known to reach when the read began.
    known: Seq,
    pub(crate) limit: usize,
}

impl Session {
    pub(crate) fn new(id: SessionId, credit: u32) -> Self {
        Self {
            id,
            credit: credit.min(CREDIT_MAX),
            tracks: HashMap::new(),
            behind: VecDeque::new(),
            reading: None,
            announced: false,
        }
    }

    /// Takes up a conversation where the device stands. Called again after a gap in the bus: then
    /// only what is known grows.
    pub(crate) fn track(&mut self, summary: &Summary, cursor: Option<Seq>, resume: Resume) {
        let last = summary.last_seq;
        let start = match (cursor, resume) {
            (Some(cursor), _) => cursor.min(last),
            (None, Resume::Missed) => summary.delivered_seq,
            (None, Resume::Newest) => last,
        };
        let id = summary.conversation;
        self.tracks.entry(id).or_insert(Track {
            pushed: start,
            known: start,
            own: BTreeSet::new(),
        });
        self.moved(id, last);
    }

    /// A conversation's log reaches `last`.
    pub(crate) fn moved(&mut self, conversation: ConversationId, last: Seq) {
        // One that is new to this connection starts at 0; the log itself knows from where on this
        // user may see it.
        let track = self.tracks.entry(conversation).or_default();
        track.known = last.max(track.known);
        let waits = self.reading == Some(conversation) || self.behind.contains(&conversation);
        if track.known > track.pushed && !waits {
            self.behind.push_back(conversation);
            self.announced = false;
        }
    }

    /// A message arrived live.
    pub(crate) fn live(&mut self, live: &Live) -> Verdict {
        let (conversation, seq) = (live.message.conversation, live.message.seq);
        let Some(track) = self.tracks.get_mut(&conversation) else {
            self.moved(conversation, seq);
            return Verdict::Later;
        };
        if seq <= track.pushed {
            return Verdict::Skip;
        }
        if live.origin == Some(self.id) {
            // The `sent` frame has told this device of it, but something before it is missing; it
            // may be lost, and nothing else need ever come to show the hole.
            self.moved(conversation, seq);
            return Verdict::Skip;
        }
        let is_next = seq == track.pushed.next() && track.known <= track.pushed;
        if !is_next || self.credit == 0 {
            self.moved(conversation, seq);
            return Verdict::Later;
        }
        track.push(seq);
        self.credit -= 1;
        Verdict::Push
    }

    /// The device was told that a message of its own has this place.
    pub(crate) fn sent(&mut self, conversation: ConversationId, seq: Seq) {
        let track = self.tracks.entry(conversation).or_default();
        if seq == track.pushed.next() && track.known <= track.pushed {
            track.push(seq);
        } else if seq > track.pushed {
            track.own.insert(seq);
        }
    }

    /// The client takes `messages` more.
    pub(crate) fn grant(&mut self, messages: u32) {
        self.credit = self.credit.saturating_add(messages).min(CREDIT_MAX);
    }

    /// The next page to read, if one should be. One at a time.
    pub(crate) fn next_read(&mut self) -> Option<Read> {
        if self.reading.is_some() || self.credit == 0 {
            return None;
        }
        let conversation = self.behind.pop_front()?;
        self.reading = Some(conversation);
        let track = self.tracks.get(&conversation);
        let (after, known) =
            track.map_or_else(Default::default, |track| (track.pushed, track.known));
        let limit = (self.credit as usize).min(CATCH_UP_PAGE).min(PAGE_MESSAGES_MAX);
        Some(Read { conversation, after, known, limit })
    }

    /// The page that was asked for. Returns the messages to push.
    pub(crate) fn page(&mut self, read: Read, page: &Page) -> Vec<Arc<Message>> {
        self.reading = None;
        let Some(track) = self.tracks.get_mut(&read.conversation) else { return Vec::new() };
        let mut push = Vec::with_capacity(page.messages.len());
        for message in &page.messages {
            if message.seq > track.pushed && self.credit > 0 {
                track.push(message.seq);
                self.credit -= 1;
                push.push(Arc::clone(message));
            }
        }
        let is_end = !page.has_more && page.messages.last().is_none_or(|m| m.seq <= track.pushed);
        // At the end of what this user may see, what was known before is not waited for; what
        // became known while the page was read still is.
        if is_end && track.known <= read.known.max(track.pushed) {
            track.known = track.pushed;
        } else {
            self.behind.push_back(read.conversation);
        }
        push
    }

    /// The page could not be read; it is tried again.
    pub(crate) fn page_failed(&mut self, read: Read) {
        self.reading = None;
        if self.tracks.contains_key(&read.conversation) {
            self.behind.push_back(read.conversation);
        }
    }

    /// The user is no longer in the conversation. True when that is news.
    pub(crate) fn removed(&mut self, conversation: ConversationId) -> bool {
        self.behind.retain(|id| *id != conversation);
        self.tracks.remove(&conversation).is_some()
    }

    /// True once after each time there was something to catch up with and now there is not.
    pub(crate) fn just_caught_up(&mut self) -> bool {
        let is_caught_up = self.behind.is_empty() && self.reading.is_none();
        !std::mem::replace(&mut self.announced, is_caught_up) && is_caught_up
    }
}

#[cfg(test)]
mod tests;
