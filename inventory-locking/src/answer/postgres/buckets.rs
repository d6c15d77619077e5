//! Buckets: the stock of a SKU spread over sixteen rows.
//!
//! Sixteen rows are sixteen locks: buyers meet a sixteenth as often, and commits are flushed
//! together. The price is the end of the sale, when a bucket is empty and its neighbour is not.
//! Boundary: insert, take from a bucket chosen by lot, commit. Blocks: those who have drawn the same
//! bucket. When the bucket drawn has not enough any more, a second transaction locks all buckets
//! in order, counts exactly, and shares out again what is left. So "sold out" is never false, and
//! the last unit sells.
//! Fails: like conditional.

use sqlx::{PgConnection, PgPool};

use super::rows;
use super::stop::{Attempt, Stop, begin, commit};
use crate::inventory::{Error, Grant};
use crate::order::{Line, Order, ReservationId};
use crate::slots::{Slot, share_out, take};

/// Rows for each SKU: a few times as many as write at once, or they meet anyway; fewer than the
/// typical stock, or every sale ends in the slow path.
pub const BUCKETS: i32 = 16;

/// How a new item is laid out.
pub(super) fn layout(on_hand: u64) -> Vec<Slot> {
    let mut slots: Vec<Slot> = (0..BUCKETS).map(|slot| Slot { slot, available: 0 }).collect();
    slots[0].available = on_hand;
    share_out(&mut slots);
    slots
}

const TAKE: &str = "UPDATE stock
    SET available = available - $2, held = held + $2, version = version + 1
    WHERE sku = $1 AND available >= $2 AND slot = (
        SELECT slot FROM stock WHERE sku = $1 AND available >= $2 ORDER BY random() LIMIT 1
    )
    RETURNING slot";

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    match take_by_lot(pool, id, order).await? {
        Some(grant) => Ok(grant),
        None => take_in_order(pool, id, order).await,
    }
}

/// `None` when a bucket that was drawn has not enough.
///
/// Trap: an UPDATE that had to wait and then matched nothing has locked the row all the same, until
/// the transaction ends. To go on from here and lock all buckets in order would be to hold one of
/// them already, out of order: a deadlock. So this transaction is rolled back first.
async fn take_by_lot(
    pool: &PgPool,
    id: ReservationId,
    order: &Order,
) -> Result<Option<Grant>, Stop> {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, false).await?;
    for line in order.lines.iter() {
        let take = sqlx::query_as(TAKE).bind(line.sku.as_str()).bind(line.quantity as i64);
        let taken: Option<(i32,)> = take.fetch_optional(&mut *tx).await?;
        let Some((slot,)) = taken else {
            tx.rollback().await?;
            return Ok(None);
        };
        rows::insert_lines(&mut tx, id, &line.sku, &[(slot, line.quantity)]).await?;
    }
    commit(tx, reservation).await.map(Some)
}

async fn take_in_order(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, false).await?;
    for line in order.lines.iter() {
        let parts = gather(&mut tx, line).await?;
        rows::insert_lines(&mut tx, id, &line.sku, &parts).await?;
    }
    commit(tx, reservation).await
}

/// Under the lock of every bucket: takes from as many as it needs, and shares out the rest.
async fn gather(tx: &mut PgConnection, line: &Line) -> Result<Vec<(i32, u64)>, Stop> {
    let mut slots = rows::lock_slots(tx, &line.sku).await?;
    let available = slots.iter().map(|slot| slot.available).sum();
    let Some(parts) = take(&mut slots, line.quantity) else {
        let (sku, requested) = (line.sku.clone(), line.quantity);
        return Err(Error::SoldOut { sku, requested, available }.into());
    };
    share_out(&mut slots);
    rows::write_slots(tx, &line.sku, &slots, &parts).await?;
    Ok(parts)
}
