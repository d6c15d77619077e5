//! The statements that every SQLite answer shares, each a few lines around one row.
//!
//! All of them run inside the caller's transaction.

use group_commit::rusqlite::{self, Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::audit::{Audit, Totals, judge};
use crate::inventory::{Error, Item, Reservation, State};
use crate::lifecycle::{Action, Step, as_seen, decide, stepped};
use crate::order::{
    Key, Line, Lines, Order, ReservationId, Restock, Sku, check_restock, check_stock, check_ttl,
};

impl From<rusqlite::Error> for Error {
    /// A database that somebody else holds is busy; anything else is not our caller's doing.
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Self::Busy { what: "the database is locked".to_owned(), retry_after_ms: 100 }
            }
            _ => Self::unavailable(error),
        }
    }
}

impl From<group_commit::Error> for Error {
    fn from(error: group_commit::Error) -> Self {
        Self::unavailable(error)
    }
}

/// SQLite's integers are signed; ours are checked to be small.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn load(tx: &Connection, sku: &Sku) -> Result<Option<Item>, Error> {
    let sql = "SELECT available, held, sold, version FROM stock WHERE sku = ?1";
    let item = |row: &Row<'_>| {
        let (available, held) = (unsigned(row, 0)?, unsigned(row, 1)?);
        let (sold, version) = (unsigned(row, 2)?, unsigned(row, 3)?);
        Ok(Item { sku: sku.clone(), on_hand: available + held, available, held, sold, version })
    };
    Ok(tx.prepare_cached(sql)?.query_row([sku.as_str()], item).optional()?)
}

pub(super) fn known(tx: &Connection, sku: &Sku) -> Result<Item, Error> {
    load(tx, sku)?.ok_or_else(|| Error::UnknownSku(sku.clone()))
}

pub(super) fn create(tx: &Connection, sku: &Sku, on_hand: u64) -> Result<Item, Error> {
    check_stock(on_hand)?;
    let sql = "INSERT INTO stock VALUES (?1, ?2, 0, 0, 1) ON CONFLICT DO NOTHING";
    if tx.prepare_cached(sql)?.execute(params![sku.as_str(), signed(on_hand)])? == 0 {
        return Err(Error::Exists(sku.clone()));
    }
    receive(tx, sku, on_hand as i64, None)?;
    known(tx, sku)
}

/// The stock without holds that are over.
pub(super) fn item(tx: &Connection, sku: &Sku, now_ms: u64) -> Result<Item, Error> {
    release_overdue(tx, now_ms, u32::MAX)?;
    known(tx, sku)
}

fn receive(tx: &Connection, sku: &Sku, delta: i64, key: Option<&Key>) -> Result<(), Error> {
    let sql = "INSERT INTO receipts (sku, delta, key) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![sku.as_str(), delta, key.map(Key::as_str)])?;
    Ok(())
}

pub(super) fn restock(tx: &Connection, sku: &Sku, restock: &Restock) -> Result<Item, Error> {
    if let Some(key) = &restock.key {
        let sql = "SELECT sku, delta FROM receipts WHERE key = ?1";
        let earlier = tx
            .prepare_cached(sql)?
            .query_row([key.as_str()], |row| Ok((row.get::<_, String>(0)?, unsigned(row, 1)?)));
        if let Some(earlier) = earlier.optional()? {
            return match earlier.0 == sku.as_str() && earlier.1 == restock.quantity {
                true => known(tx, sku),
                false => Err(Error::KeyReused(key.clone())),
            };
        }
    }
    let item = known(tx, sku)?;
    check_restock(restock.quantity, item.on_hand)?;
    change_available(tx, sku, restock.quantity as i64)?;
    receive(tx, sku, restock.quantity as i64, restock.key.as_ref())?;
    known(tx, sku)
}

pub(super) fn set_on_hand(
    tx: &Connection,
    sku: &Sku,
    on_hand: u64,
    expected: Option<u64>,
) -> Result<Item, Error> {
    check_stock(on_hand)?;
    let item = known(tx, sku)?;
    if expected.is_some_and(|expected| expected != item.version) {
        return Err(Error::Conflict { sku: sku.clone(), current: item.version });
    }
    if on_hand < item.held {
        return Err(Error::BelowHeld { sku: sku.clone(), held: item.held });
    }
    let delta = on_hand as i64 - item.on_hand as i64;
    change_available(tx, sku, delta)?;
    receive(tx, sku, delta, None)?;
    known(tx, sku)
}

