//! Optimistic: look without a lock, write only if the version is still the same.
//!
//! Boundary: insert, read, decide, versioned update, commit. The retry loop is outside the
//! transaction (in the parent module): each attempt is a fresh transaction and a fresh read. At
//! REPEATABLE READ a re-read inside the same transaction would see the same old row for ever.
//! The read comes after the insert although it needs no lock and could be anywhere before the
//! update: what happens between read and update is the time in which somebody else can win.
//! Blocks: less than its name says. The versioned UPDATE waits for the row lock of whoever writes
//! the same row, and only then finds that the version has moved: every lost attempt has waited in
//! the queue for nothing. So losers must stay away for as long as the queue is long
//! ([`crate::backoff`]).
//! Fails: by conflict. With many clients on one row most attempts lose.

use std::collections::HashMap;

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, Stop, begin, commit};
use crate::order::{Order, ReservationId};

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, true).await?;
    let sql = "SELECT sku, available, held, version FROM stock WHERE sku = ANY ($1) AND slot = 0";
    let (skus, _) = rows::cart(order);
    let read: Vec<(String, i64, i64, i64)> =
        sqlx::query_as(sql).bind(skus).fetch_all(&mut *tx).await?;
    let read: HashMap<&str, (i64, i64, i64)> =
        read.iter().map(|row| (row.0.as_str(), (row.1, row.2, row.3))).collect();
    rows::check(order, |sku| read.get(sku.as_str()).map(|row| row.0 as u64))?;
    for line in order.lines.iter() {
        let (available, held, version) = read[line.sku.as_str()];
        let sql = "UPDATE stock SET available = $3, held = $4, version = version + 1
                   WHERE sku = $1 AND slot = 0 AND version = $2";
        let update = sqlx::query(sql)
            .bind(line.sku.as_str())
            .bind(version)
            .bind(available - line.quantity as i64)
            .bind(held + line.quantity as i64);
        if update.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(Stop::Conflict);
        }
    }
    commit(tx, reservation).await
}
