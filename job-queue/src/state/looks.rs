//! What can be asked of a queue without changing who has what.

use std::ops::Bound;
use std::sync::Arc;

use super::QueueState;
use crate::message::{Peeked, Position};
use crate::queue::Counts;

impl QueueState {
    /// How many messages are where. What is past its retention and not yet deleted still counts.
    pub fn counts_at(&mut self, now_ms: u64) -> Counts {
        self.end_what_is_due(now_ms);
        Counts {
            ready: self.messages.len() - self.in_flight - self.delayed,
            in_flight: self.in_flight,
            delayed: self.delayed,
            oldest_sent_at_ms: self.by_age.first().map(|oldest| oldest.sent_at_ms),
        }
    }

    /// Messages in order of age, leasing nothing.
    pub fn peek(&self, after: Position, limit: usize) -> Vec<Peeked> {
        let after = Bound::Excluded(after);
        let positions = self.by_age.range((after, Bound::Unbounded)).take(limit);
        let look = |position: &Position| {
            let message = self.message(position.seq).expect("what has an age is stored");
            Peeked {
                position: *position,
                id: message.id,
                content: Arc::clone(&message.content),
                receives: message.receives,
                phase: message.phase,
                dead_letter_source: message.dead_letter_source.clone(),
            }
        };
        positions.map(look).collect()
    }

    /// When the next delay or lease ends: the one time at which somebody must look again.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|&(at_ms, _)| at_ms)
    }

    /// Whether a receive would look at any message now.
    pub fn may_have_ready(&self, now_ms: u64) -> bool {
        self.lanes.has_next() || self.next_due_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }
}
