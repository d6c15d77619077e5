//! Any of the answers, chosen while the program runs: what the service and the console serve.

use crate::answer::gated::Gated;
use crate::answer::memory::Memory;
use crate::answer::postgres::Postgres;
use crate::answer::sqlite::Sqlite;
use crate::audit::Audit;
use crate::inventory::{Error, Grant, Inventory, Item, Reservation};
use crate::order::{Order, ReservationId, Restock, Sku};

/// One of them; clones share the stock.
#[derive(Clone)]
pub enum Any {
    /// In this process.
    Memory(Memory),
    /// In a file.
    Sqlite(Sqlite),
    /// In Postgres.
    Postgres(Postgres),
    /// In a file, behind a gate.
    GatedSqlite(Gated<Sqlite>),
    /// In Postgres, behind a gate.
    GatedPostgres(Gated<Postgres>),
}

/// The same call on whichever it is.
macro_rules! whichever {
    ($any:expr, $inventory:ident => $call:expr) => {
        match $any {
            Any::Memory($inventory) => $call,
            Any::Sqlite($inventory) => $call,
            Any::Postgres($inventory) => $call,
            Any::GatedSqlite($inventory) => $call,
            Any::GatedPostgres($inventory) => $call,
        }
    };
}

impl Inventory for Any {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        whichever!(self, inventory => inventory.create(sku, on_hand).await)
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        whichever!(self, inventory => inventory.item(sku).await)
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        whichever!(self, inventory => inventory.restock(sku, restock).await)
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        whichever!(self, inventory => inventory.set_on_hand(sku, on_hand, expected).await)
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        whichever!(self, inventory => inventory.reserve(order).await)
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        whichever!(self, inventory => inventory.reservation(id).await)
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        whichever!(self, inventory => inventory.confirm(id).await)
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        whichever!(self, inventory => inventory.cancel(id).await)
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        whichever!(self, inventory => inventory.extend(id, ttl_ms).await)
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        whichever!(self, inventory => inventory.expire_due(limit).await)
    }

    async fn audit(&self) -> Result<Audit, Error> {
        whichever!(self, inventory => inventory.audit().await)
    }
}
