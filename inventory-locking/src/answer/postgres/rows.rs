//! The statements that every Postgres answer shares.
//!
//! Locks are taken in one order everywhere: reservations first, by deadline and id, then stock,
//! by SKU and slot. The hot rows of `stock` come last, so that they are held for as short as
//! possible.

use sqlx::PgConnection;
use uuid::Uuid;

use super::stop::Stop;
use crate::answer::gated::Stand;
use crate::audit::{Audit, Totals, judge};
use crate::inventory::{Error, Item, Reservation, State};
use crate::lifecycle::{Action, Step, as_seen, decide, stepped};
use crate::order::{
    Key, Line, Lines, Order, ReservationId, Restock, Sku, check_restock, check_stock,
};
use crate::slots::Slot;

/// The arguments of a cart: SKUs and quantities, in SKU order.
pub(super) fn cart(order: &Order) -> (Vec<String>, Vec<i64>) {
    order.lines.iter().map(|line| (line.sku.to_string(), line.quantity as i64)).unzip()
}

/// Writes a hold down, with its lines in slot 0 unless `lines` is false; the stock is the
/// caller's business.
///
/// # Errors
/// [`Stop::Made`] when the key or the id has been used.
pub(super) async fn insert(
    tx: &mut PgConnection,
    id: ReservationId,
    order: &Order,
    lines: bool,
) -> Result<Reservation, Stop> {
    let (skus, quantities) = if lines { cart(order) } else { (Vec::new(), Vec::new()) };
    let granted: Option<(i64,)> = sqlx::query_as(include_str!("sql/insert.sql"))
        .bind(id.to_string())
        .bind(order.key.as_ref().map(Key::as_str))
        .bind(order.ttl_ms as i64)
        .bind(skus)
        .bind(quantities)
        .fetch_optional(&mut *tx)
        .await?;
    match granted {
        Some((granted_at_ms,)) => Ok(fresh(id, order, granted_at_ms)),
        None => Err(made(tx, id, order).await?.unwrap_or(Stop::Conflict)),
    }
}

/// The reservation that has just been written.
pub(super) fn fresh(id: ReservationId, order: &Order, granted_at_ms: i64) -> Reservation {
    let granted_at_ms = granted_at_ms as u64;
    let (order, expires_at_ms) = (order.clone(), granted_at_ms + order.ttl_ms);
    Reservation { id, state: State::Held, order, granted_at_ms, expires_at_ms }
}

/// What this id or this order's key has made.
pub(super) async fn made(
    connection: &mut PgConnection,
    id: ReservationId,
    order: &Order,
) -> Result<Option<Stop>, Stop> {
    let Some((earlier, _)) = find(connection, id, order.key.as_ref(), false).await? else {
        return Ok(None);
    };
    if !order.is_repeat_of(&earlier.order) {
        let key = order.key.clone().ok_or_else(|| Error::corrupt("an id with another order"))?;
        return Ok(Some(Stop::Tell(Error::KeyReused(key))));
    }
    // Found under this attempt's own id: an earlier attempt of ours had gone through after all.
    let replayed = earlier.id != id;
    let reservation = earlier.as_granted();
    Ok(Some(Stop::Made(crate::inventory::Grant { reservation, replayed })))
}

type Found =
    (String, i16, Option<String>, i64, i64, i64, i64, Option<Vec<String>>, Option<Vec<i64>>);

/// The reservation as stored, and the time.
pub(super) async fn find(
    connection: &mut PgConnection,
    id: ReservationId,
    key: Option<&Key>,
    lock: bool,
) -> Result<Option<(Reservation, u64)>, Stop> {
    if lock {
        let sql = "SELECT FROM reservations WHERE id = $1::uuid FOR UPDATE";
        sqlx::query(sql).bind(id.to_string()).execute(&mut *connection).await?;
    }
    let found: Option<Found> = sqlx::query_as(include_str!("sql/find.sql"))
        .bind(id.to_string())
        .bind(key.map(Key::as_str))
        .fetch_optional(connection)
        .await?;
    let Some((id, state, key, ttl_ms, granted, expires, now_ms, skus, quantities)) = found else {
        return Ok(None);
    };
    let id = Uuid::parse_str(&id).map_err(|_| Error::corrupt("an id"))?;
    let lines = skus.unwrap_or_default().into_iter().zip(quantities.unwrap_or_default());
    let line =
        |(sku, quantity): (String, i64)| Line { sku: Sku::stored(&sku), quantity: quantity as u64 };
    let order = Order {
        key: key.as_deref().map(Key::stored),
        lines: Lines::stored(lines.map(line).collect()),
        ttl_ms: ttl_ms as u64,
    };
    let reservation = Reservation {
        id: ReservationId(id),
        state: State::from_code(state).ok_or_else(|| Error::corrupt("a state"))?,
        order,
        granted_at_ms: granted as u64,
        expires_at_ms: expires as u64,
    };
    Ok(Some((reservation, now_ms as u64)))
}

