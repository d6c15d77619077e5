//! Your inventory: never sell what is not there.
//!
//! Start with `create`, `item`, `reserve` and `audit`, which every promise ends with; then let a
//! hold end in each of its three ways. The contract is `inventory-locking/src/inventory.rs`;
//! `cargo run --release -- grade inventory-locking` says how far you are.
#![allow(clippy::todo, missing_docs, unused_variables, reason = "the bodies are yours to fill in")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use inventory_locking::audit::Audit;
use inventory_locking::{
    Error, Grant, Inventory, Item, Order, Reservation, ReservationId, Restock, Sku,
};
use service::Clock;

/// One server of a shop; clones sell the same stock.
///
/// Ask yourself what must change together, and what a second buyer can see in between.
#[derive(Clone)]
pub struct MyInventory {
    clock: Clock,
    shop: Arc<Mutex<HashMap<Sku, ()>>>,
}

impl MyInventory {
    /// An empty shop.
    pub fn new(clock: Clock) -> Self {
        Self { clock, shop: Arc::default() }
    }
}

impl Inventory for MyInventory {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        let shop = self.shop.lock();
        todo!("start to keep stock")
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        let now_ms = self.clock.now_ms();
        todo!("the stock now; a hold past its deadline does not count")
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        todo!("add stock, once per key")
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        todo!("set what is in the warehouse, if nobody changed it since")
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        todo!("hold every line or nothing; the same key gets the same reservation")
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        todo!("how it stands now")
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        todo!("held becomes sold, before the deadline and once")
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        todo!("held becomes available, once")
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        todo!("a new deadline, counted from now")
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        todo!("give back overdue holds, each once")
    }

    async fn audit(&self) -> Result<Audit, Error> {
        todo!("recompute the totals from the reservations: `inventory_locking::audit::judge`")
    }
}
