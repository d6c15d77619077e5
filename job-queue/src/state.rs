//! The core: one queue as a pure state machine. Every function takes `now` and returns what
//! happened; there is no clock, no lock, no socket, no randomness.
//!
//! Four structures, each with one job, and nothing that scans:
//!
//! | structure            | answers                          | changes cost      |
//! |----------------------|----------------------------------|-------------------|
//! | `messages` (pages)   | what is message 17?              | O(1)              |
//! | `lanes`              | who is next?                     | O(1); O(log n) of those returned |
//! | `due` (tree)         | whose delay or lease ends first? | O(log n) of those |
//! | `by_age` (tree)      | who is oldest?                   | O(log n)          |
//!
//! Invariant: a message is in `messages` and `by_age`, and in exactly one of a lane (ready) and
//! `due` (delayed or leased). The property test in `state/properties.rs` checks it after every step.
//!
//! Trade-off: `due` is a tree and not a heap with lazy deletion, which would be quicker to write
//! to: acknowledged leases of 12 hours would stay in the heap for 12 hours.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limits::{
    DEAD_PER_RECEIVE, IN_FLIGHT_MAX, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX, SETTLE_PER_OPERATION,
    VISIBILITY_MAX_MS,
};
use crate::message::{
    Content, Delivery, Epoch, MessageId, NewMessage, Phase, Position, QueueId, Receipt, Sent, Seq,
};
use crate::queue::{Ask, Error};
use crate::settings::Settings;

mod journal;
mod lanes;
mod looks;
mod memory_of;
#[cfg(test)]
mod properties;
mod table;

pub use journal::{Change, Journal, Unrecorded};
use lanes::{LaneNumber, Lanes};
pub use memory_of::Duplicate;
use memory_of::{Attempts, Duplicates, Key};
use table::Table;

/// A message and what became of it so far.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Its identity.
    pub id: MessageId,
    /// Its place.
    pub seq: Seq,
    /// What was sent.
    pub content: Arc<Content>,
    /// When.
    pub sent_at_ms: u64,
    /// How often it was received in this queue.
    pub receives: u32,
    /// How often it was leased, in any queue.
    pub epoch: Epoch,
    /// When it was received first.
    pub first_received_at_ms: u64,
    /// Where it stands.
    pub phase: Phase,
    /// The queue it was given up in.
    pub dead_letter_source: Option<QueueId>,
}

/// A message in its queue, with what every step needs of its content: reading that means waiting
/// for memory.
#[derive(Debug)]
struct Kept {
    message: Message,
    lane: LaneNumber,
    bytes: u32,
}

/// What a receive found.
#[derive(Debug, Default)]
pub struct Received {
    /// Leased to the caller.
    pub deliveries: Vec<Delivery>,
    /// Given up: taken out of this queue, to be [accepted](QueueState::accept) by its dead-letter
    /// queue in the same step.
    pub dead: Vec<Message>,
}

/// One queue.
#[derive(Debug)]
pub struct QueueState {
    number: u64,
    /// Read by everybody, changed through [`configure`](Self::configure).
    settings: Settings,
    messages: Table<Kept>,
    lanes: Lanes,
    due: BTreeSet<(u64, Seq)>,
    by_age: BTreeSet<Position>,
    duplicates: Duplicates,
    attempts: Attempts,
    in_flight: usize,
    delayed: usize,
    /// The end of the last delay given.
    delayed_until_ms: u64,
    bytes: usize,
    purged_at_ms: Option<u64>,
}

impl QueueState {
    /// An empty queue. `number` is never used again for another queue.
    pub fn new(number: u64, settings: Settings) -> Self {
        Self {
            number,
            lanes: Lanes::new(settings.fifo.is_some()),
            settings,
            messages: Table::default(),
            due: BTreeSet::new(),
            by_age: BTreeSet::new(),
            duplicates: Duplicates::default(),
            attempts: Attempts::default(),
            in_flight: 0,
            delayed: 0,
            delayed_until_ms: 0,
            bytes: 0,
            purged_at_ms: None,
        }
    }

