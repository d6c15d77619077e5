//! Pessimistic: lock the rows, then look, then write.
//!
//! Boundary: insert, lock in SKU order, read, decide, update, commit. What was read under the
//! lock is true until the commit, so the check is ordinary code.
//! Blocks: everybody else who wants the row, for three round trips and a flush. With NOWAIT
//! nobody waits inside the database: whoever finds the row taken comes back later.
//! Fails: by waiting (lock_timeout), by NOWAIT, and by deadlock when somebody locks in another
//! order.

use std::collections::HashMap;

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, begin, commit};
use crate::order::{Order, ReservationId};

const WAIT: &str = "SELECT sku, available FROM stock WHERE sku = ANY ($1) AND slot = 0
                    ORDER BY sku FOR UPDATE";
const NOWAIT: &str = "SELECT sku, available FROM stock WHERE sku = ANY ($1) AND slot = 0
                      ORDER BY sku FOR UPDATE NOWAIT";

pub(super) async fn attempt(
    pool: &PgPool,
    id: ReservationId,
    order: &Order,
    wait: bool,
) -> Attempt {
    let mut tx = begin(pool).await?;
    // First, although the row it is about is not locked yet: it is the fence against repeats,
    // and it keeps the time under the lock short.
    let reservation = rows::insert(&mut tx, id, order, true).await?;
    let (skus, _) = rows::cart(order);
    let locked = sqlx::query_as(if wait { WAIT } else { NOWAIT });
    let locked: Vec<(String, i64)> = locked.bind(skus).fetch_all(&mut *tx).await?;
    let locked: HashMap<String, i64> = locked.into_iter().collect();
    rows::check(order, |sku| locked.get(sku.as_str()).map(|available| *available as u64))?;
    rows::take(&mut tx, order).await?;
    commit(tx, reservation).await
}
