//! In Postgres, for any number of servers: twelve ways to reserve over the same tables.
//!
//! Everything but `reserve` is the same for all of them; one file for each way to take stock. The
//! loop is here, outside every transaction: an attempt is a fresh transaction with a fresh look,
//! and what stopped it decides what comes next (`postgres/stop.rs`). Time is the database's clock.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};

mod stop;
mod rows;
mod naive;
mod optimistic;
mod pessimistic;
mod conditional;
mod single_statement;
mod serializable;
mod advisory;
mod buckets;
mod units;
mod batching;

pub use buckets::BUCKETS;
pub use units::{CLAIM_MAX, POOL};

use stop::{Attempt, Stop, begin, committed, told};

use crate::admission::Admission;
use crate::answer::gated::{Stand, Truth};
use crate::audit::Audit;
use crate::backoff::{ATTEMPTS_MAX, Pace};
use crate::inventory::{Error, Grant, Inventory, Item, Reservation};
use crate::lifecycle::Action;
use crate::order::{Order, ReservationId, Restock, Sku, check_stock, check_ttl};
use crate::slots::{Slot, share_out};
use crate::waiting::Waiting;

/// The tables; run on every start, and by tests as a template.
pub const SCHEMA: &str = include_str!("postgres/sql/schema.sql");

/// How long a statement waits for a lock before it gives up. Longer than any queue that is worth
/// waiting in.
const LOCK_TIMEOUT: &str = "5s";

/// How long a transaction may sit idle, holding locks. A server that hangs between two statements
/// would otherwise hold a hot row for ever.
const IDLE_TIMEOUT: &str = "10s";

/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection that was in order is taken to be so.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Holds released in one transaction on the way to buying.
const RELEASE_MAX: u32 = 500;

/// How stock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Wrong on purpose.
    Naive,
    /// Look, then write if the version is still the same.
    Optimistic,
    /// Lock, look, write.
    Pessimistic,
    /// The same, and whoever finds the row locked comes back later.
    PessimisticNowait,
    /// One update that checks.
    Conditional,
    /// Everything in one statement.
    SingleStatement,
    /// SERIALIZABLE, and again on 40001.
    Serializable,
    /// A lock by name.
    Advisory,
    /// Sixteen rows.
    Buckets,
    /// A row for each unit.
    Units,
    /// One transaction for all who wait.
    Batching,
}

impl Strategy {
    /// All of them, by the names that `--strategy` takes; the first one is wrong.
    pub const ALL: [(&'static str, Self); 11] = [
        ("naive", Self::Naive),
        ("optimistic", Self::Optimistic),
        ("pessimistic", Self::Pessimistic),
        ("pessimistic-nowait", Self::PessimisticNowait),
        ("conditional", Self::Conditional),
        ("single-statement", Self::SingleStatement),
        ("serializable", Self::Serializable),
        ("advisory", Self::Advisory),
        ("buckets", Self::Buckets),
        ("units", Self::Units),
        ("batching", Self::Batching),
    ];

    /// How many of one server should try for one SKU at once. Where a loser has to begin again,
    /// only one: whoever waits in the server has not lost anything yet. Where a loser is in a
    /// queue, enough to keep it filled.
    pub fn per_sku(self) -> usize {
        match self {
            Self::Optimistic | Self::PessimisticNowait | Self::Serializable => 1,
            _ => PER_SKU,
        }
    }

    fn layout(self, on_hand: u64) -> Vec<Slot> {
        match self {
            Self::Buckets => buckets::layout(on_hand),
            _ => units::layout(on_hand),
        }
    }

    fn spread(self) -> fn(&mut [Slot]) {
        match self {
            Self::Buckets => share_out,
            _ => |_| (),
        }
    }
}

/// Requests that ask for one SKU at once, of a strategy whose losers queue in the database.
const PER_SKU: usize = 16;

/// How much of the database one server uses.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections.
    pub connections: u32,
    /// How many ask for one SKU at once; the others wait outside the pool.
    pub per_sku: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connections: 32, per_sku: PER_SKU }
    }
}

/// The answer; clones share the pool.
#[derive(Clone)]
pub struct Postgres {
    pool: PgPool,
    strategy: Strategy,
    shared: Arc<Shared>,
}

struct Shared {
    attempts: AtomicU64,
    ambiguous: AtomicU64,
    admission: Admission,
    pace: Pace,
    waiting: Waiting,
    left: batching::Left,
    filling: units::Filling,
}

impl Shared {
    fn note_ambiguous(&self) {
        metrics::counter!("inventory_ambiguous_commits_total").increment(1);
        self.ambiguous.fetch_add(1, Ordering::Relaxed);
    }
}

