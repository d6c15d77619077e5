//! The durable default: the same core, and a journal in SQLite.
//!
//! The core decides in memory, inside the writer's transaction; its changes are written as rows;
//! the caller is answered when they are on disk. Many callers share one transaction and one fsync
//! (see the `group-commit` crate). A restart reads the rows back.
//!
//! Trap: memory is changed before the commit, and a commit can fail. Then memory would know things
//! that the disk does not. Hence the version: every change raises it on disk, the state in memory
//! remembers its own, and whoever finds the two apart reloads before it decides anything.
//!
//! Trade-off: every message is in memory too. That buys receives that read nothing from disk; it
//! costs memory for a backlog, and means one process. For several servers: Postgres.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use group_commit::rusqlite::{self, Connection};
use group_commit::{Location, Options, Writer};
use tokio::runtime::Handle;

use super::long_poll;
use crate::clock::Clock;
use crate::engine::{Engine, Slot};
use crate::message::{Delivery, NewMessage, Peeked, Position, QueueId, Receipt, Sent};
use crate::meter::Reading;
use crate::queue::{Ask, Counts, Created, Error, Queues, Transferred};
use crate::settings::Settings;
use crate::state::Change;

mod journal;

const SCHEMA: &str = include_str!("sqlite/schema.sql");

/// The version of a state that was never read: unlike any on disk.
const NOT_LOADED: u64 = u64::MAX;

/// Queues in a SQLite file.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: Writer,
    shared: Arc<Shared>,
    clock: Clock,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// The version on disk that the engine's state equals.
    version: AtomicU64,
    clock: Clock,
    /// Where queues that are read back get the task that watches their time.
    runtime: Handle,
}

impl From<group_commit::Error> for Error {
    fn from(error: group_commit::Error) -> Self {
        Self::Unavailable { what: error.to_string(), source: Some(Arc::new(error)) }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        group_commit::Error::from(error).into()
    }
}

impl Sqlite {
    /// Opens the file and reads what is in it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], naming the file.
    pub async fn open(path: &Path, clock: Clock) -> Result<Self, Error> {
        Self::open_at(path.into(), clock).await
    }

    /// The same machinery without a file, for tests of everything but the disk.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn in_memory(clock: Clock) -> Result<Self, Error> {
        Self::open_at(Location::Memory, clock).await
    }

    async fn open_at(location: Location, clock: Clock) -> Result<Self, Error> {
        let options = Options { name: "queues", ..Options::default() };
        let writer = Writer::open(location, SCHEMA, options)?;
        let shared = Arc::new(Shared {
            engine: Engine::default(),
            version: AtomicU64::new(NOT_LOADED),
            clock: clock.clone(),
            runtime: Handle::current(),
        });
        let store = Self { writer, shared, clock };
        store.write(|_, _, _| Ok(())).await?;
        Ok(store)
    }

    /// Rates and latencies of every queue.
    pub fn readings(&self) -> Vec<(QueueId, Counts, Reading)> {
        self.shared.engine.readings(self.clock.now_ms())
    }

    /// Finishes what is queued; for a clean stop.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    /// Decides in memory and writes the changes, in one step with others; returns when they are on
    /// disk.
    async fn write<T, F>(&self, decide: F) -> Result<T, Error>
    where
        F: FnOnce(&Shared, &Connection, &mut Vec<Change>) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let answer = self
            .writer
            .call(move |tx| {
                shared.catch_up(tx)?;
                let mut changes = Vec::new();
                let decided = match decide(&shared, tx, &mut changes) {
                    // A row could not be written: this call's other rows must go too.
                    Err(error @ Error::Unavailable { .. }) => return Err(error),
                    decided => decided,
                };
                // A refusal is recorded too: it may have settled what was due.
                if !changes.is_empty() {
                    shared.record(tx, &changes)?;
                }
                Ok(decided)
            })
            .await;
        if answer.is_err() {
            // What was decided in memory and is not on disk must not be seen in `/stats` either.
            // If even reading fails now, the next call reads back what is there.
            let shared = Arc::clone(&self.shared);
            drop(self.writer.call(move |tx| shared.catch_up(tx)).await);
        }
        answer?
    }

    /// The queue as it is now; looked up again after a reload.
    fn slot(&self, queue: &QueueId) -> Result<Arc<Slot>, Error> {
        self.shared.engine.slot(queue)
    }
}

impl Shared {
    /// Reloads if an earlier call's rows did not reach the disk. Runs first in every call, on the
    /// one writer thread, so nobody decides on a state that is not on disk.
    fn catch_up(&self, tx: &Connection) -> Result<(), Error> {
        if journal::version(tx)? == self.version.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.version.load(Ordering::Acquire) != NOT_LOADED {
            tracing::warn!("a commit failed: reloading the queues from disk");
        }
        self.reload(tx)
    }

    fn reload(&self, tx: &Connection) -> Result<(), Error> {
        self.engine.clear();
        let version = journal::load(tx, &self.engine)?;
        self.version.store(version, Ordering::Release);
        let _runtime = self.runtime.enter();
        for slot in self.engine.slots() {
            long_poll::watch(&slot, self.clock.clone());
        }
        Ok(())
    }

