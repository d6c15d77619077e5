//! What can be set on a queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::message::QueueId;
use crate::queue::Error;

/// The settings of one queue. Validated by whoever builds them from a client's words
/// ([`crate::sqs`]); a store keeps them as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long a received message stays hidden, unless the receiver says otherwise.
    pub visibility_timeout_ms: u64,
    /// How long a new message is hidden, unless the sender says otherwise.
    pub delay_ms: u64,
    /// How long a message is kept, counted from when it was sent.
    pub retention_ms: u64,
    /// How long a receive waits for a message, unless the receiver says otherwise.
    pub wait_ms: u64,
    /// Largest message.
    pub message_bytes_max: usize,
    /// Where messages go that were received too often.
    pub redrive: Option<Redrive>,
    /// Who may name this queue as their dead-letter queue.
    pub redrive_allow: RedriveAllow,
    /// Order and deduplication; `None` on a standard queue.
    pub fifo: Option<Fifo>,
    /// Attributes that are kept and returned and have no effect here: policy and encryption.
    pub kept: BTreeMap<String, String>,
    /// The owner's tags.
    pub tags: BTreeMap<String, String>,
    /// When the queue was created.
    pub created_at_ms: u64,
    /// When a setting was changed last.
    pub modified_at_ms: u64,
}

impl Settings {
    /// The documented defaults.
    pub fn standard() -> Self {
        Self {
            visibility_timeout_ms: limits::seconds(30),
            delay_ms: 0,
            retention_ms: limits::seconds(345_600),
            wait_ms: 0,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            redrive: None,
            redrive_allow: RedriveAllow::All,
            fifo: None,
            kept: BTreeMap::new(),
            tags: BTreeMap::new(),
            created_at_ms: 0,
            modified_at_ms: 0,
        }
    }

    /// The same for a FIFO queue.
    pub fn fifo() -> Self {
        Self { fifo: Some(Fifo::default()), ..Self::standard() }
    }
}

impl Settings {
    /// Whether `queue` may have these settings, given those of its dead-letter queue.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `RedrivePolicy`.
    pub fn check_redrive(&self, queue: &QueueId, target: Option<&Self>) -> Result<(), Error> {
        let Some(redrive) = &self.redrive else { return Ok(()) };
        let refuse = |reason: &str| Err(Error::invalid("RedrivePolicy", reason));
        if redrive.target == *queue {
            return refuse("names the queue itself as its dead-letter queue");
        }
        let Some(target) = target else {
            return refuse("names a dead-letter queue that does not exist");
        };
        if redrive.target.is_fifo() != queue.is_fifo() {
            return refuse("names a dead-letter queue of the other kind: both or neither are FIFO");
        }
        if !target.redrive_allow.allows(queue) {
            return refuse(
                "names a dead-letter queue whose redrive allow policy excludes this one",
            );
        }
        Ok(())
    }
}

/// The dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// Where to.
    pub target: QueueId,
    /// A message that was received this often goes there instead of being delivered once more.
    pub max_receives: u32,
}

/// Who may use a queue as dead-letter queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedriveAllow {
    /// Every queue.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Only(Vec<QueueId>),
}

impl RedriveAllow {
    /// Whether `source` may send its dead letters here.
    pub fn allows(&self, source: &QueueId) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(sources) => sources.contains(source),
        }
    }
}

/// What a FIFO queue adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifo {
    /// Deduplicate by the SHA-256 of the body when the sender gives no id.
    pub content_based_dedup: bool,
    /// Whether equal ids in different groups are duplicates of each other.
    pub dedup_scope: Scope,
    /// Kept and returned; this store has no throughput limit to scope.
    pub throughput_limit: Scope,
}

/// What a rule of a FIFO queue spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The queue.
    #[default]
    Queue,
    /// Each message group by itself.
    MessageGroup,
}
