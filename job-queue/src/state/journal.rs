//! What the core tells a durable answer to write down.
//!
//! The core decides in memory; the journal is the list of row changes that make the same state
//! come back after a crash. An answer that keeps nothing passes [`Unrecorded`], and the compiler
//! removes the recording.

use super::{Duplicate, Message};
use crate::message::{Epoch, Phase, Seq};

/// One change of a row.
#[derive(Debug)]
pub enum Change {
    /// A message is new in a queue.
    Stored {
        /// The queue.
        queue_number: u64,
        /// The message.
        message: Box<Message>,
    },
    /// A message was leased, or its lease moved.
    Leased {
        /// The message.
        seq: Seq,
        /// Which lease.
        epoch: Epoch,
        /// How many receives.
        receives: u32,
        /// When it was received first.
        first_received_at_ms: u64,
        /// Until when.
        phase: Phase,
    },
    /// A message is gone.
    Removed {
        /// The message.
        seq: Seq,
    },
    /// All messages of a queue are gone.
    Purged {
        /// The queue.
        queue_number: u64,
    },
    /// A deduplication id was used.
    Accepted {
        /// The queue.
        queue_number: u64,
        /// The id, and the message that had it first.
        record: Duplicate,
    },
}

impl Change {
    pub(super) fn leased(message: &Message) -> Self {
        Self::Leased {
            seq: message.seq,
            epoch: message.epoch,
            receives: message.receives,
            first_received_at_ms: message.first_received_at_ms,
            phase: message.phase,
        }
    }
}

/// Where changes go.
pub trait Journal {
    /// Takes a change; an answer without a disk does not even have it made.
    fn record(&mut self, change: impl FnOnce() -> Change);
}

/// Nothing is written down.
#[derive(Debug)]
pub struct Unrecorded;

impl Journal for Unrecorded {
    fn record(&mut self, _: impl FnOnce() -> Change) {}
}

impl Journal for Vec<Change> {
    fn record(&mut self, change: impl FnOnce() -> Change) {
        self.push(change());
    }
}
