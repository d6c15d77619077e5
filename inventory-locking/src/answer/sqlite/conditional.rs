//! Conditional: let the update itself be the check.
//!
//! `UPDATE ... SET available = available - q WHERE available >= q` decides and writes in one
//! statement; no row was read, so none can be out of date. Taking a quantity needs no version
//! column: subtractions commute, edits do not.
//! Boundary: write the reservation, subtract, commit. Blocks: other writers while it runs. Fails:
//! an update that matches no row is sold out, which rolls the reservation back.

use group_commit::rusqlite::{Connection, params};

use super::rows;
use crate::inventory::{Error, Grant};
use crate::order::{Order, ReservationId};

const TAKE: &str = "UPDATE stock
    SET available = available - ?2, held = held + ?2, version = version + 1
    WHERE sku = ?1 AND available >= ?2";

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
    let reservation = rows::insert(tx, id, order.clone(), now_ms)?;
    let mut take = tx.prepare_cached(TAKE)?;
    let mut swept = false;
    for line in order.lines.iter() {
        while take.execute(params![line.sku.as_str(), rows::signed(line.quantity)])? == 0 {
            // Before anybody is told "sold out", holds that are over give back what they have.
            if !swept && rows::release_overdue(tx, now_ms, u32::MAX)? > 0 {
                swept = true;
                continue;
            }
            let available = rows::known(tx, &line.sku)?.available;
            let (sku, requested) = (line.sku.clone(), line.quantity);
            return Err(Error::SoldOut { sku, requested, available });
        }
    }
    Ok(Grant { reservation, replayed: false })
}