pub(super) async fn reservation(
    connection: &mut PgConnection,
    id: ReservationId,
) -> Result<Reservation, Stop> {
    let found = find(connection, id, None, false).await?;
    let (found, now_ms) = found.ok_or(Error::UnknownReservation(id))?;
    Ok(as_seen(found, now_ms))
}

/// Confirm, cancel or extend, inside a transaction.
pub(super) async fn act(
    tx: &mut PgConnection,
    id: ReservationId,
    action: Action,
) -> Result<Reservation, Stop> {
    let found = find(tx, id, None, true).await?;
    let (before, now_ms) = found.ok_or(Error::UnknownReservation(id))?;
    let step = decide(&before, action, now_ms)?;
    match step {
        Step::Same => {}
        Step::End(state) => {
            let sql = "UPDATE reservations SET state = $2 WHERE id = $1::uuid";
            sqlx::query(sql).bind(id.to_string()).bind(state.code()).execute(&mut *tx).await?;
            give_back(tx, vec![id.to_string()], state == State::Confirmed).await?;
        }
        Step::Until(expires_at_ms) => {
            let sql = "UPDATE reservations SET expires_at_ms = $2 WHERE id = $1::uuid";
            let update = sqlx::query(sql).bind(id.to_string()).bind(expires_at_ms as i64);
            update.execute(tx).await?;
        }
    }
    Ok(stepped(before, step))
}

async fn give_back(tx: &mut PgConnection, ids: Vec<String>, sold: bool) -> Result<(), Stop> {
    let sql = include_str!("sql/give_back.sql");
    sqlx::query(sql).bind(ids).bind(sold).execute(tx).await?;
    Ok(())
}

/// Releases holds that are over, inside a transaction; how many. With SKUs, those that stand
/// between a buyer and them, waiting for others who release the same.
pub(super) async fn release_overdue(
    tx: &mut PgConnection,
    limit: u32,
    skus: Option<Vec<String>>,
) -> Result<u64, Stop> {
    let ids: Vec<(String,)> = match skus {
        None => {
            let claim = sqlx::query_as(include_str!("sql/claim_overdue.sql"));
            claim.bind(i64::from(limit)).fetch_all(&mut *tx).await?
        }
        Some(skus) => {
            let claim = sqlx::query_as(include_str!("sql/claim_overdue_of.sql"));
            claim.bind(i64::from(limit)).bind(skus).fetch_all(&mut *tx).await?
        }
    };
    let released = ids.len() as u64;
    if released > 0 {
        give_back(tx, ids.into_iter().map(|(id,)| id).collect(), false).await?;
    }
    Ok(released)
}

/// The stock, and how many overdue holds are still counted in it.
pub(super) async fn item(connection: &mut PgConnection, sku: &Sku) -> Result<(Item, u64), Stop> {
    let row: (i64, i64, i64, i64, i64, i64) = sqlx::query_as(include_str!("sql/item.sql"))
        .bind(sku.as_str())
        .fetch_one(connection)
        .await?;
    if row.0 == 0 {
        return Err(Error::UnknownSku(sku.clone()).into());
    }
    let [available, held, sold, version, overdue] =
        [row.1, row.2, row.3, row.4, row.5].map(|number| number as u64);
    let item = Item { sku: sku.clone(), on_hand: available + held, available, held, sold, version };
    Ok((item, overdue))
}

/// What is available of a SKU, and for how long nothing of it comes back by itself.
pub(super) async fn stand(
    connection: &mut PgConnection,
    sku: &Sku,
    within_ms: u64,
) -> Result<Stand, Stop> {
    let row: (i64, i64, i64, Option<i64>) = sqlx::query_as(include_str!("sql/stand.sql"))
        .bind(sku.as_str())
        .bind(within_ms as i64)
        .fetch_one(connection)
        .await?;
    if row.0 == 0 {
        return Err(Error::UnknownSku(sku.clone()).into());
    }
    let certain_ms = row.3.map_or(within_ms, |deadline| (deadline - row.2).max(0) as u64);
    Ok(Stand { available: row.1 as u64, certain_ms })
}

