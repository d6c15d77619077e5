//! The fan-out between servers: the second contract.
//!
//! The bus is a doorbell, not a mailbox. It tells every server that something happened; what
//! happened is in the store. So it may lose, as long as it says so: after [`Signal::Gap`] every
//! server looks at the logs of its connections again. Nobody is ever waited for, and an offline
//! user costs the bus nothing.
//!
//! Invariants, each a promise of `conformance`:
//! - every listener hears every event published after it was attached, its own included, or hears
//!   `Gap` afterwards
//! - events of one publisher about one conversation arrive in the order of publishing
//! - a listener that is attached never makes a publisher wait

pub mod local;
pub mod redis;
#[cfg(feature = "kafka")]
pub mod kafka;

use std::future::Future;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chat::{Error, Message, Receipt};
use crate::ids::{ConversationId, DeviceId, Seq, UserId};
use crate::mailbox::SessionId;

/// What servers tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A message is in the log. It carries the message, so that the usual case reads nothing.
    Message {
        /// The message.
        message: Arc<Message>,
        /// Whoever hears this needs a member list at least this new.
        members_version: u64,
        /// The connection it came by.
        origin: Option<SessionId>,
    },
    /// A log reaches `last_seq`: read it.
    Moved {
        /// Which.
        conversation: ConversationId,
        /// How far.
        last_seq: Seq,
        /// As above.
        members_version: u64,
    },
    /// A member's cursors moved.
    Receipt {
        /// To where.
        receipt: Receipt,
        /// As above.
        members_version: u64,
    },
    /// Somebody types.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// Somebody came or went.
    Presence {
        /// Who.
        user: UserId,
        /// Whether they are there.
        online: bool,
    },
    /// Who is there? Every server answers with the presence of its own.
    Roll {
        /// The users asked about.
        users: Vec<UserId>,
    },
    /// A member was removed and must not be pushed anything any more.
    Removed {
        /// From where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// A device connected: older connections of it are closed.
    Connected {
        /// Whose.
        user: UserId,
        /// Which device.
        device: DeviceId,
        /// The connection that stays.
        session: SessionId,
    },
    /// A device was removed: its connections are closed.
    DeviceRemoved {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
    },
}

impl Event {
    /// What keeps events in order on buses that have partitions.
    pub fn key(&self) -> String {
        match self {
            Self::Message { message, .. } => message.conversation.to_string(),
            Self::Moved { conversation, .. }
            | Self::Typing { conversation, .. }
            | Self::Removed { conversation, .. } => conversation.to_string(),
            Self::Receipt { receipt, .. } => receipt.conversation.to_string(),
            Self::Presence { user, .. }
            | Self::Connected { user, .. }
            | Self::DeviceRemoved { user, .. } => user.to_string(),
            Self::Roll { .. } => String::new(),
        }
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Something happened.
    Event(Event),
    /// Events may have been lost since the last signal: look at the logs.
    Gap,
}

/// Called for every signal, one at a time. It must not block.
pub type Listener = Arc<dyn Fn(Signal) + Send + Sync>;

/// Carries events between servers.
pub trait Bus: Send + Sync + 'static {
    /// Tells every listener of every server.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is not known to have been told; the store's list of
    /// unpublished conversations makes good for it.
    fn publish(&self, event: Event) -> impl Future<Output = Result<(), Error>> + Send;

    /// Tells every listener of several events, in order. Costs a bus over the network one way
    /// there and back, as for one event.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), when that is so of any of them.
    fn publish_all(&self, events: Vec<Event>) -> impl Future<Output = Result<(), Error>> + Send {
        async move {
            for event in events {
                self.publish(event).await?;
            }
            Ok(())
        }
    }

    /// Attaches a listener for as long as the bus exists. When this returns, it hears what is
    /// published from now on.
    fn attach(&self, listener: Listener) -> impl Future<Output = Result<(), Error>> + Send;
}
