//! Optimistic: look without a lock, write only if nothing has changed, else look again.
//!
//! The interview's answer, precisely: read the row with its version; decide in code; `UPDATE ...
//! WHERE sku = ? AND version = ?`; one row is success, none is a conflict, and a conflict is
//! told apart from sold out by looking again.
//! Boundary: the loop encloses the transaction. Each attempt is a fresh read and a fresh
//! transaction: a retry inside the same transaction would see the same old snapshot for ever.
//! Blocks: nobody while it decides. Fails: by conflict, more often the more want the same.

use std::sync::Arc;
use std::time::Instant;

use group_commit::rusqlite::{Connection, params};

use super::{Connections, rows};
use crate::backoff::{ATTEMPTS_MAX, Pace};
use crate::inventory::{Error, Grant, Item};
use crate::order::{Order, ReservationId};
use service::Clock;

/// The longest that losers stay away: some dozens of a winner's turns. Longer, and the file has
/// nothing to do; shorter, and the losers meet again.
pub(super) const WINDOW_US_MAX: u64 = 4_000;

const TAKE: &str = "UPDATE stock
    SET available = ?3, held = ?4, version = version + 1
    WHERE sku = ?1 AND version = ?2";

pub(super) async fn reserve(
    connections: &Connections,
    pace: &Pace,
    clock: &Clock,
    order: Order,
) -> Result<Grant, Error> {
    let id = ReservationId::fresh();
    let order = Arc::new(order);
    let hot = order.lines[0].sku.clone();
    let turn = pace.enter(hot.as_str());
    for _ in 0..ATTEMPTS_MAX {
        turn.pause().await;
        let begun = Instant::now();
        let (order, clock) = (Arc::clone(&order), clock.clone());
        let attempt = connections.with(move |connection| attempt(connection, id, &order, &clock));
        match attempt.await? {
            Some(grant) => {
                turn.won();
                return Ok(grant);
            }
            None if turn.lost(begun) => {}
            None => break,
        }
    }
    metrics::counter!("inventory_gave_up_total").increment(1);
    Err(Error::Busy { what: format!("too many want {hot}"), retry_after_ms: 100 })
}

/// One attempt; `None` when somebody was faster.
fn attempt(
    connection: &mut Connection,
    id: ReservationId,
    order: &Order,
    clock: &Clock,
) -> Result<Option<Grant>, Error> {
    metrics::counter!("inventory_attempts_total").increment(1);
    let Some(read) = read(connection, order, clock)? else { return Ok(None) };
    let tx = connection
        .transaction_with_behavior(group_commit::rusqlite::TransactionBehavior::Immediate)?;
    if let Some(reservation) = rows::made_before(&tx, order)? {
        return Ok(Some(Grant { reservation, replayed: true }));
    }
    let reservation = rows::insert(&tx, id, order.clone(), clock.now_ms())?;
    {
        let mut take = tx.prepare_cached(TAKE)?;
        for (item, line) in read.iter().zip(order.lines.iter()) {
            let [version, available, held] =
                [item.version, item.available - line.quantity, item.held + line.quantity]
                    .map(rows::signed);
            if take.execute(params![line.sku.as_str(), version, available, held])? == 0 {
                return Ok(None); // dropping the transaction rolls it back
            }
        }
    }
    tx.commit()?;
    Ok(Some(Grant { reservation, replayed: false }))
}

/// Reads every row and decides, without a lock. `None`: look again, holds were released.
fn read(
    connection: &mut Connection,
    order: &Order,
    clock: &Clock,
) -> Result<Option<Vec<Item>>, Error> {
    let snapshot = connection.transaction()?;
    if rows::made_before(&snapshot, order)?.is_some() {
        // The transaction below finds it again, under the lock.
        return Ok(Some(Vec::new()));
    }
    let mut read = Vec::with_capacity(order.lines.len());
    let mut short = None;
    for line in order.lines.iter() {
        let item = match rows::known(&snapshot, &line.sku) {
            Ok(item) => item,
            Err(error) => {
                short = Some(error);
                break;
            }
        };
        if item.available < line.quantity {
            let (sku, requested) = (line.sku.clone(), line.quantity);
            short = Some(Error::SoldOut { sku, requested, available: item.available });
            break;
        }
        read.push(item);
    }
    drop(snapshot);
    let Some(short) = short else { return Ok(Some(read)) };
    let tx = connection
        .transaction_with_behavior(group_commit::rusqlite::TransactionBehavior::Immediate)?;
    let released = rows::release_overdue(&tx, clock.now_ms(), u32::MAX)?;
    tx.commit()?;
    if released > 0 { Ok(None) } else { Err(short) }
}