/// Why a line could not be taken: unknown, sold out, or not true any more.
pub(super) async fn short(connection: &mut PgConnection, line: &Line) -> Stop {
    match item(connection, &line.sku).await {
        Ok((item, _)) if item.available >= line.quantity => Stop::Conflict,
        Ok((item, _)) => {
            let (sku, requested) = (line.sku.clone(), line.quantity);
            Stop::Short(Error::SoldOut { sku, requested, available: item.available })
        }
        Err(stop) => stop,
    }
}

/// Checks every line, in SKU order, against what was read.
pub(super) fn check(order: &Order, available: impl Fn(&Sku) -> Option<u64>) -> Result<(), Error> {
    for line in order.lines.iter() {
        let left = available(&line.sku).ok_or_else(|| Error::UnknownSku(line.sku.clone()))?;
        if left < line.quantity {
            let (sku, requested) = (line.sku.clone(), line.quantity);
            return Err(Error::SoldOut { sku, requested, available: left });
        }
    }
    Ok(())
}

/// Takes every line from slot 0, whatever is there: whoever calls this knows that there is
/// enough, and the CHECK of the table is the seat belt.
pub(super) async fn take(tx: &mut PgConnection, order: &Order) -> Result<(), Stop> {
    let sql = "UPDATE stock
               SET available = available - quantity, held = held + quantity, version = version + 1
               FROM unnest($1::text[], $2::bigint[]) AS line (sku, quantity)
               WHERE stock.sku = line.sku AND stock.slot = 0";
    let (skus, quantities) = cart(order);
    sqlx::query(sql).bind(skus).bind(quantities).execute(tx).await?;
    Ok(())
}

/// Creates the rows of a SKU: what is in each, by slot.
pub(super) async fn create(tx: &mut PgConnection, sku: &Sku, slots: &[Slot]) -> Result<(), Stop> {
    let sql = "INSERT INTO stock (sku, slot, available, held, sold, version)
               SELECT $1, slot, available, 0, 0, CASE WHEN slot = 0 THEN 1 ELSE 0 END
               FROM unnest($2::int[], $3::bigint[]) AS slot (slot, available)
               ON CONFLICT DO NOTHING";
    let (numbers, available) = columns(slots);
    let insert = sqlx::query(sql).bind(sku.as_str()).bind(numbers).bind(available);
    if insert.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Error::Exists(sku.clone()).into());
    }
    let on_hand: u64 = slots.iter().map(|slot| slot.available).sum();
    receive(tx, sku, on_hand as i64, None).await.map(drop)
}

fn columns(slots: &[Slot]) -> (Vec<i32>, Vec<i64>) {
    slots.iter().map(|slot| (slot.slot, slot.available as i64)).unzip()
}

/// Books what came or went; false when the key has been used.
async fn receive(
    tx: &mut PgConnection,
    sku: &Sku,
    delta: i64,
    key: Option<&Key>,
) -> Result<bool, Stop> {
    let sql = "INSERT INTO receipts (sku, delta, key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let insert = sqlx::query(sql).bind(sku.as_str()).bind(delta).bind(key.map(Key::as_str));
    Ok(insert.execute(tx).await?.rows_affected() == 1)
}

/// Locks slot 0; what it has.
pub(super) async fn lock_backlog(tx: &mut PgConnection, sku: &Sku) -> Result<u64, Stop> {
    let sql = "SELECT available FROM stock WHERE sku = $1 AND slot = 0 FOR UPDATE";
    let row: Option<(i64,)> = sqlx::query_as(sql).bind(sku.as_str()).fetch_optional(tx).await?;
    row.map(|(available,)| available as u64).ok_or_else(|| Error::UnknownSku(sku.clone()).into())
}

/// Locks every row of a SKU, in order.
///
/// Trap: slot 0 is locked by a statement of its own. A statement that waits for a lock goes on
/// with the rows it saw when it began: rows that the lock's owner has *inserted* would be missing,
/// and the stock in them, too: a false "sold out".
pub(super) async fn lock_slots(tx: &mut PgConnection, sku: &Sku) -> Result<Vec<Slot>, Stop> {
    lock_backlog(tx, sku).await?;
    let sql = "SELECT slot, available FROM stock WHERE sku = $1 ORDER BY slot FOR UPDATE";
    let rows: Vec<(i32, i64)> = sqlx::query_as(sql).bind(sku.as_str()).fetch_all(tx).await?;
    if rows.is_empty() {
        return Err(Error::UnknownSku(sku.clone()).into());
    }
    let slot = |(slot, available): (i32, i64)| Slot { slot, available: available as u64 };
    Ok(rows.into_iter().map(slot).collect())
}

