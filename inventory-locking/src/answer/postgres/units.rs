//! Units: one row for each unit that can be sold next, claimed with SKIP LOCKED.
//!
//! A row that somebody else has locked is skipped, so nobody ever waits for anybody, and commits
//! are flushed together. Only a pool of [`POOL`] units is laid out in rows; the rest is a number
//! in slot 0 from which the pool is filled up, and rows whose unit was sold are used again.
//! Boundary: insert, claim, commit; filling up is a transaction of its own, under the lock of
//! slot 0 and then all others. Blocks: nobody while claiming. "Sold out" is said under all locks,
//! so it is never false. Fails: an attempt that finds too few free rows fills up and tries again.

use sqlx::{PgConnection, PgPool};

use super::rows;
use super::stop::{Attempt, Stop, begin, commit, committed};
use crate::inventory::Error;
use crate::order::{Line, Order, ReservationId};
use crate::slots::Slot;

/// Free units laid out in rows. More would make claims scan further, fewer would fill up oftener.
pub const POOL: u64 = 512;

/// The most units of one line that are claimed row by row; more are taken from slot 0 at once.
pub const CLAIM_MAX: u64 = 16;

/// How a new item is laid out: everything in slot 0. The pool is filled by the first buyer.
pub(super) fn layout(on_hand: u64) -> Vec<Slot> {
    vec![Slot { slot: 0, available: on_hand }]
}

// The claim begins at a random row: if all began at the first they would all skip the same ones.
const CLAIM: &str = "WITH claim AS MATERIALIZED (
        SELECT slot FROM stock WHERE sku = $1 AND slot >= $3 AND available = 1
        ORDER BY slot LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE stock SET available = 0, held = 1, version = version + 1
    FROM claim WHERE stock.sku = $1 AND stock.slot = claim.slot
    RETURNING stock.slot";

const TAKE_BULK: &str = "UPDATE stock
    SET available = available - $2, held = held + $2, version = version + 1
    WHERE sku = $1 AND slot = 0 AND available >= $2";

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, false).await?;
    for line in order.lines.iter() {
        let Some(parts) = claim(&mut tx, line).await? else {
            // What was claimed is free again before the others are locked: to hold some rows and
            // wait for the rest is how deadlocks are made.
            tx.rollback().await?;
            lay_out(pool, line).await?;
            return Err(Stop::Conflict);
        };
        rows::insert_lines(&mut tx, id, &line.sku, &parts).await?;
    }
    commit(tx, reservation).await
}

/// The rows of as many units as the line wants, or `None` if too few are free.
async fn claim(tx: &mut PgConnection, line: &Line) -> Result<Option<Vec<(i32, u64)>>, Stop> {
    let (sku, wanted) = (line.sku.as_str(), line.quantity as i64);
    if line.quantity > CLAIM_MAX {
        let taken = sqlx::query(TAKE_BULK).bind(sku).bind(wanted).execute(tx).await?;
        return Ok((taken.rows_affected() == 1).then(|| vec![(0, line.quantity)]));
    }
    let mut parts = Vec::new();
    for start in [fastrand::i32(1..=POOL as i32), 1] {
        let missing = wanted - parts.len() as i64;
        let claim = sqlx::query_as(CLAIM).bind(sku).bind(missing).bind(start);
        let claimed: Vec<(i32,)> = claim.fetch_all(&mut *tx).await?;
        parts.extend(claimed.into_iter().map(|(slot,)| (slot, 1)));
        if parts.len() as i64 == wanted {
            return Ok(Some(parts));
        }
    }
    Ok(None)
}

/// Under all locks of the SKU: says "sold out" if that is so, else lays the stock out so that the
/// line can be met: in rows, or for a large line back in slot 0.
async fn lay_out(pool: &PgPool, line: &Line) -> Result<(), Stop> {
    let mut tx = begin(pool).await?;
    let slots = rows::lock_slots(&mut tx, &line.sku).await?;
    let available: u64 = slots.iter().map(|slot| slot.available).sum();
    if available < line.quantity {
        let (sku, requested) = (line.sku.clone(), line.quantity);
        return Err(Error::SoldOut { sku, requested, available }.into());
    }
    let in_rows = if line.quantity > CLAIM_MAX { 0 } else { available.min(POOL) };
    let sql = "WITH free AS (
            SELECT slot, row_number() OVER (ORDER BY slot) AS place
            FROM generate_series(1, (SELECT max(slot) FROM stock WHERE sku = $1) + $2::int) AS slot
            WHERE NOT EXISTS (SELECT FROM stock
                              WHERE sku = $1 AND stock.slot = slot.slot AND held > 0)
        ), pool AS (
            SELECT slot, CASE WHEN place <= $2 THEN 1 ELSE 0 END AS available
            FROM free
            WHERE place <= $2 OR EXISTS (SELECT FROM stock WHERE sku = $1 AND stock.slot = free.slot)
        )
        INSERT INTO stock (sku, slot, available, held, sold, version)
        SELECT $1, slot, available, 0, 0, 0 FROM pool
        ON CONFLICT (sku, slot) DO UPDATE
        SET available = excluded.available, version = stock.version + 1
        WHERE stock.available <> excluded.available";
    sqlx::query(sql).bind(line.sku.as_str()).bind(in_rows as i64).execute(&mut *tx).await?;
    let sql = "UPDATE stock SET available = $2, version = version + 1 WHERE sku = $1 AND slot = 0";
    let backlog = (available - in_rows) as i64;
    sqlx::query(sql).bind(line.sku.as_str()).bind(backlog).execute(&mut *tx).await?;
    committed(tx).await
}
