//! Who is in a conversation, and how far.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Error, MEMBERS_PER_REQUEST_MAX, Message, TITLE_BYTES_MAX};
use crate::ids::{ConversationId, Seq, UserId};

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