impl Postgres {
    /// Connects, and makes the tables if they are not there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the server does not answer, or the URL is wrong.
    pub async fn connect(url: &str, strategy: Strategy, settings: Settings) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url).map_err(told)?.options([
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // By default every use of a connection begins with a round trip that asks whether it
            // is alive. One that was used a moment ago is, and if not, see `Stop::Broken`.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    match meta.idle_for > TRUSTED_FOR {
                        true => sqlx::Connection::ping(connection).await.map(|()| true),
                        false => Ok(true),
                    }
                })
            })
            .connect_with(options)
            .await
            .map_err(told)?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await.map_err(told)?;
        let admission = Admission::new(settings.per_sku);
        let [attempts, ambiguous] = [0, 0].map(AtomicU64::new);
        let shared = Shared {
            attempts,
            ambiguous,
            admission,
            pace: Pace::default(),
            waiting: Waiting::default(),
            left: batching::Left::default(),
            filling: units::Filling::default(),
        };
        Ok(Self { pool, strategy, shared: Arc::new(shared) })
    }

    /// How many transactions reservations have taken so far; divided by the reservations, what
    /// contention has wasted. Zero for the batching strategy, whose transactions are shared.
    pub fn attempts(&self) -> u64 {
        self.shared.attempts.load(Ordering::Relaxed)
    }

    /// How many COMMITs have ended with a broken connection instead of an answer.
    pub fn ambiguous_commits(&self) -> u64 {
        self.shared.ambiguous.load(Ordering::Relaxed)
    }

    async fn attempt(&self, id: ReservationId, order: &Order) -> Attempt {
        metrics::counter!("inventory_attempts_total").increment(1);
        self.shared.attempts.fetch_add(1, Ordering::Relaxed);
        let pool = &self.pool;
        match self.strategy {
            Strategy::Naive => naive::attempt(pool, id, order).await,
            Strategy::Optimistic => optimistic::attempt(pool, id, order).await,
            Strategy::Pessimistic => pessimistic::attempt(pool, id, order, true).await,
            Strategy::PessimisticNowait => pessimistic::attempt(pool, id, order, false).await,
            Strategy::Conditional => conditional::attempt(pool, id, order).await,
            Strategy::SingleStatement => single_statement::attempt(pool, id, order).await,
            Strategy::Serializable => serializable::attempt(pool, id, order).await,
            Strategy::Advisory => advisory::attempt(pool, id, order).await,
            Strategy::Buckets => buckets::attempt(pool, id, order).await,
            Strategy::Units => units::attempt(pool, &self.shared.filling, id, order).await,
            Strategy::Batching => {
                let grant = batching::reserve(&self.shared, pool, order.clone()).await;
                grant.map_err(Stop::Tell)
            }
        }
    }

    /// Attempts until one of them settles it.
    async fn reserve_until_settled(&self, order: &Order) -> Result<Grant, Error> {
        let id = ReservationId::fresh();
        let hot = order.lines[0].sku.as_str();
        let (mut swept, mut broken) = (false, None);
        let turn = self.shared.pace.enter(hot);
        for _ in 0..ATTEMPTS_MAX {
            turn.pause().await;
            let begun = Instant::now();
            match self.attempt(id, order).await {
                Ok(grant) => {
                    turn.won();
                    return Ok(grant);
                }
                Err(Stop::Made(grant)) => return Ok(grant),
                Err(Stop::Tell(error)) => return Err(error),
                Err(Stop::Prepared) => {}
                Err(Stop::Short(error)) => {
                    // Nobody was faster: a sale that is over must not go on at the pace of its rush.
                    turn.won();
                    let mut connection = self.pool.acquire().await.map_err(told)?;
                    match rows::made(&mut connection, id, order).await.map_err(plain)? {
                        Some(Stop::Made(grant)) => return Ok(grant),
                        Some(Stop::Tell(error)) => return Err(error),
                        _ => {}
                    }
                    drop(connection);
                    // Before anybody is told "sold out", holds that are over give back what they
                    // have.
                    if swept || !release_of(&self.pool, rows::cart(order).0).await? {
                        return Err(error);
                    }
                    swept = true;
                }
                // Never again blindly: the next attempt writes under the same id, waits for the
                // lost one to end if it still runs, and finds it if it was committed.
                Err(Stop::Ambiguous(error)) => {
                    self.shared.note_ambiguous();
                    broken = Some(error);
                }
                Err(Stop::Broken(error)) => broken = Some(error),
                Err(Stop::Conflict) if turn.lost(begun) => {}
                Err(Stop::Conflict) => break,
            }
        }
        metrics::counter!("inventory_gave_up_total").increment(1);
        let busy = || Error::Busy { what: format!("too many want {hot}"), retry_after_ms: 100 };
        Err(broken.map_or_else(busy, Error::unavailable))
    }

    /// Runs `work` in a transaction, again when somebody was faster. Everything that comes this
    /// way may be repeated without harm, so a COMMIT of unknown fate is simply repeated, too.
    async fn transact<T>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Stop>>,
    ) -> Result<T, Error> {
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let done = async {
                let mut tx = begin(&self.pool).await?;
                let done = work(&mut tx).await?;
                committed(tx).await?;
                Ok(done)
            };
            match done.await {
                Ok(done) => return Ok(done),
                Err(Stop::Conflict | Stop::Prepared | Stop::Made(_)) => {}
                Err(Stop::Ambiguous(error) | Stop::Broken(error)) => last = Some(error),
                Err(Stop::Tell(error) | Stop::Short(error)) => return Err(error),
            }
            tokio::time::sleep(Duration::from_micros(fastrand::u64(0..5_000))).await;
        }
        let what = "the same rows are wanted by too many".to_owned();
        let busy = || Error::Busy { what, retry_after_ms: 100 };
        Err(last.map_or_else(busy, Error::unavailable))
    }

    async fn act(&self, id: ReservationId, action: Action) -> Result<Reservation, Error> {
        self.transact(move |tx| rows::act(tx, id, action).boxed()).await
    }
}