/// Writes what the locked slots have now, and what of it has become held.
pub(super) async fn write_slots(
    tx: &mut PgConnection,
    sku: &Sku,
    slots: &[Slot],
    held: &[(i32, u64)],
) -> Result<(), Stop> {
    let sql = "UPDATE stock
               SET available = slot.available, held = held + slot.taken, version = version + 1
               FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS slot (slot, available, taken)
               WHERE stock.sku = $1 AND stock.slot = slot.slot
                 AND (stock.available <> slot.available OR slot.taken > 0 OR stock.slot = 0)";
    let (numbers, available) = columns(slots);
    let taken =
        |number: &i32| held.iter().filter(|part| part.0 == *number).map(|part| part.1).sum();
    let taken: Vec<i64> = numbers.iter().map(taken).map(|n: u64| n as i64).collect();
    let update = sqlx::query(sql).bind(sku.as_str()).bind(numbers).bind(available).bind(taken);
    update.execute(tx).await?;
    Ok(())
}

/// Records from which slots a line was taken.
pub(super) async fn insert_lines(
    tx: &mut PgConnection,
    id: ReservationId,
    sku: &Sku,
    parts: &[(i32, u64)],
) -> Result<(), Stop> {
    let sql = "INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
               SELECT $1::uuid, $2, slot, quantity
               FROM unnest($3::int[], $4::bigint[]) AS part (slot, quantity)";
    let (slots, quantities): (Vec<i32>, Vec<i64>) =
        parts.iter().map(|&(slot, quantity)| (slot, quantity as i64)).unzip();
    let insert = sqlx::query(sql).bind(id.to_string()).bind(sku.as_str());
    insert.bind(slots).bind(quantities).execute(tx).await?;
    Ok(())
}

/// Inside a transaction. `spread` says how stock is laid out over the rows.
pub(super) async fn restock(
    tx: &mut PgConnection,
    sku: &Sku,
    restock: &Restock,
    spread: fn(&mut [Slot]),
) -> Result<(), Stop> {
    let delta = i64::try_from(restock.quantity).unwrap_or(i64::MAX);
    if !receive(tx, sku, delta, restock.key.as_ref()).await? {
        let sql = "SELECT sku, delta FROM receipts WHERE key = $1";
        let key = restock.key.clone().ok_or_else(|| Error::corrupt("a receipt"))?;
        let (booked, quantity): (String, i64) =
            sqlx::query_as(sql).bind(key.as_str()).fetch_one(tx).await?;
        return match booked == sku.as_str() && quantity == delta {
            true => Ok(()),
            false => Err(Error::KeyReused(key).into()),
        };
    }
    let mut slots = lock_slots(tx, sku).await?;
    let (item, _) = item(tx, sku).await?;
    check_restock(restock.quantity, item.on_hand)?;
    slots[0].available += restock.quantity;
    spread(&mut slots);
    write_slots(tx, sku, &slots, &[]).await
}

/// Inside a transaction.
pub(super) async fn set_on_hand(
    tx: &mut PgConnection,
    sku: &Sku,
    on_hand: u64,
    expected: Option<u64>,
    spread: fn(&mut [Slot]),
) -> Result<(), Stop> {
    check_stock(on_hand)?;
    let mut slots = lock_slots(tx, sku).await?;
    let (item, overdue) = item(tx, sku).await?;
    if overdue > 0 {
        return Err(Stop::Conflict); // released first, see the caller
    }
    if expected.is_some_and(|expected| expected != item.version) {
        return Err(Error::Conflict { sku: sku.clone(), current: item.version }.into());
    }
    if on_hand < item.held {
        return Err(Error::BelowHeld { sku: sku.clone(), held: item.held }.into());
    }
    if on_hand >= item.on_hand {
        slots[0].available += on_hand - item.on_hand;
    } else {
        // The rows are locked and have as much together, for what is held was looked at above.
        crate::slots::take(&mut slots, item.on_hand - on_hand).ok_or(Stop::Conflict)?;
    }
    spread(&mut slots);
    write_slots(tx, sku, &slots, &[]).await?;
    receive(tx, sku, on_hand as i64 - item.on_hand as i64, None).await.map(drop)
}

type Audited = (String, i64, i64, i64, i64, i64, i64, i64);

pub(super) async fn audit(connection: &mut PgConnection) -> Result<Audit, Stop> {
    let rows: Vec<Audited> =
        sqlx::query_as(include_str!("sql/audit.sql")).fetch_all(connection).await?;
    let overdue = rows.first().map_or(0, |row| row.7 as u64);
    let totals = rows.into_iter().map(|row| {
        let totals = Totals {
            available: row.1,
            held: row.2,
            sold: row.3,
            received: row.4,
            held_by_reservations: row.5,
            sold_by_reservations: row.6,
        };
        (Sku::stored(&row.0), totals)
    });
    Ok(judge(totals, overdue))
}
