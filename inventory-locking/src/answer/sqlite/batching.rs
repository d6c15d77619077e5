//! Batching: everybody who waits is served by one transaction, each with a verdict of their own.
//!
//! While one batch is being flushed the next one gathers; when the writer is free it takes all of
//! it. A hot SKU is then read once and written once for the whole batch, so the more people want
//! it, the less each of them costs. The verdicts are a pure function ([`crate::batch`]).
//! Boundary: one savepoint for the batch, inside the transaction that the group-commit writer
//! shares with confirmations and the rest; answers leave after the flush. Blocks: nobody but the
//! batch behind. Fails: together: a batch that cannot be written is refused as a whole.

use std::collections::HashSet;
use std::sync::Arc;

use group_commit::Writer;
use group_commit::rusqlite::{Connection, params};
use parking_lot::Mutex;

use super::rows;
use crate::batch::{Available, judge};
use crate::inventory::{Error, Grant};
use crate::order::{Key, Order, ReservationId};
use crate::waiting::{Batch, Verdict, Waiting, told, twin};
use service::Clock;

pub(super) async fn reserve(
    waiting: &Waiting,
    writer: &Writer,
    clock: &Clock,
    order: Order,
) -> Verdict {
    let (verdict, must_serve) = waiting.push(order)?;
    if must_serve {
        // A task of its own: the caller may go away, the batch may not.
        tokio::spawn(serve(waiting.clone(), writer.clone(), clock.clone()));
    }
    told(verdict).await
}

/// Serves batches until nobody waits.
async fn serve(waiting: Waiting, writer: Writer, clock: Clock) {
    loop {
        // Taken when the writer is free, not when it is asked: in between more have come.
        let taken = Arc::new(Mutex::new(Batch::default()));
        let (queue, batch, clock) = (waiting.clone(), Arc::clone(&taken), clock.clone());
        let written = writer.call(move |tx| {
            let mut batch = batch.lock();
            *batch = queue.take();
            metrics::histogram!("inventory_batch_orders").record(batch.orders.len() as f64);
            write(tx, &batch.orders, clock.now_ms())
        });
        let verdicts = written.await;
        std::mem::take(&mut *taken.lock()).answer(verdicts);
        waiting.gather().await;
        if waiting.is_done() {
            return;
        }
    }
}

/// Judges and writes a batch.
fn write(
    tx: &Connection,
    orders: &[(ReservationId, Order)],
    now_ms: u64,
) -> Result<Vec<Verdict>, Error> {
    let known = made_before(tx, orders);
    let fresh: Vec<&Order> = orders
        .iter()
        .zip(&known)
        .filter(|(_, verdict)| verdict.is_none())
        .map(|((_, order), _)| order)
        .collect();
    let mut judged = judged(tx, &fresh, now_ms)?.into_iter();
    let mut verdicts = Vec::with_capacity(orders.len());
    for ((id, order), known) in orders.iter().zip(known) {
        let granted = match known {
            Some(verdict) => {
                verdicts.push(verdict);
                continue;
            }
            None => judged.next().expect("every order that is not a repeat is judged"),
        };
        verdicts.push(match granted {
            Ok(()) => {
                let reservation = rows::insert(tx, *id, order.clone(), now_ms)?;
                Ok(Grant { reservation, replayed: false })
            }
            Err(error) => Err(error),
        });
    }
    Ok(verdicts)
}

/// The verdicts that are known beforehand: repeats.
fn made_before(tx: &Connection, orders: &[(ReservationId, Order)]) -> Vec<Option<Verdict>> {
    let mut keys: HashSet<&Key> = HashSet::new();
    let known = orders.iter().map(|(_, order)| {
        let is_twin = order.key.as_ref().is_some_and(|key| !keys.insert(key));
        match rows::made_before(tx, order) {
            Ok(Some(reservation)) => Some(Ok(Grant { reservation, replayed: true })),
            Ok(None) if is_twin => Some(Err(twin(order))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    });
    known.collect()
}

/// The verdicts on the rest, with the stock of each SKU read once and written once.
fn judged(
    tx: &Connection,
    orders: &[&Order],
    now_ms: u64,
) -> Result<Vec<Result<(), Error>>, Error> {
    let mut before = available(tx, orders)?;
    let mut after = before.clone();
    let mut verdicts = judge(&mut after, orders.iter().copied());
    // Before anybody is told "sold out", holds that are over give back what they have.
    if verdicts.iter().any(Result::is_err) && rows::release_overdue(tx, now_ms, u32::MAX)? > 0 {
        before = available(tx, orders)?;
        after = before.clone();
        verdicts = judge(&mut after, orders.iter().copied());
    }
    let sql = "UPDATE stock SET available = available - ?2, held = held + ?2,
               version = version + 1 WHERE sku = ?1";
    let mut update = tx.prepare_cached(sql)?;
    for (sku, left) in &after {
        let taken = before[sku].unwrap_or(0) - left.unwrap_or(0);
        if taken > 0 {
            update.execute(params![sku.as_str(), rows::signed(taken)])?;
        }
    }
    Ok(verdicts)
}

fn available(tx: &Connection, orders: &[&Order]) -> Result<Available, Error> {
    let mut available = Available::new();
    for line in orders.iter().flat_map(|order| order.lines.iter()) {
        if !available.contains_key(&line.sku) {
            let item = rows::load(tx, &line.sku)?;
            available.insert(line.sku.clone(), item.map(|item| item.available));
        }
    }
    Ok(available)
}