/// Releases what is over and stands between a buyer and these SKUs; whether there was anything.
async fn release_of(pool: &PgPool, skus: Vec<String>) -> Result<bool, Error> {
    let mut any = false;
    for _ in 0..ATTEMPTS_MAX * 16 {
        let released = async {
            let mut tx = begin(pool).await?;
            let released = rows::release_overdue(&mut tx, RELEASE_MAX, Some(skus.clone())).await?;
            committed(tx).await?;
            Ok(released)
        };
        match released.await {
            Ok(0) => return Ok(any),
            Ok(_) | Err(Stop::Conflict | Stop::Broken(_)) => any = true,
            Err(stop) => return Err(plain(stop)),
        }
    }
    Ok(any)
}

/// A stop where there is nothing left to try.
fn plain(stop: Stop) -> Error {
    match stop {
        Stop::Tell(error) | Stop::Short(error) => error,
        Stop::Ambiguous(error) | Stop::Broken(error) => Error::unavailable(error),
        Stop::Conflict | Stop::Prepared | Stop::Made(_) => {
            Error::Busy { what: "somebody was faster".to_owned(), retry_after_ms: 100 }
        }
    }
}

impl Inventory for Postgres {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        check_stock(on_hand)?;
        let slots = self.strategy.layout(on_hand);
        let item = sku.clone();
        self.transact(move |tx| {
            let (sku, slots) = (item.clone(), slots.clone());
            async move { rows::create(tx, &sku, &slots).await }.boxed()
        })
        .await?;
        self.item(&sku).await
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let mut connection = self.pool.acquire().await.map_err(told)?;
            let (item, overdue) = rows::item(&mut connection, sku).await.map_err(plain)?;
            drop(connection);
            if overdue == 0 {
                return Ok(item);
            }
            // Holds are over that nobody has released: whoever looks first does, so that one
            // version never means two different numbers.
            release_of(&self.pool, vec![sku.to_string()]).await?;
        }
        Err(Error::Busy {
            what: "holds expire faster than they are released".to_owned(),
            retry_after_ms: 100,
        })
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        let spread = self.strategy.spread();
        // A repeat after a COMMIT of unknown fate needs a key of its own, or it would count twice.
        let key = restock.key.clone().unwrap_or_else(|| {
            crate::order::Key::stored(&format!("restock:{}", ReservationId::fresh()))
        });
        let restock = Restock { key: Some(key), ..restock };
        let item = sku.clone();
        self.transact(move |tx| {
            let (sku, restock) = (item.clone(), restock.clone());
            async move { rows::restock(tx, &sku, &restock, spread).await }.boxed()
        })
        .await?;
        self.item(sku).await
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        let spread = self.strategy.spread();
        release_of(&self.pool, vec![sku.to_string()]).await?;
        let item = sku.clone();
        self.transact(move |tx| {
            let sku = item.clone();
            async move { rows::set_on_hand(tx, &sku, on_hand, expected, spread).await }.boxed()
        })
        .await?;
        self.item(sku).await
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        if self.strategy == Strategy::Batching {
            return batching::reserve(&self.shared, &self.pool, order).await;
        }
        let _admitted = self.shared.admission.enter(&order.lines).await?;
        self.reserve_until_settled(&order).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        let mut connection = self.pool.acquire().await.map_err(told)?;
        rows::reservation(&mut connection, id).await.map_err(plain)
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.act(id, Action::Confirm).await
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.act(id, Action::Cancel).await
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        check_ttl(ttl_ms)?;
        self.act(id, Action::Extend { ttl_ms }).await
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        self.transact(move |tx| rows::release_overdue(tx, limit, None).boxed()).await
    }

    async fn audit(&self) -> Result<Audit, Error> {
        let mut connection = self.pool.acquire().await.map_err(told)?;
        rows::audit(&mut connection).await.map_err(plain)
    }
}

impl Truth for Postgres {
    async fn stand(&self, sku: &Sku, within_ms: u64) -> Result<Stand, Error> {
        let mut connection = self.pool.acquire().await.map_err(told)?;
        rows::stand(&mut connection, sku, within_ms).await.map_err(plain)
    }

    async fn made_before(&self, order: &Order) -> Result<Option<Grant>, Error> {
        let mut connection = self.pool.acquire().await.map_err(told)?;
        match rows::made(&mut connection, ReservationId::fresh(), order).await.map_err(plain)? {
            Some(Stop::Made(grant)) => Ok(Some(grant)),
            Some(stop) => Err(plain(stop)),
            None => Ok(None),
        }
    }
}
