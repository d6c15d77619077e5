//! Batching: everybody who waits is served by one transaction, each with a verdict of their own.
//!
//! While one batch is being flushed the next one gathers; when the writer is free it takes all of
//! it. A hot SKU is then read once and written once for the whole batch, so the more people want
//! it, the less each of them costs. The verdicts are a pure function ([`crate::batch`]).
//! Boundary: one savepoint for the batch, inside the transaction that the group-commit writer
//! shares with confirmations and the rest; answers leave after the flush. Blocks: nobody but the
//! batch behind. Fails: together: a batch that cannot be written is refused as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use group_commit::Writer;
use group_commit::rusqlite::{Connection, params};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::rows;
use crate::batch::{Available, judge};
use crate::inventory::{Error, Grant};
use crate::order::{Key, Order, ReservationId};
use service::Clock;

/// The most that wait. One more is told that it is busy: at some tens of thousands of
/// reservations a second this is a good part of a second of waiting.
pub const WAITING_MAX: usize = 16_384;

/// The most in one batch, so that the first of a batch does not wait for too many behind it.
pub const BATCH_MAX: usize = 1_024;

type Reply = oneshot::Sender<Result<Grant, Error>>;

/// Those who wait.
#[derive(Clone, Default)]
pub(super) struct Batcher(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    orders: Vec<Order>,
    replies: Vec<Reply>,
    /// Whether somebody has asked the writer to come and take them.
    called: bool,
}

impl Batcher {
    pub(super) async fn reserve(
        &self,
        writer: &Writer,
        clock: &Clock,
        order: Order,
    ) -> Result<Grant, Error> {
        let (reply, verdict) = oneshot::channel();
        let must_call = {
            let mut waiting = self.0.lock();
            if waiting.orders.len() >= WAITING_MAX {
                let what = "too many wait to be written".to_owned();
                return Err(Error::Busy { what, retry_after_ms: 1_000 });
            }
            waiting.orders.push(order);
            waiting.replies.push(reply);
            !std::mem::replace(&mut waiting.called, true)
        };
        if must_call {
            // A task of its own: the caller may go away, the batch may not.
            tokio::spawn(self.clone().serve(writer.clone(), clock.clone()));
        }
        verdict.await.unwrap_or_else(|_| Err(Error::corrupt("the batch was dropped")))
    }

    /// Serves batches until nobody waits.
    async fn serve(self, writer: Writer, clock: Clock) {
        loop {
            let (batcher, clock) = (self.clone(), clock.clone());
            // Who waits is taken when the writer is free, not when it is called: in between more
            // have come.
            let taken = Arc::new(Mutex::new(Vec::new()));
            let replies = Arc::clone(&taken);
            let written = writer.call(move |tx| {
                let orders = batcher.take(&mut replies.lock());
                metrics::histogram!("inventory_batch_orders").record(orders.len() as f64);
                write(tx, orders, clock.now_ms())
            });
            let verdicts = written.await;
            answer(std::mem::take(&mut *taken.lock()), verdicts);
            let mut waiting = self.0.lock();
            if waiting.orders.is_empty() {
                waiting.called = false;
                return;
            }
        }
    }

    fn take(&self, replies: &mut Vec<Reply>) -> Vec<Order> {
        let mut waiting = self.0.lock();
        let count = waiting.orders.len().min(BATCH_MAX);
        replies.extend(waiting.replies.drain(..count));
        waiting.orders.drain(..count).collect()
    }
}

/// After the flush: to each their verdict.
fn answer(replies: Vec<Reply>, verdicts: Result<Vec<Result<Grant, Error>>, Error>) {
    match verdicts {
        Ok(verdicts) => {
            for (reply, verdict) in replies.into_iter().zip(verdicts) {
                // Whoever has gone away is not told.
                drop(reply.send(verdict));
            }
        }
        Err(error) => {
            let what = error.to_string();
            for reply in replies {
                drop(reply.send(Err(Error::Unavailable { what: what.clone(), source: None })));
            }
        }
    }
}

/// Judges and writes a batch.
fn write(
    tx: &Connection,
    orders: Vec<Order>,
    now_ms: u64,
) -> Result<Vec<Result<Grant, Error>>, Error> {
    let mut verdicts: Vec<Option<Result<Grant, Error>>> = Vec::with_capacity(orders.len());
    let mut firsts: HashMap<&Key, usize> = HashMap::new();
    for (index, order) in orders.iter().enumerate() {
        let twin = order.key.as_ref().and_then(|key| firsts.get(key));
        verdicts.push(match (twin, rows::made_before(tx, order)) {
            (_, Ok(Some(reservation))) => Some(Ok(Grant { reservation, replayed: true })),
            (_, Err(error)) => Some(Err(error)),
            // Two of one key in the same batch: the second waits for the next one.
            (Some(_), Ok(None)) => Some(Err(twin_of(order))),
            (None, Ok(None)) => {
                order.key.as_ref().map(|key| firsts.insert(key, index));
                None
            }
        });
    }
    let fresh: Vec<&Order> =
        orders.iter().zip(&verdicts).filter(|(_, v)| v.is_none()).map(|(o, _)| o).collect();
    let judged = judged(tx, &fresh, now_ms)?;
    let mut judged = judged.into_iter();
    let mut done = Vec::with_capacity(orders.len());
    for (order, verdict) in orders.iter().zip(verdicts) {
        done.push(match verdict {
            Some(verdict) => verdict,
            None => match judged.next().expect("every fresh order is judged") {
                Ok(()) => {
                    let id = ReservationId::fresh();
                    let reservation = rows::insert(tx, id, order.clone(), now_ms)?;
                    Ok(Grant { reservation, replayed: false })
                }
                Err(error) => Err(error),
            },
        });
    }
    Ok(done)
}

fn twin_of(order: &Order) -> Error {
    let key = order.key.as_ref().map_or("", Key::as_str);
    Error::Busy {
        what: format!("another request with the key {key} is in flight"),
        retry_after_ms: 1,
    }
}

/// The verdicts, with the stock of each SKU read once and written once.
fn judged(
    tx: &Connection,
    orders: &[&Order],
    now_ms: u64,
) -> Result<Vec<Result<(), Error>>, Error> {
    let before = available(tx, orders)?;
    let mut after = before.clone();
    let mut verdicts = judge(&mut after, orders.iter().copied());
    let mut before = before;
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
