//! Naive: look, decide, write. Wrong on purpose, to be caught.
//!
//! What is wrong: the number that is written was computed from a number that may be out of date.
//! Two buyers read 1, both write 0, both are told "yes" (a lost update). There is a transaction,
//! and it does not help: at READ COMMITTED it isolates nothing of this.

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, begin, commit};
use crate::order::{Order, ReservationId};

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut tx = begin(pool).await?;
    let reservation = rows::insert(&mut tx, id, order, true).await?;
    for line in order.lines.iter() {
        let (item, _) = rows::item(&mut tx, &line.sku).await?;
        rows::check(
            order,
            |sku| if *sku == line.sku { Some(item.available) } else { Some(u64::MAX) },
        )?;
        // Trap: `SET available = $2` where $2 is what somebody read a moment ago, minus one.
        let sql = "UPDATE stock SET available = $2, held = $3, version = version + 1
                   WHERE sku = $1 AND slot = 0";
        let update = sqlx::query(sql)
            .bind(line.sku.as_str())
            .bind((item.available - line.quantity) as i64)
            .bind((item.held + line.quantity) as i64);
        update.execute(&mut *tx).await?;
    }
    commit(tx, reservation).await
}
