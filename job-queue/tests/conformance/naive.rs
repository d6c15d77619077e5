//! The queue as a candidate writes it: one lock, one list, and a scan for everything. Right when
//! nothing is switched on; each [`Bug`] is one mistake, as candidates and shipped queues make them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use job_queue::clock::Clock;
use job_queue::conformance::{EPOCH_MS, Fixture};
use job_queue::limits::{DEDUP_WINDOW_MS, PURGE_INTERVAL_MS, VISIBILITY_MAX_MS};
use job_queue::message::{Epoch, Phase, Position, Seq};
use job_queue::settings::Scope;
use job_queue::{
    Ask, Content, Counts, Created, Delivery, Error, MessageId, NewMessage, Peeked, QueueId, Queues,
    Receipt, Sent, Settings, Transferred,
};
use tokio::sync::Notify;

use super::bugs::Bug;

pub(crate) struct Naive {
    clock: Clock,
    bug: Option<Bug>,
    queues: Mutex<BTreeMap<QueueId, Queue>>,
    changed: Notify,
    last_number: Mutex<(u64, u64)>,
}

struct Queue {
    number: u64,
    settings: Settings,
    messages: Vec<Message>,
    accepted: Vec<(String, Sent, u64)>,
    attempts: Vec<(Arc<str>, Vec<Receipt>)>,
    purged_at_ms: Option<u64>,
}

impl Queue {
    fn new(number: u64, settings: Settings) -> Self {
        let (messages, accepted, attempts) = (vec![], vec![], vec![]);
        Self { number, settings, messages, accepted, attempts, purged_at_ms: None }
    }
}

#[derive(Clone)]
struct Message {
    id: MessageId,
    seq: Seq,
    content: Arc<Content>,
    sent_at_ms: u64,
    hidden_until_ms: u64,
    leased_since_ms: Option<u64>,
    receives: u32,
    epoch: Epoch,
    first_received_at_ms: u64,
    source: Option<QueueId>,
}

impl Message {
    fn is_leased(&self, now_ms: u64) -> bool {
        self.leased_since_ms.is_some() && self.hidden_until_ms > now_ms
    }

    fn delivery(&self, queue_number: u64) -> Delivery {
        Delivery {
            id: self.id,
            seq: self.seq,
            receipt: Receipt { queue_number, seq: self.seq, epoch: self.epoch },
            content: Arc::clone(&self.content),
            sent_at_ms: self.sent_at_ms,
            receives: self.receives,
            first_received_at_ms: self.first_received_at_ms,
            dead_letter_source: self.source.clone(),
        }
    }
}