fn change_available(tx: &Connection, sku: &Sku, delta: i64) -> Result<(), Error> {
    let sql = "UPDATE stock SET available = available + ?2, version = version + 1 WHERE sku = ?1";
    tx.prepare_cached(sql)?.execute(params![sku.as_str(), delta])?;
    Ok(())
}

/// Writes a hold down; the stock is the caller's business.
pub(super) fn insert(
    tx: &Connection,
    id: ReservationId,
    order: Order,
    now_ms: u64,
) -> Result<Reservation, Error> {
    let expires_at_ms = now_ms + order.ttl_ms;
    let sql = "INSERT INTO reservations VALUES (?1, 0, ?2, ?3, ?4, ?5)";
    tx.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        order.key.as_ref().map(Key::as_str),
        signed(order.ttl_ms),
        signed(now_ms),
        signed(expires_at_ms)
    ])?;
    let mut insert = tx.prepare_cached("INSERT INTO reservation_lines VALUES (?1, ?2, ?3)")?;
    for line in order.lines.iter() {
        insert.execute(params![id.0.as_bytes(), line.sku.as_str(), signed(line.quantity)])?;
    }
    Ok(Reservation { id, state: State::Held, order, granted_at_ms: now_ms, expires_at_ms })
}

pub(super) fn find(tx: &Connection, id: ReservationId) -> Result<Option<Reservation>, Error> {
    let sql = "SELECT state, key, ttl_ms, granted_at_ms, expires_at_ms
               FROM reservations WHERE id = ?1";
    let read = |row: &Row<'_>| {
        let (state, key): (i16, Option<String>) = (row.get(0)?, row.get(1)?);
        Ok((state, key, unsigned(row, 2)?, unsigned(row, 3)?, unsigned(row, 4)?))
    };
    let found = tx.prepare_cached(sql)?.query_row([id.0.as_bytes()], read).optional()?;
    let Some((state, key, ttl_ms, granted_at_ms, expires_at_ms)) = found else { return Ok(None) };
    let state = State::from_code(state).ok_or_else(|| Error::corrupt("a state"))?;
    let order = Order { key: key.as_deref().map(Key::stored), lines: lines(tx, id)?, ttl_ms };
    Ok(Some(Reservation { id, state, order, granted_at_ms, expires_at_ms }))
}

fn lines(tx: &Connection, id: ReservationId) -> Result<Lines, Error> {
    let sql = "SELECT sku, quantity FROM reservation_lines WHERE reservation_id = ?1";
    let mut select = tx.prepare_cached(sql)?;
    let line = |row: &Row<'_>| {
        let sku: String = row.get(0)?;
        Ok(Line { sku: Sku::stored(&sku), quantity: unsigned(row, 1)? })
    };
    let lines: Vec<Line> = select.query_map([id.0.as_bytes()], line)?.collect::<Result<_, _>>()?;
    Ok(Lines::stored(lines))
}

/// What this order's key has made, if it is a repeat.
pub(super) fn made_before(tx: &Connection, order: &Order) -> Result<Option<Reservation>, Error> {
    let Some(key) = &order.key else { return Ok(None) };
    let sql = "SELECT id FROM reservations WHERE key = ?1";
    let id: Option<[u8; 16]> =
        tx.prepare_cached(sql)?.query_row([key.as_str()], |row| row.get(0)).optional()?;
    let Some(id) = id else { return Ok(None) };
    let earlier = find(tx, ReservationId(Uuid::from_bytes(id)))?
        .ok_or_else(|| Error::corrupt("a key without its reservation"))?;
    match order.is_repeat_of(&earlier.order) {
        true => Ok(Some(earlier.as_granted())),
        false => Err(Error::KeyReused(key.clone())),
    }
}

