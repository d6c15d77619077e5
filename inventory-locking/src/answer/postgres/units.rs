//! Units: one row for each unit that can be sold next, claimed with SKIP LOCKED.
//!
//! A row that somebody else has locked is skipped, so nobody ever waits for anybody, and commits
//! are flushed together. Only [`POOL`] units are laid out in rows at a time; the rest is a number
//! in slot 0, from which rows are filled when a buyer finds too few, and rows whose unit was sold
//! are used again.
//! Boundary: one statement for one unit, else insert, claim, commit; filling is a transaction of its
//! own, under the lock of slot 0. Half a pool ahead a server fills on the side; who comes to empty
//! rows all the same does it for all who wait.
//! Blocks: nobody while claiming. "Sold out" is said under the locks of all rows, so it is never
//! false. Fails: an attempt that finds too few free rows fills them and tries again.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;

use super::rows;
use super::stop::{Attempt, Stop, begin, code, commit, committed};
use crate::inventory::{Error, Grant};
use crate::order::{Key, Line, Order, ReservationId};
use crate::slots::Slot;

/// Units laid out in rows at a time. More are filled for nothing when a sale ends, fewer make
/// everybody wait more often for a filling.
pub const POOL: u64 = 2_048;

/// What is laid out first; each filling doubles it, up to [`POOL`]. Most SKUs sell a few, and to
/// lay out thousands for the first of them would make that buyer wait for all.
const FIRST_POOL: u64 = 64;

/// The most units of one line that are claimed row by row; more are taken from slot 0 at once.
pub const CLAIM_MAX: u64 = 16;

/// How a new item is laid out: everything in slot 0. Rows are filled by the first buyer.
pub(super) fn layout(on_hand: u64) -> Vec<Slot> {
    vec![Slot { slot: 0, available: on_hand }]
}

const CLAIM: &str = "WITH claim AS MATERIALIZED (
        SELECT slot FROM stock WHERE sku = $1 AND slot >= 1000 AND available = 1
        ORDER BY slot LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE stock SET available = 0, held = 1, version = version + 1
    FROM claim WHERE stock.sku = $1 AND stock.slot = claim.slot AND stock.slot >= 1000
    RETURNING stock.slot";

// Sold rows first, then new ones behind the last.
const FILL: &str = "WITH spent AS (
        SELECT slot FROM stock
        WHERE sku = $1 AND slot >= 1000 AND available = 0 AND held = 0 LIMIT $2
    ), fresh AS (
        SELECT first + place AS slot
        FROM (SELECT coalesce(max(slot), 999) AS first FROM stock WHERE sku = $1 AND slot >= 1000) AS last,
             generate_series(1, $2 - (SELECT count(*) FROM spent)::int) AS place
    ), filled AS (
        INSERT INTO stock (sku, slot, available, held, sold, version)
        SELECT $1, slot, 1, 0, 0, 0 FROM (TABLE spent UNION ALL TABLE fresh) AS slots
        ON CONFLICT (sku, slot) DO UPDATE SET available = 1, version = stock.version + 1
        RETURNING slot
    )
    SELECT min(slot), max(slot) FROM filled";

const DRAIN: &str = "UPDATE stock SET available = 0, version = version + 1
    WHERE sku = $1 AND slot >= 1000 AND available = 1";

const SET_BACKLOG: &str = "UPDATE stock SET available = $2, version = version + 1
    WHERE sku = $1 AND slot = 0";

const TAKE_BULK: &str = "UPDATE stock
    SET available = available - $2, held = held + $2, version = version + 1
    WHERE sku = $1 AND slot = 0 AND available >= $2";

/// The slot of the first unit; below are counters.
const FIRST_UNIT: i32 = 1_000;

/// SKUs that share a turn also share the wait for it: unlikely, and only slower.
const TURNS: usize = 256;

/// Who of this server fills, and where the rows are, for each SKU; clones share it.
#[derive(Clone)]
pub(super) struct Filling {
    turns: Arc<Vec<Turn>>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Turn {
    filling: Mutex<()>,
    /// How often it has been done.
    fillings: AtomicU64,
    /// Units claimed since.
    claimed: AtomicU64,
    /// The rows filled last, as far as this server knows: where to begin to look.
    first: AtomicI32,
    last: AtomicI32,
}

impl Turn {
    /// Anywhere among the rows filled last. If everybody began at the first row, each would have to
    /// step over all rows that the others have locked.
    fn start(&self) -> i32 {
        let first = self.first.load(Ordering::Relaxed).max(FIRST_UNIT);
        fastrand::i32(first..=self.last.load(Ordering::Relaxed).max(first))
    }