impl Naive {
    pub(crate) fn with(bug: Option<Bug>) -> Self {
        Self {
            clock: Clock::manual(EPOCH_MS),
            bug,
            queues: Mutex::default(),
            changed: Notify::new(),
            last_number: Mutex::new((0, 0)),
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<QueueId, Queue>> {
        self.queues.lock().unwrap()
    }

    fn key(&self, queue: &QueueId) -> QueueId {
        if self.has(Bug::RegionsAreOne) { QueueId::new("", &queue.name) } else { queue.clone() }
    }

    fn with_queue<T>(
        &self,
        queue: &QueueId,
        work: impl FnOnce(&mut Queue, u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let now_ms = self.clock.now_ms();
        let mut queues = self.all();
        let queue = queues.get_mut(&self.key(queue)).ok_or(Error::NoSuchQueue)?;
        self.expire(queue, now_ms);
        work(queue, now_ms)
    }

    fn expire(&self, queue: &mut Queue, now_ms: u64) {
        let retention_ms = queue.settings.retention_ms;
        let counts_from_the_last_receive = self.has(Bug::RetentionStartsAgainWithEachReceive);
        queue.messages.retain(|it| {
            let since = it.leased_since_ms.filter(|_| counts_from_the_last_receive);
            since.unwrap_or(it.sent_at_ms) + retention_ms > now_ms
        });
        if !self.has(Bug::DuplicatesForEver) {
            queue.accepted.retain(|(_, _, until_ms)| *until_ms > now_ms);
        }
    }

    fn next_seq(&self) -> Seq {
        let last = &mut self.last_number.lock().unwrap().1;
        *last += 1;
        Seq(*last)
    }

    fn wake(&self) {
        if self.has(Bug::WakesOneForABatch) {
            return self.changed.notify_one();
        }
        self.changed.notify_waiters();
    }

    fn send_one(&self, queue: &mut Queue, new: NewMessage, now_ms: u64) -> Result<Sent, Error> {
        let mut sent = Sent { id: new.id, seq: Seq(0) };
        if let Some(fifo) = &queue.settings.fifo {
            let missing = |field| Error::Invalid { field, reason: "is required".to_owned() };
            let group = new.content.group.as_deref().ok_or_else(|| missing("MessageGroupId"))?;
            let id = new.content.dedup_id.as_deref().ok_or_else(|| missing("Deduplication"))?;
            let key = match fifo.dedup_scope {
                Scope::MessageGroup if !self.has(Bug::IgnoresTheScope) => format!("{group}\n{id}"),
                _ => id.to_owned(),
            };
            let is_stored = |it: &Sent| queue.messages.iter().any(|message| message.id == it.id);
            let original = queue.accepted.iter().find(|(other, original, _)| {
                *other == key
                    && (!self.has(Bug::ForgetsDuplicatesOfTheDeleted) || is_stored(original))
            });
            if let Some((_, original, _)) = original {
                return Ok(*original);
            }
            sent.seq = self.next_seq();
            queue.accepted.push((key, sent, now_ms + DEDUP_WINDOW_MS));
        } else {
            sent.seq = self.next_seq();
        }
        let own = new.delay_ms.filter(|_| !self.has(Bug::IgnoresTheMessagesDelay));
        queue.messages.push(Message {
            id: new.id,
            seq: sent.seq,
            content: new.content,
            sent_at_ms: now_ms,
            hidden_until_ms: now_ms + own.unwrap_or(queue.settings.delay_ms),
            leased_since_ms: None,
            receives: 0,
            epoch: Epoch(0),
            first_received_at_ms: 0,
            source: None,
        });
        Ok(sent)
    }

    fn candidates(&self, queue: &Queue, max: usize, now_ms: u64) -> Vec<Seq> {
        let late_ms = u64::from(self.has(Bug::LeasesEndAMillisecondLate));
        let visible =
            |it: &&Message| it.hidden_until_ms + late_ms <= now_ms || it.hidden_until_ms == 0;
        let group = |it: &Message| it.content.group.clone().unwrap_or_default();
        let mut visible: Vec<&Message> = queue.messages.iter().filter(visible).collect();
        if self.has(Bug::ExpiredLeasesGoToTheBack) {
            visible.sort_by_key(|it| it.receives);
        }
        if queue.settings.fifo.is_some() {
            let leased: Vec<_> =
                queue.messages.iter().filter(|it| it.is_leased(now_ms)).map(group).collect();
            if self.has(Bug::OneGroupBlocksAll) && !leased.is_empty() {
                return vec![];
            }
            if !self.has(Bug::GroupsAreNotBlocked) {
                visible.retain(|it| !leased.contains(&group(it)));
            }
        } else if !self.has(Bug::FirstComeFirstServed) {
            // The n-th of every tenant before anybody's n-th plus one.
            let mut seen = BTreeMap::new();
            let mut ranked: Vec<_> = visible
                .iter()
                .map(|it| {
                    let rank = seen.entry(group(it)).and_modify(|n| *n += 1).or_insert(0);
                    (*rank, it.seq)
                })
                .collect();
            ranked.sort_unstable();
            return ranked.into_iter().take(max).map(|(_, seq)| seq).collect();
        }
        visible.iter().take(max).map(|it| it.seq).collect()
    }

    fn lease(&self, queue: &mut Queue, seq: Seq, ask: &Ask, now_ms: u64) -> Option<Delivery> {
        let until_ms = now_ms + ask.visibility_ms.unwrap_or(queue.settings.visibility_timeout_ms);
        let number = queue.number;
        let at = queue.messages.iter().position(|it| it.seq == seq)?;
        let message = &mut queue.messages[at];
        let had = message.receives;
        message.receives += 1;
        message.epoch.0 += 1;
        if had == 0 {
            message.first_received_at_ms = now_ms;
        }
        message.leased_since_ms = Some(now_ms);
        message.hidden_until_ms = until_ms;
        let delivery = message.delivery(number);
        if self.has(Bug::CountsFailuresNotReceives) {
            message.receives = had;
        }
        if self.has(Bug::DeletesWhenItDelivers) {
            queue.messages.remove(at);
        }
        Some(delivery)
    }

    /// Moves what was received too often to the dead-letter queue.
    fn bury(&self, id: &QueueId, now_ms: u64) {
        let mut queues = self.all();
        let Some(queue) = queues.get_mut(&self.key(id)) else { return };
        let Some(redrive) = queue.settings.redrive.clone() else { return };
        let is_dead =
            |it: &Message| it.receives >= redrive.max_receives && it.hidden_until_ms <= now_ms;
        let dead: Vec<_> = queue.messages.iter().filter(|it| is_dead(it)).cloned().collect();
        let has_target = queues.contains_key(&self.key(&redrive.target));
        if !has_target && !self.has(Bug::DropsWhatHasNoDeadLetterQueue) {
            return;
        }
        let queue = queues.get_mut(&self.key(id)).unwrap();
        queue.messages.retain(|it| !is_dead(it));
        if let Some(target) = queues.get_mut(&self.key(&redrive.target)) {
            for message in dead {
                let source = (!self.has(Bug::ForgetsWhereItCameFrom)).then(|| id.clone());
                self.put(target, message, source, now_ms);
            }
        }
    }

    fn put(&self, target: &mut Queue, message: Message, source: Option<QueueId>, now_ms: u64) {
        let is_young = self.has(Bug::DeadLettersAreBornAgain) || target.settings.fifo.is_some();
        target.messages.push(Message {
            seq: self.next_seq(),
            sent_at_ms: if is_young { now_ms } else { message.sent_at_ms },
            hidden_until_ms: 0,
            leased_since_ms: None,
            receives: 0,
            epoch: if self.has(Bug::EpochsStartAnew) { Epoch(0) } else { message.epoch },
            source,
            ..message
        });
    }

    async fn look(&self, id: &QueueId, ask: &Ask) -> Result<Vec<Delivery>, Error> {
        self.bury(id, self.clock.now_ms());
        let found = self.with_queue(id, |queue, now_ms| {
            if let Some(again) = self.replay(queue, ask, now_ms) {
                return Ok(Err(again));
            }
            let found = self.candidates(queue, ask.max, now_ms);
            if self.has(Bug::ReadsThenLeases) {
                return Ok(Ok(found));
            }
            let leased: Vec<_> =
                found.iter().filter_map(|seq| self.lease(queue, *seq, ask, now_ms)).collect();
            if let Some(attempt) = &ask.attempt {
                let receipts = leased.iter().map(|it| it.receipt).collect();
                queue.attempts.retain(|(other, _)| other != attempt);
                queue.attempts.push((Arc::clone(attempt), receipts));
            }
            Ok(Err(leased))
        })?;
        match found {
            Err(leased) => Ok(leased),
            Ok(found) => {
                // Between the SELECT and the UPDATE, somebody else's SELECT.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                self.with_queue(id, |queue, now_ms| {
                    let leased =
                        found.iter().filter_map(|seq| self.lease(queue, *seq, ask, now_ms));
                    Ok(leased.collect())
                })
            }
        }
    }

    fn replay(&self, queue: &mut Queue, ask: &Ask, now_ms: u64) -> Option<Vec<Delivery>> {
        if self.has(Bug::ForgetsAttempts) {
            return None;
        }
        let attempt = ask.attempt.as_ref()?;
        let receipts = queue.attempts.iter().find(|(other, _)| other == attempt)?.1.clone();
        let until_ms = now_ms + ask.visibility_ms.unwrap_or(queue.settings.visibility_timeout_ms);
        let mut again = Vec::new();
        for receipt in receipts {
            let held = |it: &&mut Message| {
                it.seq == receipt.seq && it.epoch == receipt.epoch && it.is_leased(now_ms)
            };
            let message = queue.messages.iter_mut().find(held)?;
            message.hidden_until_ms = until_ms;
            again.push(message.delivery(receipt.queue_number));
        }
        (!again.is_empty()).then_some(again)
    }

    fn find(&self, queue: &Queue, receipt: Receipt) -> Result<Option<usize>, Error> {
        if receipt.queue_number != queue.number && !self.has(Bug::TakesAnyQueuesReceipt) {
            return Err(Error::ReceiptInvalid);
        }
        Ok(queue.messages.iter().position(|it| it.seq == receipt.seq))
    }
}

impl Fixture for Naive {
    type Queues = Self;