    /// Writes changes and raises the version, in memory first: when a row cannot be written, the
    /// two are apart, as they must be.
    fn record(&self, tx: &Connection, changes: &[Change]) -> Result<(), Error> {
        self.version.fetch_add(1, Ordering::AcqRel);
        for change in changes {
            journal::write(tx, change)?;
        }
        let (last_queue_number, last_seq) = self.engine.last_numbers();
        journal::raise(tx, last_queue_number, last_seq)?;
        Ok(())
    }

    /// For changes of queues, which are rare and not in the journal's list.
    fn record_queue(
        &self,
        tx: &Connection,
        row: impl FnOnce() -> rusqlite::Result<()>,
    ) -> Result<(), Error> {
        self.version.fetch_add(1, Ordering::AcqRel);
        row()?;
        let (last_queue_number, last_seq) = self.engine.last_numbers();
        Ok(journal::raise(tx, last_queue_number, last_seq)?)
    }
}

impl Queues for Sqlite {
    async fn create(&self, queue: &QueueId, settings: Settings) -> Result<Created, Error> {
        let (id, now_ms) = (queue.clone(), self.clock.now_ms());
        let created = self.write(move |shared, tx, _| {
            let (created, number) = shared.engine.create(&id, settings, now_ms)?;
            if let Some(number) = number {
                let settings = shared.engine.slot(&id)?.with(|it| it.settings().clone());
                shared.record_queue(tx, || journal::put_queue(tx, &id, number, &settings))?;
            }
            Ok(created)
        });
        let created = created.await?;
        if created == Created::New
            && let Ok(slot) = self.slot(queue)
        {
            long_poll::watch(&slot, self.clock.clone());
        }
        Ok(created)
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        let id = queue.clone();
        self.write(move |shared, tx, _| {
            let number = shared.engine.remove(&id)?;
            shared.record_queue(tx, || journal::remove_queue(tx, number))
        })
        .await
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        Ok(self.shared.engine.list(region, after, limit))
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        Ok(self.slot(queue)?.with(|it| it.settings().clone()))
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (id, now_ms) = (queue.clone(), self.clock.now_ms());
        self.write(move |shared, tx, _| {
            let (number, settings) = shared.engine.configure(&id, change, now_ms)?;
            shared.record_queue(tx, || journal::put_queue(tx, &id, number, &settings))
        })
        .await
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        Ok(self.shared.engine.counts(&*self.slot(queue)?, self.clock.now_ms()))
    }

    async fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let (id, now_ms) = (queue.clone(), self.clock.now_ms());
        // A consumer that is woken before the commit looks after it: it stands behind this call in
        // the writer's queue.
        self.write(move |shared, _, changes| {
            let slot = shared.engine.slot(&id)?;
            Ok(shared.engine.send(&slot, messages, now_ms, changes))
        })
        .await
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        let slot = self.slot(queue)?;
        let look = || async {
            // An idle queue is polled all day: do not make its pollers queue for the writer.
            let now_ms = self.clock.now_ms();
            if ask.attempt.is_none() && !slot.with(|state| state.may_have_ready(now_ms)) {
                return Ok(vec![]);
            }
            let (id, ask) = (queue.clone(), ask.clone());
            self.write(move |shared, _, changes| {
                let slot = shared.engine.slot(&id)?;
                shared.engine.receive(&id, &slot, &ask, now_ms, changes)
            })
            .await
        };
        match long_poll::receive(&slot, &ask, &self.clock, look).await {
            // The queue was read back from disk while we waited: it is there, ask again.
            Err(Error::NoSuchQueue) if self.slot(queue).is_ok() => Ok(vec![]),
            received => received,
        }
    }

    async fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let (id, now_ms) = (queue.clone(), self.clock.now_ms());
        self.write(move |shared, _, changes| {
            let slot = shared.engine.slot(&id)?;
            Ok(shared.engine.delete(&slot, &receipts, now_ms, changes))
        })
        .await
    }

    async fn change_visibility(
        &self,
        queue: &QueueId,
        visibilities: Vec<(Receipt, u64)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let (id, now_ms) = (queue.clone(), self.clock.now_ms());
        self.write(move |shared, _, changes| {
            let slot = shared.engine.slot(&id)?;
            Ok(shared.engine.change_visibility(&slot, &visibilities, now_ms, changes))
        })
        .await
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        let (id, now_ms) = (queue.clone(), self.clock.now_ms());
        self.write(move |shared, _, changes| {
            let slot = shared.engine.slot(&id)?;
            shared.engine.purge(&slot, now_ms, changes)
        })
        .await
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        Ok(self.shared.engine.peek(&*self.slot(queue)?, after, limit))
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        let (from, to, now_ms) = (from.clone(), to.cloned(), self.clock.now_ms());
        self.write(move |shared, _, changes| {
            let slot = shared.engine.slot(&from)?;
            Ok(shared.engine.transfer(&slot, to.as_ref(), limit, now_ms, changes))
        })
        .await
    }
}