pub(super) fn reservation(
    tx: &Connection,
    id: ReservationId,
    now_ms: u64,
) -> Result<Reservation, Error> {
    let found = find(tx, id)?.ok_or(Error::UnknownReservation(id))?;
    Ok(as_seen(found, now_ms))
}

/// Confirm, cancel or extend.
pub(super) fn act(
    tx: &Connection,
    id: ReservationId,
    action: Action,
    now_ms: u64,
) -> Result<Reservation, Error> {
    if let Action::Extend { ttl_ms } = action {
        check_ttl(ttl_ms)?;
    }
    let before = find(tx, id)?.ok_or(Error::UnknownReservation(id))?;
    let step = decide(&before, action, now_ms)?;
    match step {
        Step::Same => {}
        Step::End(state) => end(tx, id, &before.order.lines, state)?,
        Step::Until(expires_at_ms) => {
            let sql = "UPDATE reservations SET expires_at_ms = ?2 WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![id.0.as_bytes(), signed(expires_at_ms)])?;
        }
    }
    Ok(stepped(before, step))
}

/// Ends a hold: its stock is sold or given back.
fn end(tx: &Connection, id: ReservationId, lines: &[Line], state: State) -> Result<(), Error> {
    let sql = "UPDATE reservations SET state = ?2 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![id.0.as_bytes(), state.code()])?;
    let sql = match state {
        State::Confirmed => {
            "UPDATE stock SET held = held - ?2, sold = sold + ?2, version = version + 1
             WHERE sku = ?1"
        }
        _ => {
            "UPDATE stock SET held = held - ?2, available = available + ?2, version = version + 1
             WHERE sku = ?1"
        }
    };
    let mut update = tx.prepare_cached(sql)?;
    for line in lines {
        update.execute(params![line.sku.as_str(), signed(line.quantity)])?;
    }
    Ok(())
}

/// Releases holds that are over; how many.
pub(super) fn release_overdue(tx: &Connection, now_ms: u64, limit: u32) -> Result<u64, Error> {
    let sql = "SELECT id FROM reservations WHERE state = 0 AND expires_at_ms <= ?1
               ORDER BY expires_at_ms LIMIT ?2";
    let ids: Vec<[u8; 16]> = tx
        .prepare_cached(sql)?
        .query_map(params![signed(now_ms), limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for &id in &ids {
        let id = ReservationId(Uuid::from_bytes(id));
        end(tx, id, &lines(tx, id)?, State::Expired)?;
    }
    Ok(ids.len() as u64)
}

pub(super) fn audit(tx: &Connection, now_ms: u64) -> Result<Audit, Error> {
    let mut select = tx.prepare_cached(include_str!("audit.sql"))?;
    let totals = |row: &Row<'_>| {
        let sku: String = row.get(0)?;
        let totals = Totals {
            available: row.get(1)?,
            held: row.get(2)?,
            sold: row.get(3)?,
            received: row.get(4)?,
            held_by_reservations: row.get(5)?,
            sold_by_reservations: row.get(6)?,
        };
        Ok((Sku::stored(&sku), totals))
    };
    let snapshot: Vec<_> = select.query_map([], totals)?.collect::<Result<_, _>>()?;
    Ok(judge(snapshot, overdue(tx, now_ms)?))
}

/// How many holds are over that nobody has released.
pub(super) fn overdue(tx: &Connection, now_ms: u64) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM reservations WHERE state = 0 AND expires_at_ms <= ?1";
    Ok(tx.prepare_cached(sql)?.query_row([signed(now_ms)], |row| unsigned(row, 0))?)
}

/// What is available of a SKU, and the deadline of its next hold to run out, if that is before
/// `until_ms`.
pub(super) fn stand(
    tx: &Connection,
    sku: &Sku,
    until_ms: u64,
) -> Result<(u64, Option<u64>), Error> {
    let sql = "SELECT min(expires_at_ms) FROM reservations
               JOIN reservation_lines ON reservation_id = id
               WHERE state = 0 AND expires_at_ms < ?2 AND sku = ?1";
    let next: Option<i64> = tx
        .prepare_cached(sql)?
        .query_row(params![sku.as_str(), signed(until_ms)], |row| row.get(0))?;
    Ok((known(tx, sku)?.available, next.map(|deadline| deadline as u64)))
}
