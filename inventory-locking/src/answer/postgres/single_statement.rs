//! Single statement: the whole reservation in one round trip.
//!
//! A row lock is held until the commit, and every round trip before the commit is time under the
//! lock. Folded into one statement there is none: the lock is held for as long as the database
//! itself needs.
//! Boundary: one statement, its own transaction. Blocks: the shortest of all single-row ways.
//! Fails: an order that is short raises an error inside the statement, which undoes the rest of
//! it. A connection that breaks is always ambiguous, for the commit is part of the statement.

use sqlx::PgPool;

use super::rows;
use super::stop::{Attempt, Stop, code, told};
use crate::inventory::Grant;
use crate::order::{Key, Order, ReservationId};

pub(super) async fn attempt(pool: &PgPool, id: ReservationId, order: &Order) -> Attempt {
    let mut connection = pool.acquire().await?;
    let (skus, quantities) = rows::cart(order);
    let granted: Result<Option<(i64,)>, _> =
        sqlx::query_as(include_str!("sql/single_statement.sql"))
            .bind(id.to_string())
            .bind(order.key.as_ref().map(Key::as_str))
            .bind(order.ttl_ms as i64)
            .bind(skus)
            .bind(quantities)
            .fetch_optional(&mut *connection)
            .await;
    match granted {
        Ok(Some((granted_at_ms,))) => {
            let reservation = rows::fresh(id, order, granted_at_ms);
            Ok(Grant { reservation, replayed: false })
        }
        Ok(None) => Err(rows::made(&mut connection, id, order).await?.unwrap_or(Stop::Conflict)),
        Err(error) => match code(&error).as_deref() {
            Some("IV001") => Err(why_short(&mut connection, order).await),
            Some("40001" | "40P01" | "55P03" | "23514" | "23505") => Err(Stop::Conflict),
            Some(_) => Err(Stop::Tell(told(error))),
            None => Err(Stop::Ambiguous(error)),
        },
    }
}

/// The first line that is short now, in SKU order.
async fn why_short(connection: &mut sqlx::PgConnection, order: &Order) -> Stop {
    for line in order.lines.iter() {
        match rows::short(connection, line).await {
            Stop::Conflict => {} // there is enough of this one
            stop => return stop,
        }
    }
    Stop::Conflict
}