    /// How many units the next filling lays out, and how many the last one has.
    fn sizes(&self) -> (u64, u64) {
        let fillings = self.fillings.load(Ordering::Relaxed).min(16);
        let size = |fillings: u64| (FIRST_POOL << fillings).min(POOL);
        (size(fillings), size(fillings.saturating_sub(1)))
    }

    fn filled(&self, (first, last): (i32, i32)) {
        self.first.store(first, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.claimed.store(0, Ordering::Relaxed);
        self.fillings.fetch_add(1, Ordering::Release);
    }
}

impl Default for Filling {
    fn default() -> Self {
        let turns = Arc::new((0..TURNS).map(|_| Turn::default()).collect());
        Self { turns, hasher: foldhash::fast::RandomState::default() }
    }
}

impl Filling {
    fn of(&self, line: &Line) -> &Turn {
        &self.turns[self.hasher.hash_one(line.sku.as_str()) as usize % TURNS]
    }
}

pub(super) async fn attempt(
    pool: &PgPool,
    filling: &Filling,
    id: ReservationId,
    order: &Order,
) -> Attempt {
    let fillings = |line: &Line| filling.of(line).fillings.load(Ordering::Acquire);
    let before: Vec<u64> = order.lines.iter().map(fillings).collect();
    let short = match claimed(pool, filling, id, order).await? {
        Ok(grant) => return Ok(grant),
        Err(short) => short,
    };
    // Everybody finds the rows empty at the same moment, and one of them can fill them: to queue
    // for the lock of slot 0 only to find them full would take as many turns as there are buyers.
    let line = &order.lines[short];
    let turn = filling.of(line);
    let _mine = turn.filling.lock().await;
    if turn.fillings.load(Ordering::Acquire) != before[short] {
        return Err(Stop::Prepared);
    }
    Err(lay_out(pool, turn, line).await?)
}

/// Fills on the side when half of the pool is gone.
fn fill_ahead(pool: &PgPool, filling: &Filling, line: &Line) {
    let turn = filling.of(line);
    let (next, last) = turn.sizes();
    if turn.claimed.fetch_add(1, Ordering::Relaxed) + 1 != last / 2 {
        return;
    }
    let (pool, filling, line) = (pool.clone(), filling.clone(), line.clone());
    tokio::spawn(async move {
        let turn = filling.of(&line);
        let Ok(_mine) = turn.filling.try_lock() else { return };
        let filled = async {
            let mut tx = begin(&pool).await?;
            let backlog = rows::lock_backlog(&mut tx, &line.sku).await?;
            let rows = fill(&mut tx, line.sku.as_str(), backlog, next).await?;
            committed(tx).await?;
            Ok::<_, Stop>(rows)
        };
        // If it fails, those who find the rows empty do it.
        if let Ok(Some(rows)) = filled.await {
            turn.filled(rows);
        }
    });
}

/// Moves up to `most` units from slot 0 into rows; the first and the last of them.
async fn fill(
    tx: &mut PgConnection,
    sku: &str,
    backlog: u64,
    most: u64,
) -> Result<Option<(i32, i32)>, Stop> {
    let filled = backlog.min(most);
    if filled == 0 {
        return Ok(None);
    }
    let fill = sqlx::query_as(FILL).bind(sku).bind(filled as i32);
    let rows: (i32, i32) = fill.fetch_one(&mut *tx).await?;
    set_backlog(tx, sku, backlog - filled).await?;
    Ok(Some(rows))
}

/// The reservation, or which line found too few free rows.
async fn claimed(
    pool: &PgPool,
    filling: &Filling,
    id: ReservationId,
    order: &Order,
) -> Result<Result<Grant, usize>, Stop> {
    let [line @ Line { quantity: 1, .. }] = &order.lines[..] else {
        return claimed_in_steps(pool, id, order).await;
    };
    let somewhere = filling.of(line).start();
    let mut claimed = claimed_at_once(pool, id, order, line, somewhere).await?;
    if claimed.is_err() && somewhere > FIRST_UNIT {
        claimed = claimed_at_once(pool, id, order, line, FIRST_UNIT).await?;
    }
    if claimed.is_ok() {
        fill_ahead(pool, filling, line);
    }
    Ok(claimed)
}

async fn claimed_at_once(
    pool: &PgPool,
    id: ReservationId,
    order: &Order,
    line: &Line,
    from: i32,
) -> Result<Result<Grant, usize>, Stop> {
    let mut connection = pool.acquire().await?;
    let granted: Result<Option<(i64,)>, _> = sqlx::query_as(include_str!("sql/unit.sql"))
        .bind(id.to_string())
        .bind(order.key.as_ref().map(Key::as_str))
        .bind(order.ttl_ms as i64)
        .bind(line.sku.as_str())
        .bind(from)
        .fetch_optional(&mut *connection)
        .await;
    match granted {
        Ok(Some((granted_at_ms,))) => {
            let reservation = rows::fresh(id, order, granted_at_ms);
            Ok(Ok(Grant { reservation, replayed: false }))
        }
        Ok(None) => Err(rows::made(&mut connection, id, order).await?.unwrap_or(Stop::Conflict)),
        Err(error) => match code(&error).as_deref() {
            Some("IV001") => Ok(Err(0)),
            Some(_) => Err(Stop::from(error)),
            None => Err(Stop::Ambiguous(error)), // the commit is part of the statement
        },
    }
}

async fn claimed_in_steps(
    pool: &PgPool,
    id: ReservationId,
    order: &Order,
) -> Result<Result<Grant, usize>, Stop> {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, false).await?;
    for (at, line) in order.lines.iter().enumerate() {
        let Some(parts) = claim(&mut tx, line).await? else {
            // What was claimed is free again before the others are locked: to hold some rows and
            // wait for the rest is how deadlocks are made.
            tx.rollback().await?;
            return Ok(Err(at));
        };
        rows::insert_lines(&mut tx, id, &line.sku, &parts).await?;
    }
    commit(tx, reservation).await.map(Ok)
}

/// The rows of as many units as the line wants, or `None` if too few are free.
async fn claim(tx: &mut PgConnection, line: &Line) -> Result<Option<Vec<(i32, u64)>>, Stop> {
    let (sku, wanted) = (line.sku.as_str(), line.quantity as i64);
    if line.quantity > CLAIM_MAX {
        let taken = sqlx::query(TAKE_BULK).bind(sku).bind(wanted).execute(tx).await?;
        return Ok((taken.rows_affected() == 1).then(|| vec![(0, line.quantity)]));
    }
    let claimed: Vec<(i32,)> =
        sqlx::query_as(CLAIM).bind(sku).bind(wanted).fetch_all(&mut *tx).await?;
    let enough = claimed.len() as i64 == wanted;
    Ok(enough.then(|| claimed.into_iter().map(|(slot,)| (slot, 1)).collect()))
}

/// Makes it possible for the line to be met, or says that it is sold out.
async fn lay_out(pool: &PgPool, turn: &Turn, line: &Line) -> Result<Stop, Stop> {
    let mut tx = begin(pool).await?;
    let sku = line.sku.as_str();
    let backlog = rows::lock_backlog(&mut tx, &line.sku).await?;
    let small = line.quantity <= CLAIM_MAX;
    let sql = "SELECT count(*) FROM stock WHERE sku = $1 AND slot >= 1000 AND available = 1";
    let (free,): (i64,) = sqlx::query_as(sql).bind(sku).fetch_one(&mut *tx).await?;
    if small && free as u64 >= line.quantity {
        // Somebody has just filled them, or those that are free are being claimed.
        return Ok(Stop::Conflict);
    }
    if small && let Some(rows) = fill(&mut tx, sku, backlog, turn.sizes().0).await? {
        committed(tx).await?;
        turn.filled(rows);
        return Ok(Stop::Prepared);
    }
    let slots = rows::lock_slots(&mut tx, &line.sku).await?;
    let available: u64 = slots.iter().map(|slot| slot.available).sum();
    if available < line.quantity {
        let (sku, requested) = (line.sku.clone(), line.quantity);
        return Err(Error::SoldOut { sku, requested, available }.into());
    }
    if small {
        return Ok(Stop::Conflict); // a claim that was under way has been given up
    }
    sqlx::query(DRAIN).bind(sku).execute(&mut *tx).await?;
    set_backlog(&mut tx, sku, available).await?;
    committed(tx).await?;
    Ok(Stop::Prepared)
}

async fn set_backlog(tx: &mut PgConnection, sku: &str, backlog: u64) -> Result<(), Stop> {
    sqlx::query(SET_BACKLOG).bind(sku).bind(backlog as i64).execute(tx).await?;
    Ok(())
}