    fn queues(&self) -> &Self {
        self
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Queues for Naive {
    async fn create(&self, queue: &QueueId, settings: Settings) -> Result<Created, Error> {
        let mut queues = self.all();
        if let Some(queue) = queues.get(&self.key(queue)) {
            return Ok(Created::Existing(Box::new(queue.settings.clone())));
        }
        let mut last = self.last_number.lock().unwrap();
        last.0 += 1;
        let number = if self.has(Bug::AnOldReceiptFitsTheNewQueue) { 7 } else { last.0 };
        if self.has(Bug::AnOldReceiptFitsTheNewQueue) {
            last.1 = 0;
        }
        queues.insert(self.key(queue), Queue::new(number, settings));
        Ok(Created::New)
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        self.all().remove(&self.key(queue)).map(drop).ok_or(Error::NoSuchQueue)
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        let queues = self.all();
        let here = queues.iter().filter(|(id, _)| &*id.region == region);
        let rest = here.filter(|(id, _)| after.is_none_or(|after| &*id.name > after));
        Ok(rest.take(limit).map(|(id, it)| (id.clone(), it.settings.clone())).collect())
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        self.with_queue(queue, |queue, _| Ok(queue.settings.clone()))
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let id = queue.clone();
        self.with_queue(queue, |queue, _| {
            let mut settings = queue.settings.clone();
            let changed = change(&mut settings);
            if changed.is_ok() || self.has(Bug::KeepsARefusedChange) {
                let refused =
                    Error::Invalid { field: "RedrivePolicy", reason: "is itself".to_owned() };
                if settings.redrive.as_ref().is_some_and(|it| it.target == id) {
                    return Err(refused);
                }
                queue.settings = settings;
            }
            changed
        })
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        self.bury(queue, self.clock.now_ms());
        self.with_queue(queue, |queue, now_ms| {
            let hidden = queue.messages.iter().filter(|it| it.hidden_until_ms > now_ms).count();
            let in_flight = queue.messages.iter().filter(|it| it.is_leased(now_ms)).count();
            let delayed = hidden - in_flight;
            let delayed = if self.has(Bug::CountsTheDelayedAsReady) { 0 } else { delayed };
            Ok(Counts {
                ready: queue.messages.len() - in_flight - delayed,
                in_flight,
                delayed,
                oldest_sent_at_ms: queue.messages.iter().map(|it| it.sent_at_ms).min(),
            })
        })
    }

    async fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let sent = self.with_queue(queue, |queue, now_ms| {
            let sent: Vec<_> =
                messages.into_iter().map(|new| self.send_one(queue, new, now_ms)).collect();
            match sent.iter().find_map(|it| it.as_ref().err().cloned()) {
                Some(error) if self.has(Bug::OneBadEntrySpoilsTheBatch) => Err(error),
                _ => Ok(sent),
            }
        });
        self.wake();
        sent
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        let wait_ms = match ask.wait_ms {
            Some(ms) => ms,
            None => self.settings(queue).await?.wait_ms,
        };
        let deadline_ms = self.clock.now_ms() + wait_ms;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let found = self.look(queue, &ask).await?;
            let now_ms = self.clock.now_ms();
            if !found.is_empty() || now_ms >= deadline_ms {
                return Ok(found);
            }
            let due_ms = self.with_queue(queue, |queue, now_ms| {
                let hidden = queue.messages.iter().map(|it| it.hidden_until_ms);
                Ok(hidden.filter(|until_ms| *until_ms > now_ms).min())
            })?;
            let due_ms = due_ms.filter(|_| !self.has(Bug::NobodyWatchesTheClock));
            let wake_ms = if self.has(Bug::WaitsForEver) {
                due_ms
            } else {
                Some(due_ms.unwrap_or(deadline_ms).min(deadline_ms))
            };
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(wake_ms) => {}
            }
        }
    }

