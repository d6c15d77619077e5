//! Serializable: write the obvious code and let the database find out whether it was right.
//!
//! Boundary: everything in one SERIALIZABLE transaction, and the whole of it again when the
//! database says 40001. Blocks: nobody until somebody writes the same row; then the loser is
//! aborted when the winner commits. Fails: often on one hot row, for every pair of reservations
//! conflicts; it shines where the invariant spans rows that nobody locks.

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, begin_with, commit};
use crate::order::{Order, ReservationId};

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin_with(pool, "BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    let reservation = rows::insert(&mut tx, id, order, true).await?;
    let sql = "SELECT sku, available FROM stock WHERE sku = ANY ($1) AND slot = 0";
    let (skus, _) = rows::cart(order);
    let read: Vec<(String, i64)> = sqlx::query_as(sql).bind(skus).fetch_all(&mut *tx).await?;
    rows::check(order, |sku| {
        read.iter().find(|row| row.0 == sku.as_str()).map(|row| row.1 as u64)
    })?;
    rows::take(&mut tx, order).await?;
    commit(tx, reservation).await
}
