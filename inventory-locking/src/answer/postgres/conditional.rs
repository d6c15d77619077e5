//! Conditional: let the update itself be the check.
//!
//! `SET available = available - q WHERE available >= q`: no number was read, so none can be out of
//! date. At READ COMMITTED an update that had to wait looks at the row again as it is now.
//! Boundary: insert, then one update for each SKU in SKU order, commit. Blocks: from the update to
//! the commit, the shortest of the single-row ways with several statements. Fails: an update that
//! matches no row is sold out.

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, begin, commit};
use crate::order::{Order, ReservationId};

const TAKE: &str = "UPDATE stock
    SET available = available - $2, held = held + $2, version = version + 1
    WHERE sku = $1 AND slot = 0 AND available >= $2";

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, true).await?;
    for line in order.lines.iter() {
        let take = sqlx::query(TAKE).bind(line.sku.as_str()).bind(line.quantity as i64);
        if take.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(rows::short(&mut tx, line).await);
        }
    }
    commit(tx, reservation).await
}
