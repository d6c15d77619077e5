//! Batching: one writer, one transaction for everybody who waits.
//!
//! The row is locked once, written once and flushed once for a whole batch; each order gets its own
//! verdict from a pure function ([`crate::batch`]). What limits it is no longer the lock but how
//! fast rows can be inserted.
//! Boundary: look up keys, lock the stock in SKU order, judge, insert, update, commit; answers
//! leave after the commit. Blocks: other writers of the same SKUs for the length of a batch.
//! Trade-off: every server has a writer of its own, and they queue for the row lock as single
//! buyers would; route a SKU to one server, or accept that.
//! Fails: as a whole, and then the whole batch is tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;

use super::stop::{Stop, begin, committed};
use super::{Shared, rows};
use crate::backoff::ATTEMPTS_MAX;
use crate::batch::{Available, judge};
use crate::inventory::{Error, Grant};
use crate::order::{Key, Order, ReservationId, Sku};
use crate::waiting::{Verdict, told, twin};

/// Pause before a batch that failed is tried again.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn reserve(shared: &Arc<Shared>, pool: &PgPool, order: Order) -> Verdict {
    let (verdict, must_serve) = shared.waiting.push(order)?;
    if must_serve {
        tokio::spawn(serve(Arc::clone(shared), pool.clone()));
    }
    told(verdict).await
}

/// Serves batches until nobody waits.
async fn serve(shared: Arc<Shared>, pool: PgPool) {
    loop {
        let batch = shared.waiting.take();
        metrics::histogram!("inventory_batch_orders").record(batch.orders.len() as f64);
        let verdicts = settled(&shared, &pool, &batch.orders).await;
        batch.answer(verdicts);
        // Those who have just been answered may want more: without this the next batch is the one
        // buyer who was quickest, and every other batch is nearly empty.
        tokio::task::yield_now().await;
        if shared.waiting.is_done() {
            return;
        }
    }
}

/// Writes a batch for certain, or says why not. After a COMMIT whose fate is not known the batch
/// is written again under the same ids: what was committed is then found, and nothing is taken
/// twice.
async fn settled(
    shared: &Shared,
    pool: &PgPool,
    orders: &[(ReservationId, Order)],
) -> Result<Vec<Verdict>, Error> {
    let mut last = None;
    for _ in 0..ATTEMPTS_MAX {
        match write(pool, orders).await {
            Ok(verdicts) => return Ok(verdicts),
            Err(Stop::Tell(error)) => return Err(error),
            Err(Stop::Short(_)) => {
                let skus = orders.iter().flat_map(|(_, order)| rows::cart(order).0).collect();
                super::release_of(pool, skus).await?;
            }
            Err(Stop::Ambiguous(error)) => {
                shared.note_ambiguous();
                last = Some(error);
            }
            Err(Stop::Conflict | Stop::Prepared | Stop::Made(_)) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last.map_or_else(
        || Error::Busy { what: "the writer lost too often".to_owned(), retry_after_ms: 100 },
        Error::unavailable,
    ))
}

async fn write(pool: &PgPool, orders: &[(ReservationId, Order)]) -> Result<Vec<Verdict>, Stop> {
    let mut tx = begin(pool).await?;
    let mut verdicts = made_before(&mut tx, orders).await?;
    let fresh: Vec<usize> = (0..orders.len()).filter(|&at| verdicts[at].is_none()).collect();
    if !fresh.is_empty() {
        let before = lock(&mut tx, fresh.iter().map(|&at| &orders[at].1)).await?;
        let mut after = before.clone();
        let judged = judge(&mut after, fresh.iter().map(|&at| &orders[at].1));
        if judged.iter().any(Result::is_err) && overdue(&mut tx, &before).await? {
            return Err(Stop::Short(Error::corrupt("released first, see the caller")));
        }
        let granted: Vec<&(ReservationId, Order)> = fresh
            .iter()
            .zip(&judged)
            .filter(|(_, v)| v.is_ok())
            .map(|(&at, _)| &orders[at])
            .collect();
        let granted_at_ms = insert(&mut tx, &granted).await?;
        update(&mut tx, &before, &after).await?;
        for (at, verdict) in fresh.into_iter().zip(judged) {
            let (id, order) = &orders[at];
            verdicts[at] = Some(verdict.map(|()| Grant {
                reservation: rows::fresh(*id, order, granted_at_ms),
                replayed: false,
            }));
        }
    }
    committed(tx).await?;
    Ok(verdicts.into_iter().map(|verdict| verdict.expect("every order has a verdict")).collect())
}

/// The verdicts that are known beforehand: repeats, and what an earlier attempt has committed.
async fn made_before(
    tx: &mut sqlx::PgConnection,
    orders: &[(ReservationId, Order)],
) -> Result<Vec<Option<Verdict>>, Stop> {
    let keys: Vec<&str> =
        orders.iter().filter_map(|(_, order)| order.key.as_ref().map(Key::as_str)).collect();
    let ids: Vec<String> = orders.iter().map(|(id, _)| id.to_string()).collect();
    let sql = "SELECT id::text, key FROM reservations
               WHERE key = ANY ($1) OR id = ANY ($2::text[]::uuid[])";
    let found: Vec<(String, Option<String>)> =
        sqlx::query_as(sql).bind(keys).bind(&ids).fetch_all(&mut *tx).await?;
    let mut firsts: HashMap<&Key, usize> = HashMap::new();
    let mut verdicts = Vec::with_capacity(orders.len());
    for (at, (id, order)) in orders.iter().enumerate() {
        let key = order.key.as_ref();
        let same = |row: &&(String, Option<String>)| {
            row.0 == ids[at] || (key.is_some() && row.1.as_deref() == key.map(Key::as_str))
        };
        let is_twin = key.is_some_and(|key| firsts.insert(key, at).is_some());
        verdicts.push(match found.iter().find(same) {
            None if is_twin => Some(Err(twin(order))),
            None => None,
            Some(_) => match rows::made(&mut *tx, *id, order).await? {
                Some(Stop::Made(grant)) => Some(Ok(grant)),
                Some(Stop::Tell(error)) => Some(Err(error)),
                _ => None,
            },
        });
    }
    Ok(verdicts)
}

/// Locks the stock of every SKU in the batch.
async fn lock(
    tx: &mut sqlx::PgConnection,
    orders: impl Iterator<Item = &Order>,
) -> Result<Available, Stop> {
    let mut available = Available::new();
    for line in orders.flat_map(|order| order.lines.iter()) {
        available.entry(line.sku.clone()).or_insert(None);
    }
    let skus: Vec<String> = available.keys().map(Sku::to_string).collect();
    let sql = "SELECT sku, available FROM stock WHERE sku = ANY ($1) AND slot = 0
               ORDER BY sku FOR UPDATE";
    let locked: Vec<(String, i64)> = sqlx::query_as(sql).bind(skus).fetch_all(tx).await?;
    for (sku, left) in locked {
        available.insert(Sku::stored(&sku), Some(left as u64));
    }
    Ok(available)
}

async fn overdue(tx: &mut sqlx::PgConnection, skus: &Available) -> Result<bool, Stop> {
    let skus: Vec<String> = skus.keys().map(Sku::to_string).collect();
    let sql = "SELECT EXISTS (
        SELECT FROM reservations JOIN reservation_lines ON reservation_id = id
        WHERE state = 0 AND expires_at_ms <= inventory_now_ms() AND sku = ANY ($1))";
    Ok(sqlx::query_as::<_, (bool,)>(sql).bind(skus).fetch_one(tx).await?.0)
}