    /// The queue's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replaces the settings. Messages keep the delay and the lease they were given.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Stores a message under the fresh number `seq`, or finds the original it duplicates.
    ///
    /// # Errors
    /// [`Error::Invalid`] on a FIFO queue without group or deduplication id, [`Error::Full`].
    pub fn send(
        &mut self,
        seq: Seq,
        new: NewMessage,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Result<Sent, Error> {
        self.settle(now_ms, journal);
        let key = self.duplicate_key(&new.content)?;
        if let Some(original) = key.as_ref().and_then(|key| self.duplicates.find(key)) {
            return Ok(original);
        }
        self.check_room(new.content.bytes())?;
        let sent = Sent { id: new.id, seq };
        if let Some(key) = key {
            let record = self.duplicates.remember(key, sent, now_ms)?;
            journal.record(|| Change::Accepted { queue_number: self.number, record });
        }
        let phase = self.first_phase(new.delay_ms, now_ms);
        self.insert(
            Message {
                id: new.id,
                seq,
                content: new.content,
                sent_at_ms: now_ms,
                receives: 0,
                epoch: Epoch(0),
                first_received_at_ms: 0,
                phase,
                dead_letter_source: None,
            },
            journal,
        );
        Ok(sent)
    }

    /// Ready or delayed. On a FIFO queue nobody is ready before those sent earlier, also when the
    /// queue's delay was shortened in between: that would be delivery out of order.
    fn first_phase(&mut self, delay_ms: Option<u64>, now_ms: u64) -> Phase {
        let mut until_ms = now_ms + delay_ms.unwrap_or(self.settings.delay_ms);
        if self.settings.fifo.is_some() {
            until_ms = until_ms.max(self.delayed_until_ms);
        }
        if until_ms <= now_ms {
            return Phase::Ready;
        }
        self.delayed_until_ms = until_ms;
        Phase::Delayed { until_ms }
    }

    /// Takes in a message from another queue: a dead letter, or one that is given another chance.
    /// It keeps identity and epoch, and begins anew as to receives.
    pub fn accept(
        &mut self,
        message: Message,
        seq: Seq,
        dead_letter_source: Option<QueueId>,
        now_ms: u64,
        journal: &mut impl Journal,
    ) {
        // A standard queue keeps the age, so that nothing lives for ever by moving; a FIFO queue
        // starts the retention anew, as SQS does.
        let sent_at_ms = if self.settings.fifo.is_some() { now_ms } else { message.sent_at_ms };
        let moved = Message {
            seq,
            sent_at_ms,
            receives: 0,
            first_received_at_ms: 0,
            phase: Phase::Ready,
            dead_letter_source,
            ..message
        };
        self.insert(moved, journal);
    }

    /// Whether `bytes` more fit.
    ///
    /// # Errors
    /// [`Error::Full`], naming the bound.
    pub fn check_room(&self, bytes: usize) -> Result<(), Error> {
        if self.messages.len() >= QUEUE_MESSAGES_MAX {
            return Err(Error::Full { what: "the queue (messages)", limit: QUEUE_MESSAGES_MAX });
        }
        if self.bytes + bytes > QUEUE_BYTES_MAX {
            return Err(Error::Full { what: "the queue (bytes)", limit: QUEUE_BYTES_MAX });
        }
        Ok(())
    }

    /// Leases up to `ask.max` messages. Messages received too often are taken out, if there
    /// `is_dead_letter_queue` to take them; otherwise they are delivered, because losing them is
    /// worse than one more attempt.
    ///
    /// # Errors
    /// [`Error::TooManyInFlight`] on a standard queue.
    pub fn receive(
        &mut self,
        ask: &Ask,
        has_dead_letter_queue: bool,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Result<Received, Error> {
        self.settle(now_ms, journal);
        let until_ms = now_ms + ask.visibility_ms.unwrap_or(self.settings.visibility_timeout_ms);
        if let Some(attempt) = &ask.attempt
            && let Some(deliveries) = self.replay(attempt, now_ms, until_ms, journal)
        {
            return Ok(Received { deliveries, dead: vec![] });
        }
        if self.in_flight >= IN_FLIGHT_MAX {
            return match self.settings.fifo {
                Some(_) => Ok(Received::default()),
                None => Err(Error::TooManyInFlight),
            };
        }
        let receives_max = match &self.settings.redrive {
            Some(redrive) if has_dead_letter_queue => redrive.max_receives,
            _ => u32::MAX,
        };
        let mut received = Received::default();
        while received.deliveries.len() < ask.max && received.dead.len() < DEAD_PER_RECEIVE {
            let Some(lane) = self.lanes.next() else { break };
            // FIFO: as many as possible from one group, which is then closed until they are done.
            // Standard: one from each tenant in turn, so that nobody's backlog hides another's.
            let share =
                if self.lanes.are_exclusive() { ask.max - received.deliveries.len() } else { 1 };
            self.lease_from(lane, share, receives_max, (now_ms, until_ms), &mut received, journal);
            self.lanes.offer(lane);
        }
        if let Some(attempt) = &ask.attempt {
            self.attempts.remember(attempt, &received.deliveries, now_ms);
        }
        Ok(received)
    }

    fn lease_from(
        &mut self,
        lane: LaneNumber,
        share: usize,
        receives_max: u32,
        (now_ms, until_ms): (u64, u64),
        received: &mut Received,
        journal: &mut impl Journal,
    ) {
        let mut leased = 0;
        while leased < share && received.dead.len() < DEAD_PER_RECEIVE {
            let Some(seq) = self.lanes.take(lane) else { break };
            let kept = self.messages.get_mut(seq).expect("a message in a lane is stored");
            let message = &mut kept.message;
            if message.sent_at_ms + self.settings.retention_ms <= now_ms {
                self.forget(seq, journal);
                continue;
            }
            if message.receives >= receives_max {
                received.dead.extend(self.forget(seq, journal));
                continue;
            }
            message.receives += 1;
            message.epoch.0 += 1;
            if message.receives == 1 {
                message.first_received_at_ms = now_ms;
            }
            message.phase = Phase::Leased { until_ms, since_ms: now_ms };
            self.due.insert((until_ms, seq));
            self.in_flight += 1;
            self.lanes.lease(lane);
            journal.record(|| Change::leased(message));
            received.deliveries.push(delivery(self.number, message));
            leased += 1;
        }
    }

    /// The messages an attempt got before, with their leases renewed, if it still holds them all.
    fn replay(
        &mut self,
        attempt: &str,
        now_ms: u64,
        until_ms: u64,
        journal: &mut impl Journal,
    ) -> Option<Vec<Delivery>> {
        let held = self.attempts.find(attempt, now_ms)?;
        let still_held = held.iter().all(|&(seq, epoch)| {
            let message = self.message(seq);
            message.is_some_and(|it| it.epoch == epoch && matches!(it.phase, Phase::Leased { .. }))
        });
        if held.is_empty() || !still_held {
            return None;
        }
        let renewed = held.into_iter().map(|(seq, _)| {
            self.set_due(seq, until_ms, journal);
            delivery(self.number, self.message(seq).expect("it was held a line above"))
        });
        Some(renewed.collect())
    }

    /// Deletes the message whose lease `receipt` proves.
    ///
    /// # Errors
    /// As [`Queues::delete`](crate::queue::Queues::delete).
    pub fn delete(
        &mut self,
        receipt: Receipt,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Result<Option<Message>, Error> {
        self.settle(now_ms, journal);
        let Some(message) = self.named_by(receipt)? else { return Ok(None) };
        if message.epoch != receipt.epoch {
            return Err(Error::Stale);
        }
        // On a standard queue a late worker may still say "done", as long as nobody else has
        // begun. On a FIFO queue the next in line may have: its order is gone, so it must not.
        let is_leased = matches!(message.phase, Phase::Leased { .. });
        if self.settings.fifo.is_some() && !is_leased {
            return Err(Error::Expired);
        }
        Ok(self.forget(receipt.seq, journal))
    }

    /// Moves the end of a lease to `now + visibility_ms`.
    ///
    /// # Errors
    /// As [`Queues::change_visibility`](crate::queue::Queues::change_visibility).
    pub fn change_visibility(
        &mut self,
        receipt: Receipt,
        visibility_ms: u64,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Result<(), Error> {
        self.settle(now_ms, journal);
        let Some(message) = self.named_by(receipt)? else { return Err(Error::NotInFlight) };
        if message.epoch != receipt.epoch {
            return Err(Error::Stale);
        }
        let Phase::Leased { since_ms, .. } = message.phase else { return Err(Error::NotInFlight) };
        if now_ms + visibility_ms > since_ms + VISIBILITY_MAX_MS {
            return Err(Error::lease_too_long());
        }
        self.set_due(receipt.seq, now_ms + visibility_ms, journal);
        self.settle(now_ms, journal);
        Ok(())
    }

    /// The message a receipt names; `None` when it is gone.
    fn named_by(&self, receipt: Receipt) -> Result<Option<&Message>, Error> {
        if receipt.queue_number != self.number {
            return Err(Error::ReceiptInvalid);
        }
        match self.message(receipt.seq) {
            Some(message) if receipt.epoch > message.epoch => Err(Error::ReceiptInvalid),
            found => Ok(found),
        }
    }

    fn message(&self, seq: Seq) -> Option<&Message> {
        self.messages.get(seq).map(|kept| &kept.message)
    }

    /// Deletes everything.
    ///
    /// # Errors
    /// [`Error::PurgedRecently`].
    pub fn purge(&mut self, now_ms: u64, journal: &mut impl Journal) -> Result<(), Error> {
        let recently = |at: u64| now_ms < at + crate::limits::PURGE_INTERVAL_MS;
        if self.purged_at_ms.is_some_and(recently) {
            return Err(Error::PurgedRecently);
        }
        self.purged_at_ms = Some(now_ms);
        self.messages.clear();
        self.due.clear();
        self.by_age.clear();
        self.lanes = Lanes::new(self.settings.fifo.is_some());
        (self.in_flight, self.delayed, self.bytes) = (0, 0, 0);
        journal.record(|| Change::Purged { queue_number: self.number });
        Ok(())
    }

    /// Takes the next ready message out, to be accepted elsewhere.
    pub fn take_ready(&mut self, now_ms: u64, journal: &mut impl Journal) -> Option<Message> {
        self.settle(now_ms, journal);
        while let Some(lane) = self.lanes.next() {
            let taken = self.lanes.take(lane);
            self.lanes.offer(lane);
            if let Some(seq) = taken {
                return self.forget(seq, journal);
            }
        }
        None
    }

    /// Lets time have its effect: ends delays and leases that are due, forgets what is past its
    /// retention.
    pub fn settle(&mut self, now_ms: u64, journal: &mut impl Journal) {
        self.duplicates.expire(now_ms);
        self.end_what_is_due(now_ms);
        for _ in 0..SETTLE_PER_OPERATION {
            let Some(&oldest) = self.by_age.first() else { break };
            if oldest.sent_at_ms + self.settings.retention_ms > now_ms {
                break;
            }
            self.forget(oldest.seq, journal);
        }
    }

    /// How many waiting consumers have something to do since this was last asked. Whoever changes
    /// the queue asks and wakes them, also when the change had another purpose: a message whose
    /// lease is found to be over by somebody's *delete* must not wait for the next send.
    pub fn take_news(&mut self) -> usize {
        self.lanes.take_news()
    }

    /// Makes ready what was delayed or leased until now. There is nothing to journal: the end was
    /// written down when it was set.
    pub fn end_what_is_due(&mut self, now_ms: u64) {
        for _ in 0..SETTLE_PER_OPERATION {
            let Some(&(_, seq)) = self.due.first().filter(|&&(at_ms, _)| at_ms <= now_ms) else {
                return;
            };
            self.due.pop_first();
            let kept = self.messages.get_mut(seq).expect("a message that is due is stored");
            match kept.message.phase {
                Phase::Delayed { .. } => self.delayed -= 1,
                Phase::Leased { .. } => {
                    self.in_flight -= 1;
                    self.lanes.release(kept.lane);
                }
                Phase::Ready => unreachable!("only delayed and leased messages are due"),
            }
            kept.message.phase = Phase::Ready;
            self.lanes.put(kept.lane, seq);
        }
    }

    /// Puts a message into every structure.
    fn insert(&mut self, message: Message, journal: &mut impl Journal) {
        journal.record(|| Change::Stored {
            queue_number: self.number,
            message: Box::new(message.clone()),
        });
        self.restore(message);
    }

    /// The same for a message that is on disk already.
    pub fn restore(&mut self, message: Message) {
        let lane = self.lanes.enter(&message.content);
        let (seq, bytes) = (message.seq, message.content.bytes());
        match message.phase {
            Phase::Ready => self.lanes.put(lane, seq),
            Phase::Delayed { until_ms } => {
                self.due.insert((until_ms, seq));
                self.delayed += 1;
                self.delayed_until_ms = self.delayed_until_ms.max(until_ms);
            }
            Phase::Leased { until_ms, .. } => {
                self.due.insert((until_ms, seq));
                self.in_flight += 1;
                self.lanes.lease(lane);
            }
        }
        self.by_age.insert(Position { sent_at_ms: message.sent_at_ms, seq });
        self.bytes += bytes;
        let bytes = u32::try_from(bytes).expect("a message has at most a few megabytes");
        self.messages.insert(seq, Kept { message, lane, bytes });
    }

    /// Remembers a deduplication id that is on disk already.
    pub fn restore_duplicate(&mut self, record: Duplicate) {
        self.duplicates.restore(record);
    }

    /// Takes a message out of every structure.
    fn forget(&mut self, seq: Seq, journal: &mut impl Journal) -> Option<Message> {
        let Kept { message, lane, bytes } = self.messages.remove(seq)?;
        self.by_age.remove(&Position { sent_at_ms: message.sent_at_ms, seq });
        self.bytes -= bytes as usize;
        match message.phase {
            Phase::Ready => self.lanes.withdraw(lane, seq),
            Phase::Delayed { until_ms } => {
                self.due.remove(&(until_ms, seq));
                self.delayed -= 1;
            }
            Phase::Leased { until_ms, .. } => {
                self.due.remove(&(until_ms, seq));
                self.in_flight -= 1;
                self.lanes.release(lane);
                self.lanes.offer(lane);
            }
        }
        self.lanes.leave(lane);
        journal.record(|| Change::Removed { seq });
        Some(message)
    }

    fn set_due(&mut self, seq: Seq, until_ms: u64, journal: &mut impl Journal) {
        let kept = self.messages.get_mut(seq).expect("a leased message is stored");
        let message = &mut kept.message;
        if let Phase::Leased { until_ms: before_ms, since_ms } = message.phase {
            self.due.remove(&(before_ms, seq));
            self.due.insert((until_ms, seq));
            message.phase = Phase::Leased { until_ms, since_ms };
            journal.record(|| Change::leased(message));
        }
    }

    fn duplicate_key(&self, content: &Content) -> Result<Option<Key>, Error> {
        let Some(fifo) = &self.settings.fifo else { return Ok(None) };
        let group = content.group.as_ref().ok_or_else(|| missing("MessageGroupId"))?;
        let id = content.dedup_id.as_ref().ok_or_else(|| missing("MessageDeduplicationId"))?;
        Ok(Some(Key::new(fifo.dedup_scope, group, id)))
    }
}

fn missing(field: &'static str) -> Error {
    Error::invalid(field, "is required on a FIFO queue")
}

fn delivery(queue_number: u64, message: &Message) -> Delivery {
    Delivery {
        id: message.id,
        seq: message.seq,
        receipt: Receipt { queue_number, seq: message.seq, epoch: message.epoch },
        content: Arc::clone(&message.content),
        sent_at_ms: message.sent_at_ms,
        receives: message.receives,
        first_received_at_ms: message.first_received_at_ms,
        dead_letter_source: message.dead_letter_source.clone(),
    }
}
