//! Advisory lock: a mutex by name, kept by the database and known to nobody else.
//!
//! Boundary: insert, lock the names, look, update, commit; the lock goes with the transaction.
//! Blocks: whoever takes the same lock, and only them. Trap: code that does not take it is not
//! held off (confirmations here do not), so the update must still be relative and the CHECK on
//! the table is still needed. Useful where there is no row to lock yet.
//! Fails: by waiting. Names are hashed to 64 bits: two SKUs may share a lock, which is why the
//! locks are ordered by hash and not by SKU.

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, begin, commit};
use crate::order::{Order, ReservationId};

const LOCK: &str = "SELECT pg_advisory_xact_lock(name)
    FROM (SELECT DISTINCT hashtextextended(sku, 0) AS name FROM unnest($1::text[]) AS sku
          ORDER BY name) AS names";

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, true).await?;
    let (skus, _) = rows::cart(order);
    sqlx::query(LOCK).bind(skus.clone()).execute(&mut *tx).await?;
    // A statement of its own: one that began before the lock was granted would see the stock as
    // it was then.
    let sql = "SELECT sku, available FROM stock WHERE sku = ANY ($1) AND slot = 0";
    let read: Vec<(String, i64)> = sqlx::query_as(sql).bind(skus).fetch_all(&mut *tx).await?;
    rows::check(order, |sku| {
        read.iter().find(|row| row.0 == sku.as_str()).map(|row| row.1 as u64)
    })?;
    rows::take(&mut tx, order).await?;
    commit(tx, reservation).await
}
