//! What one server knows of queues that live in a shared store: who waits here for a message, what
//! passed through here, and what time it is over there.
//!
//! - *Waking.* A consumer that finds nothing stands in its queue's line. What becomes ready through
//!   this server wakes it at once, what becomes ready through another one when the store tells us.
//!   A telling can be lost with its connection, so one of those who wait also looks every
//!   [`LOOK_EVERY`]: the one makes it fast, the other makes it certain.
//! - *Time.* Leases given by several servers must end by one clock, or a server whose clock is fast
//!   takes away what others hold. The store's clock is that one; each server knows how far its own
//!   is from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::limits::QUEUES_MAX;
use crate::message::{Delivery, QueueId};
use crate::meter::{Meter, Reading};
use crate::queue::{Counts, Error};

/// How late a consumer is at most when the store could not tell us.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Consumers woken by one telling: more are never behind one queue of one server.
const WAKE_MAX: usize = 1_024;

/// The time in the store.
#[derive(Clone, Debug)]
pub(super) struct StoreTime {
    clock: Clock,
    ahead_ms: Arc<AtomicI64>,
}

impl StoreTime {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, ahead_ms: Arc::default() }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms().saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// The store said `there_ms`, asked between these two times. A test's clock is left alone.
    pub(super) fn learn(&self, asked_ms: u64, there_ms: u64, answered_ms: u64) {
        if !self.clock.is_manual() {
            let here_ms = asked_ms.midpoint(answered_ms);
            self.ahead_ms.store(there_ms.wrapping_sub(here_ms) as i64, Ordering::Relaxed);
        }
    }

    /// Our own clock, for [`learn`](Self::learn).
    pub(super) fn here_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    async fn sleep_until(&self, at_ms: Option<u64>) {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        self.clock.sleep_until(at_ms.map(|at_ms| at_ms.saturating_add_signed(-ahead_ms))).await;
    }
}

/// Every queue this server was asked for.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) time: StoreTime,
    lines: Mutex<HashMap<QueueId, Arc<Line>>>,
}

/// One queue: those who wait here, and what passed through here.
#[derive(Debug, Default)]
pub(super) struct Line {
    ready: Notify,
    /// Held by the one of those who wait that watches the time for all of them.
    watch: tokio::sync::Mutex<()>,
    /// What the watch waits for; 0 when nobody watches.
    watched_ms: AtomicU64,
    due_changed: Notify,
    pub(super) meter: Mutex<Meter>,
    /// The lane that was served last.
    pub(super) turn: Mutex<String>,
}

impl Here {
    pub(super) fn new(clock: Clock) -> Self {
        Self { time: StoreTime::new(clock), lines: Mutex::default() }
    }

    /// The line of a queue that exists.
    pub(super) fn line(&self, queue: &QueueId) -> Arc<Line> {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(queue) {
            return Arc::clone(line);
        }
        // Queues that others have removed leave theirs behind: start again, at the price of some
        // rates and a consumer that looks a second later.
        if lines.len() >= QUEUES_MAX {
            lines.clear();
        }
        Arc::clone(lines.entry(queue.clone()).or_default())
    }

    /// The queue is gone: those who wait for it learn it now.
    pub(super) fn forget(&self, queue: &QueueId) {
        if let Some(line) = self.lines.lock().remove(queue) {
            line.ready.notify_waiters();
        }
    }

    /// The store said that so many consumers of the queue have something to do.
    pub(super) fn told(&self, queue: &QueueId, count: usize) {
        let line = self.lines.lock().get(queue).cloned();
        if let Some(line) = line {
            line.wake(count);
        }
    }

    /// Something may have been said while we did not listen.
    pub(super) fn wake_all(&self) {
        for line in self.lines.lock().values() {
            line.ready.notify_waiters();
        }
    }

    /// These counts, with what passed through this server.
    pub(super) fn read(&self, counts: Vec<(QueueId, Counts)>) -> Vec<(QueueId, Counts, Reading)> {
        let now_ms = self.time.now_ms();
        let read = |(queue, counts): (QueueId, Counts)| {
            let reading = self.line(&queue).meter.lock().read(now_ms);
            (queue, counts, reading)
        };
        counts.into_iter().map(read).collect()
    }
}

impl Line {
    pub(super) fn wake(&self, count: usize) {
        for _ in 0..count.min(WAKE_MAX) {
            self.ready.notify_one();
        }
    }

    /// A delay or a lease ends then: earlier than what the watch waits for?
    pub(super) fn due_at(&self, until_ms: u64) {
        if until_ms < self.watched_ms.load(Ordering::Acquire) {
            self.due_changed.notify_one();
        }
    }

    /// Looks, and waits until something is found or `wait_ms` has passed. `next_due` asks the store
    /// when the next delay or lease ends.
    pub(super) async fn receive<L, D>(
        &self,
        time: &StoreTime,
        wait_ms: u64,
        mut look: impl FnMut() -> L + Send,
        next_due: impl Fn() -> D + Send + Sync,
    ) -> Result<Vec<Delivery>, Error>
    where
        L: Future<Output = Result<Vec<Delivery>, Error>> + Send,
        D: Future<Output = Result<Option<u64>, Error>> + Send,
    {
        if wait_ms == 0 {
            return look().await;
        }
        let deadline_ms = time.now_ms() + wait_ms;
        let deadline = time.sleep_until(Some(deadline_ms));
        tokio::pin!(deadline);
        let mut was_woken = false;
        loop {
            // In line before looking: between the two, something could arrive and wake nobody.
            let ready = self.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            let found = look().await?;
            if !found.is_empty() {
                // Where one was told and there was something, there may be more.
                if was_woken {
                    self.ready.notify_one();
                }
                return Ok(found);
            }
            tokio::select! {
                () = ready => {}
                () = &mut deadline => return look().await,
                looked = self.watch(time, &next_due) => looked?,
            }
            was_woken = true;
        }
    }

    /// Returns when it is time to look; until then the others who wait leave that to us.
    async fn watch<D>(&self, time: &StoreTime, next_due: impl Fn() -> D) -> Result<(), Error>
    where
        D: Future<Output = Result<Option<u64>, Error>>,
    {
        let _watch = self.watch.lock().await;
        let unwatched = Unwatched(&self.watched_ms);
        loop {
            let changed = self.due_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // Before asking: what becomes due while we ask must not go unnoticed.
            unwatched.0.store(u64::MAX, Ordering::Release);
            let due_ms = next_due().await?;
            unwatched.0.store(due_ms.unwrap_or(u64::MAX), Ordering::Release);
            tokio::select! {
                () = time.sleep_until(due_ms) => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => return Ok(()),
                () = changed => {}
            }
        }
    }
}

/// Nobody watches any more, however the watch ended.
struct Unwatched<'a>(&'a AtomicU64);

impl Drop for Unwatched<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
