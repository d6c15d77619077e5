//! The smallest complete answer: the core behind one lock per queue.
//!
//! Guarantees everything but durability: a crash loses all. Costs a microsecond or less per
//! message, whatever the depth.

use std::sync::Arc;

use super::long_poll;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::message::{Delivery, NewMessage, Peeked, Position, QueueId, Receipt, Sent};
use crate::meter::Reading;
use crate::queue::{Ask, Counts, Created, Error, Queues, Transferred};
use crate::settings::Settings;
use crate::state::Unrecorded;

/// Queues in this process; gone with it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    engine: Arc<Engine>,
    clock: Clock,
}

impl Memory {
    /// An empty store on this clock.
    pub fn new(clock: Clock) -> Self {
        Self { engine: Arc::default(), clock }
    }

    /// Rates and latencies of every queue.
    pub fn readings(&self) -> Vec<(QueueId, Counts, Reading)> {
        self.engine.readings(self.clock.now_ms())
    }
}

impl Queues for Memory {
    async fn create(&self, queue: &QueueId, settings: Settings) -> Result<Created, Error> {
        let (created, number) = self.engine.create(queue, settings, self.clock.now_ms())?;
        if number.is_some() {
            long_poll::watch(&self.engine.slot(queue)?, self.clock.clone());
        }
        Ok(created)
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        self.engine.remove(queue).map(drop)
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        Ok(self.engine.list(region, after, limit))
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        Ok(self.engine.slot(queue)?.with(|it| it.settings().clone()))
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        self.engine.configure(queue, change, self.clock.now_ms()).map(drop)
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        let slot = self.engine.slot(queue)?;
        Ok(self.engine.counts(&slot, self.clock.now_ms()))
    }

    async fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let slot = self.engine.slot(queue)?;
        Ok(self.engine.send(&slot, messages, self.clock.now_ms(), &mut Unrecorded))
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        let slot = self.engine.slot(queue)?;
        let look = || {
            let now_ms = self.clock.now_ms();
            let found = self.engine.receive(queue, &slot, &ask, now_ms, &mut Unrecorded);
            std::future::ready(found)
        };
        long_poll::receive(&slot, &ask, &self.clock, look).await
    }

    async fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let slot = self.engine.slot(queue)?;
        Ok(self.engine.delete(&slot, &receipts, self.clock.now_ms(), &mut Unrecorded))
    }

    async fn change_visibility(
        &self,
        queue: &QueueId,
        changes: Vec<(Receipt, u64)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let slot = self.engine.slot(queue)?;
        Ok(self.engine.change_visibility(&slot, &changes, self.clock.now_ms(), &mut Unrecorded))
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        let slot = self.engine.slot(queue)?;
        self.engine.purge(&slot, self.clock.now_ms(), &mut Unrecorded)
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        Ok(self.engine.peek(&*self.engine.slot(queue)?, after, limit))
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        let slot = self.engine.slot(from)?;
        Ok(self.engine.transfer(&slot, to, limit, self.clock.now_ms(), &mut Unrecorded))
    }
}
