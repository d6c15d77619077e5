//! Pessimistic: take the lock, then look, then write.
//!
//! `BEGIN IMMEDIATE` is SQLite's `SELECT ... FOR UPDATE`, on the whole database. Everybody else
//! waits, so what was read is still true when it is written, and the check is ordinary code.
//! Boundary: lock, read, decide, write, commit. Blocks: all writers, from the first statement to
//! the flush. Fails: never by conflict; by waiting too long.

use group_commit::rusqlite::{Connection, params};

use super::rows;
use crate::inventory::{Error, Grant};
use crate::order::{Order, ReservationId};

/// Inside a transaction that has the write lock.
pub(super) fn reserve(
    tx: &Connection,
    id: ReservationId,
    order: Order,
    now_ms: u64,
) -> Result<Grant, Error> {
    if let Some(reservation) = rows::made_before(tx, &order)? {
        return Ok(Grant { reservation, replayed: true });
    }
    rows::release_overdue(tx, now_ms, u32::MAX)?;
    let mut after = Vec::with_capacity(order.lines.len());
    for line in order.lines.iter() {
        let item = rows::known(tx, &line.sku)?;
        let Some(available) = item.available.checked_sub(line.quantity) else {
            let (sku, requested) = (line.sku.clone(), line.quantity);
            return Err(Error::SoldOut { sku, requested, available: item.available });
        };
        after.push((&line.sku, available, item.held + line.quantity));
    }
    // What was read is written back as it is: right under this lock, a lost update without it.
    let sql = "UPDATE stock SET available = ?2, held = ?3, version = version + 1 WHERE sku = ?1";
    let mut update = tx.prepare_cached(sql)?;
    for (sku, available, held) in after {
        update.execute(params![sku.as_str(), rows::signed(available), rows::signed(held)])?;
    }
    let reservation = rows::insert(tx, id, order.clone(), now_ms)?;
    Ok(Grant { reservation, replayed: false })
}
