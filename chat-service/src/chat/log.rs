//! What is in a log, on its way into it, and read from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Error, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, TEXT_BYTES_MAX};
use crate::ids::{ClientId, ConversationId, Seq, UserId};

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
