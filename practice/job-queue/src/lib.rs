//! Your job queue: at least once, and never to two workers at the same time.
//!
//! Start with `create`, `send` and `receive`; then leases that run out, receipts that go stale,
//! the dead-letter queue, and order within a group. The contract is `job-queue/src/queue.rs`;
//! `cargo run --release -- grade job-queue` says how far you are.
#![allow(clippy::todo, missing_docs, unused_variables, reason = "the bodies are yours to fill in")]

use std::collections::HashMap;
use std::sync::Mutex;

use job_queue::clock::Clock;
use job_queue::message::{Delivery, NewMessage, Peeked, Position, QueueId, Receipt, Sent};
use job_queue::queue::{Ask, Counts, Created, Error, Queues, Transferred};
use job_queue::settings::Settings;

/// A store of queues.
///
/// Ask yourself what a message is at each moment: ready, delayed, leased; and what has to happen
/// when time passes and nobody calls.
pub struct MyQueues {
    clock: Clock,
    queues: Mutex<HashMap<QueueId, Settings>>,
}

impl MyQueues {
    /// An empty store.
    pub fn new(clock: Clock) -> Self {
        Self { clock, queues: Mutex::default() }
    }
}

/// What an entry of a batch is answered with.
type Each<T> = Result<Vec<Result<T, Error>>, Error>;

impl Queues for MyQueues {
    async fn create(&self, queue: &QueueId, settings: Settings) -> Result<Created, Error> {
        let queues = self.queues.lock();
        todo!("a new queue, or the settings of the one that is there")
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        todo!("the queue and everything in it")
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        todo!("a page of queues in order of their names")
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        todo!("the settings of the queue")
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        todo!("change a copy and keep it if that worked")
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        todo!("how many are ready, in flight and delayed, without walking through them")
    }

    async fn send(&self, queue: &QueueId, messages: Vec<NewMessage>) -> Each<Sent> {
        let now_ms = self.clock.now_ms();
        todo!("store each; FIFO: answer a duplicate with the numbers of the original")
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        todo!("lease up to ask.max messages, and wait for the first if asked to")
    }

    async fn delete(&self, queue: &QueueId, receipts: Vec<Receipt>) -> Each<()> {
        todo!("what the receipts prove to hold")
    }

    async fn change_visibility(&self, queue: &QueueId, changes: Vec<(Receipt, u64)>) -> Each<()> {
        todo!("move the end of each lease; zero gives the message back")
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        todo!("everything, at most once a minute")
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        todo!("look, and lease nothing")
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        todo!("out of the dead-letter queue, back to where each message came from")
    }
}
