//! In this process: the pure core under one mutex.
//!
//! Pessimistic locking in its smallest form. The lock is held for a few hundred nanoseconds and
//! never across an await, so one SKU that everybody wants is no slower than any other. It gives
//! up durability, and more than one server.

use std::sync::Arc;

use parking_lot::Mutex;
use service::Clock;

use crate::audit::Audit;
use crate::inventory::{Error, Grant, Inventory, Item, Reservation};
use crate::ledger::Ledger;
use crate::lifecycle::Action;
use crate::order::{Order, ReservationId, Restock, Sku};

/// The answer; clones share the stock.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    ledger: Arc<Mutex<Ledger>>,
    clock: Clock,
}

impl Memory {
    /// An empty inventory on this clock.
    pub fn new(clock: Clock) -> Self {
        Self { ledger: Arc::default(), clock }
    }

    /// The time is read under the lock: otherwise a caller could read it, wait for the lock, and
    /// confirm a hold that another caller has since seen expire.
    fn at_once<T>(&self, work: impl FnOnce(&mut Ledger, u64) -> T) -> T {
        let mut ledger = self.ledger.lock();
        let now_ms = self.clock.now_ms();
        work(&mut ledger, now_ms)
    }
}

impl Inventory for Memory {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        self.at_once(|ledger, _| ledger.create(sku, on_hand))
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        self.at_once(|ledger, now_ms| ledger.item(sku, now_ms))
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        self.at_once(|ledger, now_ms| ledger.restock(sku, restock, now_ms))
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        self.at_once(|ledger, now_ms| ledger.set_on_hand(sku, on_hand, expected, now_ms))
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        let id = ReservationId::fresh();
        self.at_once(|ledger, now_ms| ledger.reserve(id, order, now_ms))
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.at_once(|ledger, now_ms| ledger.reservation(id, now_ms))
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.at_once(|ledger, now_ms| ledger.act(id, Action::Confirm, now_ms))
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.at_once(|ledger, now_ms| ledger.act(id, Action::Cancel, now_ms))
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        self.at_once(|ledger, now_ms| ledger.act(id, Action::Extend { ttl_ms }, now_ms))
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        Ok(self.at_once(|ledger, now_ms| ledger.release_overdue(now_ms, limit as usize)))
    }

    async fn audit(&self) -> Result<Audit, Error> {
        Ok(self.at_once(|ledger, now_ms| ledger.audit(now_ms)))
    }
}