/// Writes all reservations; when they were granted.
async fn insert(
    tx: &mut sqlx::PgConnection,
    granted: &[&(ReservationId, Order)],
) -> Result<i64, Stop> {
    let ids: Vec<String> = granted.iter().map(|(id, _)| id.to_string()).collect();
    let keys: Vec<Option<&str>> =
        granted.iter().map(|(_, order)| order.key.as_ref().map(Key::as_str)).collect();
    let ttls: Vec<i64> = granted.iter().map(|(_, order)| order.ttl_ms as i64).collect();
    let (mut owners, mut skus, mut quantities) = (Vec::new(), Vec::new(), Vec::new());
    for ((_, order), id) in granted.iter().zip(&ids) {
        for line in order.lines.iter() {
            owners.push(id.clone());
            skus.push(line.sku.as_str());
            quantities.push(line.quantity as i64);
        }
    }
    // A key that another server uses at this moment is an error here (23505): the batch is
    // written again, and finds it.
    let sql = "WITH clock AS MATERIALIZED (SELECT inventory_now_ms() AS now_ms), made AS (
            INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
            SELECT id::uuid, 0, key, ttl_ms, now_ms, now_ms + ttl_ms
            FROM unnest($1::text[], $2::text[], $3::bigint[]) AS made (id, key, ttl_ms), clock
        ), lines AS (
            INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
            SELECT id::uuid, sku, 0, quantity
            FROM unnest($4::text[], $5::text[], $6::bigint[]) AS line (id, sku, quantity)
        )
        SELECT now_ms FROM clock";
    let insert = sqlx::query_as(sql).bind(&ids).bind(keys).bind(ttls);
    let (now_ms,): (i64,) = insert.bind(owners).bind(skus).bind(quantities).fetch_one(tx).await?;
    Ok(now_ms)
}

async fn update(
    tx: &mut sqlx::PgConnection,
    before: &Available,
    after: &Available,
) -> Result<(), Stop> {
    let taken = |(sku, left): (&Sku, &Option<u64>)| {
        let taken = before[sku].unwrap_or(0) - left.unwrap_or(0);
        (taken > 0).then(|| (sku.to_string(), taken as i64))
    };
    let (skus, quantities): (Vec<String>, Vec<i64>) = after.iter().filter_map(taken).unzip();
    let sql = "UPDATE stock
               SET available = available - quantity, held = held + quantity, version = version + 1
               FROM unnest($1::text[], $2::bigint[]) AS line (sku, quantity)
               WHERE stock.sku = line.sku AND stock.slot = 0";
    if !skus.is_empty() {
        sqlx::query(sql).bind(skus).bind(quantities).execute(tx).await?;
    }
    Ok(())
}
