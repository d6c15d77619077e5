//! All queues of a store: one lock each, so that queues do not wait for one another, and the moves
//! between two of them.
//!
//! Still no clock and no async: `now` comes in, and what is to be written down goes out through
//! the journal. The in-memory answer calls it directly, the SQLite answer inside its writer's
//! transaction.
//!
//! Invariant: no two queues are locked at once. A message on its way between two is in the hands
//! of the caller, and goes back if the other queue turns out to be gone.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::limits::{QUEUES_MAX, TRANSFER_MAX};
use crate::message::{Delivery, NewMessage, Peeked, Phase, Position, QueueId, Receipt, Sent, Seq};
use crate::meter::{Meter, Reading};
use crate::queue::{Ask, Counts, Created, Error, Transferred};
use crate::settings::Settings;
use crate::state::{Journal, Message, QueueState};

/// Queues by region and name.
#[derive(Debug, Default)]
pub struct Engine {
    queues: RwLock<BTreeMap<QueueId, Arc<Slot>>>,
    next_queue_number: AtomicU64,
    next_seq: AtomicU64,
}

/// One queue, its numbers, and who is to be told when it has something.
#[derive(Debug)]
pub struct Slot {
    state: Mutex<QueueState>,
    meter: Mutex<Meter>,
    removed: AtomicBool,
    /// Told once for every message that becomes ready; wakes consumers in the order they came.
    pub ready: Notify,
    /// Told when an earlier time became the next due one.
    pub due_changed: Notify,
}

impl Slot {
    fn new(number: u64, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(QueueState::new(number, settings)),
            meter: Mutex::default(),
            removed: AtomicBool::new(false),
            ready: Notify::new(),
            due_changed: Notify::new(),
        })
    }

    /// Whether the queue was deleted while somebody held on to it.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Runs `work` on the state, then tells the consumers and the watch what it brought about.
    /// Every access goes through here, so none can forget to.
    pub fn with<T>(&self, work: impl FnOnce(&mut QueueState) -> T) -> T {
        let mut state = self.state.lock();
        let due_before_ms = state.next_due_ms();
        let done = work(&mut state);
        let (due_ms, news) = (state.next_due_ms(), state.take_news());
        drop(state);
        if due_ms != due_before_ms {
            self.due_changed.notify_one();
        }
        for _ in 0..news {
            self.ready.notify_one();
        }
        done
    }
}

impl Engine {
    /// The queue, or [`Error::NoSuchQueue`].
    pub fn slot(&self, queue: &QueueId) -> Result<Arc<Slot>, Error> {
        self.queues.read().get(queue).cloned().ok_or(Error::NoSuchQueue)
    }

    /// See [`Queues::create`](crate::queue::Queues::create). With the number of a new queue.
    pub fn create(
        &self,
        queue: &QueueId,
        mut settings: Settings,
        now_ms: u64,
    ) -> Result<(Created, Option<u64>), Error> {
        if let Ok(slot) = self.slot(queue) {
            return Ok((Created::Existing(Box::new(slot.with(|it| it.settings().clone()))), None));
        }
        self.check_redrive(queue, &settings)?;
        (settings.created_at_ms, settings.modified_at_ms) = (now_ms, now_ms);
        let mut queues = self.queues.write();
        if let Some(slot) = queues.get(queue) {
            let settings = slot.with(|it| it.settings().clone());
            return Ok((Created::Existing(Box::new(settings)), None));
        }
        if queues.len() >= QUEUES_MAX {
            return Err(Error::Full { what: "the store (queues)", limit: QUEUES_MAX });
        }
        let number = self.next_queue_number.fetch_add(1, Ordering::Relaxed) + 1;
        queues.insert(queue.clone(), Slot::new(number, settings));
        Ok((Created::New, Some(number)))
    }

    /// Puts back a queue that is on disk.
    pub fn restore_queue(&self, queue: QueueId, number: u64, settings: Settings) -> Arc<Slot> {
        let slot = Slot::new(number, settings);
        self.queues.write().insert(queue, Arc::clone(&slot));
        self.next_queue_number.fetch_max(number, Ordering::Relaxed);
        slot
    }

