//! In one file, without a server: four ways to reserve over the same tables.
//!
//! SQLite has one writer at a time, so nothing here races inside the database; what differs is
//! how long the write lock is held and what each commit costs. Everything but `reserve` is the
//! same for all four. Time is this machine's clock, read inside the transaction.

use std::path::Path;
use std::sync::Arc;

use group_commit::rusqlite::Connection;
use group_commit::{Location, Options, Writer};
use service::Clock;

mod rows;
mod connections;
mod pessimistic;
mod conditional;
mod optimistic;
mod batching;

pub use connections::CONNECTIONS;

use connections::Connections;

use crate::answer::gated::{Stand, Truth};
use crate::audit::Audit;
use crate::backoff::Pace;
use crate::inventory::{Error, Grant, Inventory, Item, Reservation};
use crate::lifecycle::Action;
use crate::order::{Order, ReservationId, Restock, Sku};
use crate::waiting::Waiting;

const SCHEMA: &str = include_str!("sqlite/schema.sql");

/// How stock is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Look, then write if the version is still the same.
    Optimistic,
    /// Lock, look, write.
    Pessimistic,
    /// One update that checks.
    Conditional,
    /// One transaction for all who wait.
    #[default]
    Batching,
}

impl Strategy {
    /// All of them, by the names that `--strategy` takes.
    pub const ALL: [(&'static str, Self); 4] = [
        ("optimistic", Self::Optimistic),
        ("pessimistic", Self::Pessimistic),
        ("conditional", Self::Conditional),
        ("batching", Self::Batching),
    ];
}

/// The answer; clones share the file.
#[derive(Clone)]
pub struct Sqlite {
    engine: Engine,
    strategy: Strategy,
    clock: Clock,
    pace: Arc<Pace>,
}

#[derive(Clone)]
enum Engine {
    /// Every transaction is committed alone.
    Alone(Connections),
    /// Transactions are committed together.
    Together(Writer, Waiting),
}

impl Sqlite {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be opened.
    pub fn open(path: &Path, strategy: Strategy, clock: Clock) -> Result<Self, Error> {
        let engine = match strategy {
            Strategy::Batching => {
                let options = Options { name: "inventory", ..Options::default() };
                let writer = Writer::open(Location::from(path), SCHEMA, options)?;
                Engine::Together(writer, Waiting::default())
            }
            _ => Engine::Alone(Connections::open(path, SCHEMA)?),
        };
        let pace = Arc::new(Pace::within(optimistic::WINDOW_US_MAX));
        Ok(Self { engine, strategy, clock, pace })
    }

    /// Runs `work` in a transaction; it is on disk when this returns.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, u64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let clock = self.clock.clone();
        let work = move |tx: &Connection| work(tx, clock.now_ms());
        match &self.engine {
            Engine::Alone(connections) => connections.write(work).await,
            Engine::Together(writer, _) => writer.call(work).await,
        }
    }

    /// Runs `work` on one snapshot.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, u64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let clock = self.clock.clone();
        match &self.engine {
            Engine::Alone(connections) => {
                let snapshot = move |connection: &mut Connection| {
                    let snapshot = connection.transaction()?;
                    work(&snapshot, clock.now_ms())
                };
                connections.with(snapshot).await
            }
            Engine::Together(writer, _) => {
                writer.read(move |snapshot| work(snapshot, clock.now_ms())).await
            }
        }
    }

    async fn act(&self, id: ReservationId, action: Action) -> Result<Reservation, Error> {
        self.write(move |tx, now_ms| rows::act(tx, id, action, now_ms)).await
    }
}

impl Inventory for Sqlite {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        self.write(move |tx, _| rows::create(tx, &sku, on_hand)).await
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        let wanted = sku.clone();
        let read = self.read(move |snapshot, now_ms| {
            Ok((rows::overdue(snapshot, now_ms)?, rows::load(snapshot, &wanted)?))
        });
        match read.await? {
            (0, Some(item)) => Ok(item),
            (0, None) => Err(Error::UnknownSku(sku.clone())),
            // Holds are over that nobody has released: whoever looks first does, so that one
            // version never means two different numbers.
            _ => {
                let sku = sku.clone();
                self.write(move |tx, now_ms| rows::item(tx, &sku, now_ms)).await
            }
        }
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        let sku = sku.clone();
        self.write(move |tx, now_ms| {
            rows::release_overdue(tx, now_ms, u32::MAX)?;
            rows::restock(tx, &sku, &restock)
        })
        .await
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        let sku = sku.clone();
        self.write(move |tx, now_ms| {
            rows::release_overdue(tx, now_ms, u32::MAX)?;
            rows::set_on_hand(tx, &sku, on_hand, expected)
        })
        .await
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        let id = ReservationId::fresh();
        match (&self.engine, self.strategy) {
            (Engine::Together(writer, waiting), _) => {
                batching::reserve(waiting, writer, &self.clock, order).await
            }
            (Engine::Alone(connections), Strategy::Optimistic) => {
                optimistic::reserve(connections, &self.pace, &self.clock, order).await
            }
            (_, Strategy::Pessimistic) => {
                self.write(move |tx, now_ms| pessimistic::reserve(tx, id, order, now_ms)).await
            }
            (_, _) => {
                self.write(move |tx, now_ms| conditional::reserve(tx, id, order, now_ms)).await
            }
        }
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.read(move |snapshot, now_ms| rows::reservation(snapshot, id, now_ms)).await
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.act(id, Action::Confirm).await
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.act(id, Action::Cancel).await
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        self.act(id, Action::Extend { ttl_ms }).await
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        self.write(move |tx, now_ms| rows::release_overdue(tx, now_ms, limit)).await
    }

    async fn audit(&self) -> Result<Audit, Error> {
        self.read(rows::audit).await
    }
}

impl Truth for Sqlite {
    async fn stand(&self, sku: &Sku, within_ms: u64) -> Result<Stand, Error> {
        let sku = sku.clone();
        self.read(move |snapshot, now_ms| {
            let (available, next) = rows::stand(snapshot, &sku, now_ms + within_ms)?;
            let certain_ms = next.map_or(within_ms, |deadline| deadline.saturating_sub(now_ms));
            Ok(Stand { available, certain_ms })
        })
        .await
    }

    async fn made_before(&self, order: &Order) -> Result<Option<Grant>, Error> {
        let order = order.clone();
        let made = self.read(move |snapshot, _| rows::made_before(snapshot, &order)).await?;
        Ok(made.map(|reservation| Grant { reservation, replayed: true }))
    }
}
