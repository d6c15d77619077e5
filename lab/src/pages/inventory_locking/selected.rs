//! One service, the answer chosen in the page: memory, a file, or a Postgres of its own.

use std::sync::Arc;

use axum::http::StatusCode;
use inventory_locking::answer::any::Any;
use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::postgres::{self, Postgres};
use inventory_locking::answer::sqlite::{self, Sqlite};
use inventory_locking::audit::Audit;
use inventory_locking::{
    Error, Grant, Inventory, Item, Order, Reservation, ReservationId, Restock, Sku,
};
use parking_lot::RwLock;
use serde_json::{Value, json};
use service::{Clock, Problem};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::sale::{SKU, Settings};

/// The answer that is served now; clones serve the same.
#[derive(Clone)]
pub(super) struct Selected {
    now: Arc<RwLock<Any>>,
    stage: Arc<Mutex<Stage>>,
    directory: Arc<TempDir>,
}

/// What was started for it.
#[derive(Default)]
struct Stage {
    files: u64,
    server: Option<infra::Postgres>,
    database: Option<infra::Database>,
    stock: u64,
}

impl Selected {
    /// Memory, until something else is chosen.
    pub(super) fn new() -> anyhow::Result<Self> {
        let now = Arc::new(RwLock::new(Any::Memory(Memory::new(Clock::system()))));
        Ok(Self { now, stage: Arc::default(), directory: Arc::new(tempfile::tempdir()?) })
    }

    fn now(&self) -> Any {
        self.now.read().clone()
    }

    /// An empty inventory of the chosen kind, with the stock of the sale in it.
    ///
    /// # Errors
    /// 422 for an unknown answer, 503 when there is no Postgres.
    pub(super) async fn open(&self, settings: &Settings) -> Result<(), Problem> {
        let mut stage = self.stage.lock().await;
        let unknown = || Problem::invalid("/answer", "is not an answer of this page");
        let (store, strategy) =
            settings.answer.split_once('/').unwrap_or((&settings.answer, "batching"));
        let any = match store {
            "memory" => Any::Memory(Memory::new(Clock::system())),
            "sqlite" => {
                let known = sqlite::Strategy::ALL.into_iter().find(|(name, _)| *name == strategy);
                let (_, strategy) = known.ok_or_else(unknown)?;
                stage.files += 1;
                let path = self.directory.path().join(format!("sale-{}.db", stage.files));
                Any::Sqlite(Sqlite::open(&path, strategy, Clock::system())?)
            }
            "postgres" => {
                let known = postgres::Strategy::ALL.into_iter().find(|(name, _)| *name == strategy);
                let (_, strategy) = known.ok_or_else(unknown)?;
                if stage.server.is_none() {
                    stage.server = Some(infra::postgres().await.map_err(missing)?);
                }
                let server = stage.server.as_ref().expect("it was started above");
                let database = server.database("inventory_lab", postgres::SCHEMA).await;
                let database = database.map_err(missing)?;
                let limits = postgres::Settings::default();
                let opened = Postgres::connect(database.url(), strategy, limits).await?;
                stage.database = Some(database);
                Any::Postgres(opened)
            }
            _ => return Err(unknown()),
        };
        any.create(Sku::new(SKU, "sku")?, settings.stock).await?;
        stage.stock = settings.stock;
        *self.now.write() = any;
        Ok(())
    }

    /// What the audit says, for the page.
    pub(super) async fn books(&self) -> Value {
        let stock = self.stage.lock().await.stock;
        let now = self.now();
        let attempts = match &now {
            Any::Postgres(postgres) => Some(postgres.attempts()),
            Any::GatedPostgres(gated) => Some(gated.truth().attempts()),
            Any::Memory(_) | Any::Sqlite(_) | Any::GatedSqlite(_) => None,
        };
        match now.audit().await {
            Ok(audit) => json!({ "stock": stock, "audit": audit, "attempts": attempts }),
            Err(error) => json!({ "stock": stock, "failed": error.to_string() }),
        }
    }
}

fn missing(error: infra::Error) -> Problem {
    Problem::of(StatusCode::SERVICE_UNAVAILABLE, "urn:problem:no-postgres", "No Postgres")
        .detail(error.to_string())
        .field("/answer", "needs a Postgres: cargo x setup installs one")
}

impl Inventory for Selected {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        self.now().create(sku, on_hand).await
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        self.now().item(sku).await
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        self.now().restock(sku, restock).await
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        self.now().set_on_hand(sku, on_hand, expected).await
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        self.now().reserve(order).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.now().reservation(id).await
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.now().confirm(id).await
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.now().cancel(id).await
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        self.now().extend(id, ttl_ms).await
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        self.now().expire_due(limit).await
    }

    async fn audit(&self) -> Result<Audit, Error> {
        self.now().audit().await
    }
}