    /// No queue and no message gets a number at or below these.
    pub fn continue_after(&self, queue_number: u64, seq: Seq) {
        self.next_queue_number.fetch_max(queue_number, Ordering::Relaxed);
        self.next_seq.fetch_max(seq.0, Ordering::Relaxed);
    }

    /// The highest numbers given out: of queues, of messages.
    pub fn last_numbers(&self) -> (u64, u64) {
        let (queues, messages) = (&self.next_queue_number, &self.next_seq);
        (queues.load(Ordering::Relaxed), messages.load(Ordering::Relaxed))
    }

    /// Every queue.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.queues.read().values().cloned().collect()
    }

    /// Forgets everything, to be restored from disk.
    pub fn clear(&self) {
        for slot in std::mem::take(&mut *self.queues.write()).into_values() {
            slot.removed.store(true, Ordering::Release);
            slot.ready.notify_waiters();
            slot.due_changed.notify_waiters();
        }
    }

    /// Deletes a queue and returns its number.
    pub fn remove(&self, queue: &QueueId) -> Result<u64, Error> {
        let slot = self.queues.write().remove(queue).ok_or(Error::NoSuchQueue)?;
        slot.removed.store(true, Ordering::Release);
        // Its consumers learn at once that it is gone.
        slot.ready.notify_waiters();
        slot.due_changed.notify_waiters();
        Ok(slot.with(|it| it.number()))
    }

    /// See [`Queues::list`](crate::queue::Queues::list).
    pub fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(QueueId, Settings)> {
        let from = match after {
            Some(name) => Bound::Excluded(QueueId::new(region, name)),
            None => Bound::Included(QueueId::new(region, "")),
        };
        let queues = self.queues.read();
        let here =
            queues.range((from, Bound::Unbounded)).take_while(|(id, _)| *id.region == *region);
        here.take(limit)
            .map(|(id, slot)| (id.clone(), slot.with(|it| it.settings().clone())))
            .collect()
    }

    /// Changes settings; returns the queue's number and the new settings.
    pub fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error>,
        now_ms: u64,
    ) -> Result<(u64, Settings), Error> {
        let slot = self.slot(queue)?;
        let mut settings = slot.with(|it| it.settings().clone());
        change(&mut settings)?;
        self.check_redrive(queue, &settings)?;
        settings.modified_at_ms = now_ms;
        Ok(slot.with(|it| {
            it.configure(settings.clone());
            (it.number(), settings)
        }))
    }

    fn check_redrive(&self, queue: &QueueId, settings: &Settings) -> Result<(), Error> {
        let target = settings.redrive.as_ref().and_then(|it| self.slot(&it.target).ok());
        let target = target.map(|slot| slot.with(|it| it.settings().clone()));
        settings.check_redrive(queue, target.as_ref())
    }

    /// See [`Queues::send`](crate::queue::Queues::send).
    pub fn send(
        &self,
        slot: &Slot,
        messages: Vec<NewMessage>,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Vec<Result<Sent, Error>> {
        let count = messages.len() as u64;
        let first = self.next_seq.fetch_add(count, Ordering::Relaxed) + 1;
        let numbered = (first..).map(Seq).zip(messages);
        let sent: Vec<_> = slot.with(|state| {
            numbered.map(|(seq, message)| state.send(seq, message, now_ms, journal)).collect()
        });
        slot.meter.lock().sent(sent.len());
        sent
    }

    /// One look, without waiting. See [`Queues::receive`](crate::queue::Queues::receive).
    pub fn receive(
        &self,
        queue: &QueueId,
        slot: &Slot,
        ask: &Ask,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Result<Vec<Delivery>, Error> {
        let target = slot.with(|state| state.settings().redrive.clone());
        let target_slot = target.and_then(|redrive| self.slot(&redrive.target).ok());
        let received =
            slot.with(|state| state.receive(ask, target_slot.is_some(), now_ms, journal))?;
        if let Some(target) = target_slot {
            for message in received.dead {
                self.put(&target, message, Some(queue.clone()), now_ms, journal);
            }
        }
        slot.meter.lock().received(&received.deliveries, now_ms);
        Ok(received.deliveries)
    }

    fn put(
        &self,
        target: &Slot,
        message: Message,
        source: Option<QueueId>,
        now_ms: u64,
        journal: &mut impl Journal,
    ) {
        let seq = Seq(self.next_seq.fetch_add(1, Ordering::Relaxed) + 1);
        target.with(|state| state.accept(message, seq, source, now_ms, journal));
    }

    /// See [`Queues::delete`](crate::queue::Queues::delete).
    pub fn delete(
        &self,
        slot: &Slot,
        receipts: &[Receipt],
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Vec<Result<(), Error>> {
        let mut meter = slot.meter.lock();
        slot.with(|state| {
            let deleted = receipts.iter().map(|&receipt| {
                let message = state.delete(receipt, now_ms, journal)?;
                if let Some(Message { phase: Phase::Leased { since_ms, .. }, .. }) = message {
                    meter.deleted(now_ms.saturating_sub(since_ms), now_ms);
                }
                Ok(())
            });
            deleted.collect()
        })
    }

    /// See [`Queues::change_visibility`](crate::queue::Queues::change_visibility).
    pub fn change_visibility(
        &self,
        slot: &Slot,
        changes: &[(Receipt, u64)],
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Vec<Result<(), Error>> {
        slot.with(|state| {
            let change = |&(receipt, ms)| state.change_visibility(receipt, ms, now_ms, journal);
            changes.iter().map(change).collect()
        })
    }

    /// See [`Queues::purge`](crate::queue::Queues::purge).
    pub fn purge(&self, slot: &Slot, now_ms: u64, journal: &mut impl Journal) -> Result<(), Error> {
        slot.with(|state| state.purge(now_ms, journal))
    }

    /// See [`Queues::transfer`](crate::queue::Queues::transfer).
    pub fn transfer(
        &self,
        from: &Slot,
        to: Option<&QueueId>,
        limit: usize,
        now_ms: u64,
        journal: &mut impl Journal,
    ) -> Transferred {
        let mut transferred = Transferred::default();
        let mut stay = Vec::new();
        for _ in 0..limit.min(TRANSFER_MAX) {
            let taken = from.with(|state| state.take_ready(now_ms, journal));
            let Some(message) = taken else { break };
            let target = to.or(message.dead_letter_source.as_ref());
            match target.and_then(|target| self.slot(target).ok()) {
                Some(target) if target.with(|it| it.check_room(0)).is_ok() => {
                    self.put(&target, message, None, now_ms, journal);
                    transferred.moved += 1;
                }
                _ => stay.push(message),
            }
        }
        for message in stay {
            let source = message.dead_letter_source.clone();
            self.put(from, message, source, now_ms, journal);
            transferred.failed += 1;
        }
        transferred
    }

    /// See [`Queues::counts`](crate::queue::Queues::counts).
    pub fn counts(&self, slot: &Slot, now_ms: u64) -> Counts {
        slot.with(|state| state.counts_at(now_ms))
    }

    /// See [`Queues::peek`](crate::queue::Queues::peek).
    pub fn peek(&self, slot: &Slot, after: Position, limit: usize) -> Vec<Peeked> {
        slot.with(|state| state.peek(after, limit))
    }

    /// Rates and latencies of every queue, for `stats`.
    pub fn readings(&self, now_ms: u64) -> Vec<(QueueId, Counts, Reading)> {
        let slots: Vec<_> =
            self.queues.read().iter().map(|(id, it)| (id.clone(), Arc::clone(it))).collect();
        let read = |(id, slot): (QueueId, Arc<Slot>)| {
            let counts = slot.with(|state| state.counts_at(now_ms));
            let reading = slot.meter.lock().read(now_ms);
            (id, counts, reading)
        };
        slots.into_iter().map(read).collect()
    }
}