    async fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let deleted = self.with_queue(queue, |queue, now_ms| {
            let delete = |receipt: Receipt| {
                let Some(at) = self.find(queue, receipt)? else { return Ok(()) };
                let message = &queue.messages[at];
                if message.epoch != receipt.epoch && !self.has(Bug::AStaleReceiptDeletes) {
                    return Err(Error::Stale);
                }
                let is_late = !message.is_leased(now_ms) && queue.settings.fifo.is_some();
                if is_late && !self.has(Bug::AnExpiredFifoReceiptDeletes) {
                    return Err(Error::Expired);
                }
                if !self.has(Bug::ForgetsToDelete) {
                    queue.messages.remove(at);
                }
                Ok(())
            };
            Ok(receipts.into_iter().map(delete).collect())
        });
        self.wake();
        deleted
    }

    async fn change_visibility(
        &self,
        queue: &QueueId,
        changes: Vec<(Receipt, u64)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let changed = self.with_queue(queue, |queue, now_ms| {
            let change = |(receipt, ms): (Receipt, u64)| {
                let at = self.find(queue, receipt)?.ok_or(Error::NotInFlight)?;
                let message = &mut queue.messages[at];
                if message.epoch != receipt.epoch && !self.has(Bug::AStaleReceiptExtends) {
                    return Err(Error::Stale);
                }
                if !message.is_leased(now_ms) {
                    return Err(Error::NotInFlight);
                }
                let since_ms = message.leased_since_ms.unwrap_or(now_ms);
                if now_ms + ms > since_ms + VISIBILITY_MAX_MS && !self.has(Bug::ExtendsForEver) {
                    let reason = "is too long".to_owned();
                    return Err(Error::Invalid { field: "VisibilityTimeout", reason });
                }
                message.hidden_until_ms = now_ms + ms;
                Ok(())
            };
            Ok(changes.into_iter().map(change).collect())
        });
        self.wake();
        changed
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        self.with_queue(queue, |queue, now_ms| {
            if queue.purged_at_ms.is_some_and(|at| now_ms < at + PURGE_INTERVAL_MS) {
                return Err(Error::PurgedRecently);
            }
            queue.purged_at_ms = Some(now_ms);
            let keeps_leased = self.has(Bug::APurgeKeepsTheLeased);
            queue.messages.retain(|it| keeps_leased && it.is_leased(now_ms));
            Ok(())
        })
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        self.with_queue(queue, |queue, now_ms| {
            let position = |it: &Message| Position { sent_at_ms: it.sent_at_ms, seq: it.seq };
            let mut rest: Vec<_> =
                queue.messages.iter_mut().filter(|it| position(it) > after).collect();
            rest.sort_by_key(|it| position(it));
            let look = |it: &mut Message| {
                if self.has(Bug::LookingIsReceiving) && !it.is_leased(now_ms) {
                    it.receives += 1;
                }
                let until_ms = it.hidden_until_ms;
                let phase = match it.leased_since_ms {
                    Some(since_ms) if until_ms > now_ms => Phase::Leased { until_ms, since_ms },
                    None if until_ms > now_ms => Phase::Delayed { until_ms },
                    _ => Phase::Ready,
                };
                Peeked {
                    position: position(it),
                    id: it.id,
                    content: Arc::clone(&it.content),
                    receives: it.receives,
                    phase,
                    dead_letter_source: it.source.clone(),
                }
            };
            Ok(rest.into_iter().take(limit).map(look).collect())
        })
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        let mut transferred = Transferred::default();
        for seq in
            self.with_queue(from, |queue, now_ms| Ok(self.candidates(queue, limit, now_ms)))?
        {
            let now_ms = self.clock.now_ms();
            let mut queues = self.all();
            let source = queues.get_mut(&self.key(from)).ok_or(Error::NoSuchQueue)?;
            let at = source.messages.iter().position(|it| it.seq == seq).unwrap();
            let message = source.messages.remove(at);
            let home = to.or(message.source.as_ref()).map(|it| self.key(it));
            match home.and_then(|home| queues.get_mut(&home)) {
                Some(home) => {
                    self.put(home, message, None, now_ms);
                    transferred.moved += 1;
                }
                None => {
                    let source = queues.get_mut(&self.key(from)).unwrap();
                    if !self.has(Bug::ARedriveLosesTheHomeless) {
                        let home = message.source.clone();
                        self.put(source, message, home, now_ms);
                    }
                    transferred.failed += 1;
                }
            }
        }
        self.wake();
        Ok(transferred)
    }
}
