//! Batching: one writer, one transaction for everybody who waits.
//!
//! The row is locked once, written once and flushed once for a whole batch. What limits it is no
//! longer the lock but how fast rows can be inserted.
//! While there is plenty, a batch is one statement that grants everything ([`write_at_once`]). When
//! somebody may have to be refused, a transaction looks first, and each order gets its own verdict
//! from a pure function ([`crate::batch`]).
//! Boundary: that statement; or look up keys, lock the stock in SKU order, judge, insert, update,
//! commit. Answers leave after the commit. Blocks: other writers of the same SKUs for the length of a batch.
//! Trade-off: every server has a writer of its own, and they queue for the row lock as single
//! buyers would; route a SKU to one server, or accept that.
//! Fails: as a whole, and then the whole batch is tried again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgPool;

use super::stop::{Stop, begin, code, committed};
use super::{Shared, rows};
use crate::backoff::ATTEMPTS_MAX;
use crate::batch::{Available, judge};
use crate::inventory::{Error, Grant};
use crate::order::{Key, Order, ReservationId, Sku};
use crate::waiting::{Verdict, told, twin};

/// The most SKUs whose stock the writer remembers; beyond it, it forgets all and looks again.
const REMEMBERED_MAX: usize = 10_000;

/// What the writer believes to be left, from its own last batch. Only a hint: another server, or a
/// correction, makes it wrong, and then the statement that trusted it undoes itself.
#[derive(Default)]
pub(super) struct Left(Mutex<HashMap<Sku, u64>>);

impl Left {
    /// Whether everything that these orders want is there together.
    fn is_plenty(&self, orders: &[(ReservationId, Order)]) -> bool {
        let mut wanted: HashMap<&Sku, u64> = HashMap::new();
        for line in orders.iter().flat_map(|(_, order)| order.lines.iter()) {
            *wanted.entry(&line.sku).or_default() += line.quantity;
        }
        let left = self.0.lock();
        wanted.iter().all(|(sku, wanted)| left.get(*sku).is_some_and(|left| left >= wanted))
    }

    fn note(&self, skus: impl IntoIterator<Item = (Sku, u64)>) {
        let mut left = self.0.lock();
        if left.len() >= REMEMBERED_MAX {
            left.clear();
        }
        left.extend(skus);
    }
}

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
        shared.waiting.gather().await;
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
    for attempt in 0..ATTEMPTS_MAX {
        let written = match attempt == 0 && shared.left.is_plenty(orders) {
            true => write_at_once(shared, pool, orders).await,
            false => write(shared, pool, orders).await,
        };
        match written {
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
            Err(Stop::Broken(error)) => last = Some(error),
            Err(Stop::Prepared) => continue,
            Err(Stop::Conflict | Stop::Made(_)) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last.map_or_else(
        || Error::Busy { what: "the writer lost too often".to_owned(), retry_after_ms: 100 },
        Error::unavailable,
    ))
}

/// When the time is, which were made, and what is left of which SKU.
type AtOnce = (i64, Vec<String>, Vec<String>, Vec<i64>);

/// Grants all orders in one statement, repeats excepted.
///
/// # Errors
/// [`Stop::Prepared`] when there is less than was believed, or when somebody has to be looked
/// into: the batch is then written the long way.
async fn write_at_once(
    shared: &Shared,
    pool: &PgPool,
    orders: &[(ReservationId, Order)],
) -> Result<Vec<Verdict>, Stop> {
    let all: Vec<&(ReservationId, Order)> = orders.iter().collect();
    let columns = Columns::of(&all);
    let written: Result<AtOnce, _> = columns.bound(include_str!("sql/batch.sql"), pool).await;
    let (granted_at_ms, made, skus, left) = match written {
        Ok(written) => written,
        Err(error) => match code(&error).as_deref() {
            Some("IV001") => return Err(Stop::Prepared),
            Some(_) => return Err(Stop::from(error)),
            // The commit is part of the statement.
            None => return Err(Stop::Ambiguous(error)),
        },
    };
    let left = skus.iter().zip(left).map(|(sku, left)| (Sku::stored(sku), left as u64));
    shared.left.note(left);
    let made: HashSet<&str> = made.iter().map(String::as_str).collect();
    let mut verdicts = Vec::with_capacity(orders.len());
    for ((id, order), name) in orders.iter().zip(&columns.ids) {
        verdicts.push(match made.contains(name.as_str()) {
            true => {
                let reservation = rows::fresh(*id, order, granted_at_ms);
                Ok(Grant { reservation, replayed: false })
            }
            false => match rows::made(&mut *pool.acquire().await?, *id, order).await? {
                Some(Stop::Made(grant)) => Ok(grant),
                Some(Stop::Tell(error)) => Err(error),
                _ => return Err(Stop::Prepared),
            },
        });
    }
    Ok(verdicts)
}

async fn write(
    shared: &Shared,
    pool: &PgPool,
    orders: &[(ReservationId, Order)],
) -> Result<Vec<Verdict>, Stop> {
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
        shared.left.note(after.into_iter().filter_map(|(sku, left)| Some((sku, left?))));
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

/// Orders as the columns of two tables.
struct Columns<'a> {
    ids: Vec<String>,
    keys: Vec<Option<&'a str>>,
    ttls: Vec<i64>,
    owners: Vec<String>,
    skus: Vec<&'a str>,
    quantities: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(orders: &[&'a (ReservationId, Order)]) -> Self {
        let ids: Vec<String> = orders.iter().map(|(id, _)| id.to_string()).collect();
        let keys = orders.iter().map(|(_, order)| order.key.as_ref().map(Key::as_str)).collect();
        let ttls = orders.iter().map(|(_, order)| order.ttl_ms as i64).collect();
        let (mut owners, mut skus, mut quantities) = (Vec::new(), Vec::new(), Vec::new());
        for ((_, order), id) in orders.iter().zip(&ids) {
            for line in order.lines.iter() {
                owners.push(id.clone());
                skus.push(line.sku.as_str());
                quantities.push(line.quantity as i64);
            }
        }
        Self { ids, keys, ttls, owners, skus, quantities }
    }

    /// Runs a statement that takes them as `$1` to `$6` and returns one row.
    async fn bound<'e, T>(
        &self,
        sql: &'static str,
        on: impl sqlx::PgExecutor<'e>,
    ) -> Result<T, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as(sql)
            .bind(&self.ids)
            .bind(&self.keys)
            .bind(&self.ttls)
            .bind(&self.owners)
            .bind(&self.skus)
            .bind(&self.quantities)
            .fetch_one(on)
            .await
    }
}

// A key that another server uses at this moment is an error here (23505): the batch is written
// again, and finds it.
const INSERT: &str = "WITH clock AS MATERIALIZED (SELECT inventory_now_ms() AS now_ms), made AS (
        INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
        SELECT id::uuid, 0, key, ttl_ms, now_ms, now_ms + ttl_ms
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS made (id, key, ttl_ms), clock
    ), lines AS (
        INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
        SELECT id::uuid, sku, 0, quantity
        FROM unnest($4::text[], $5::text[], $6::bigint[]) AS line (id, sku, quantity)
    )
    SELECT now_ms FROM clock";

/// Writes all reservations; when they were granted.
async fn insert(
    tx: &mut sqlx::PgConnection,
    granted: &[&(ReservationId, Order)],
) -> Result<i64, Stop> {
    let (now_ms,): (i64,) = Columns::of(granted).bound(INSERT, tx).await?;
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
