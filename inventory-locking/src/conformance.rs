//! The contract as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by.
//!
//! A [`Fixture`] offers several servers over one stock, on a clock that the suite moves. The
//! promises come in the order in which an interviewer would probe.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use testkit::conformance::{Broken, Promise};
use testkit::promise;

use crate::inventory::{Error, Grant, Inventory, Item, Reservation};
use crate::order::{Key, Line, Lines, Order, ReservationId, Sku};

mod stock;
mod lifecycle;
mod keys;
mod crowd;
mod model;
mod gate;

pub use gate::{GateFixture, promises_of_gates};

use {crowd::*, keys::*, lifecycle::*, model::*, stock::*};

/// How the suite reaches the answer under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Inventory: Inventory;

    /// As many servers as asked for that sell the same stock.
    fn servers(&self, count: usize) -> impl Future<Output = Vec<Self::Inventory>> + Send;

    /// Moves the clock that all of them read.
    fn advance_ms(&self, by_ms: u64) -> impl Future<Output = ()> + Send;
}

/// What every inventory promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    [of_stock(), of_one_reservation(), of_repeats(), of_crowds()].concat()
}

/// Promises about what is there.
fn of_stock<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            a_new_item_is_all_available,
            "What was put in stock is available, and nothing is held or sold."
        ),
        promise!(F, the_last_unit_sells_and_not_one_more, "Exactly what is there can be reserved."),
        promise!(F, a_cart_is_all_or_nothing, "A cart holds every line or none."),
        promise!(
            F,
            a_refusal_changes_nothing,
            "A refused reservation leaves no trace, however often it is repeated."
        ),
        promise!(
            F,
            errors_are_told_apart,
            "Sold out, unknown, wrong: each failure has its own name and numbers."
        ),
    ]
}

/// Promises about the life of a reservation.
fn of_one_reservation<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(F, confirm_sells_what_was_held, "A confirmed hold is sold, once."),
        promise!(F, cancel_gives_back_what_was_held, "A cancelled hold is available again, once."),
        promise!(
            F,
            each_reservation_ends_once,
            "A reservation that ended in one way cannot end in another."
        ),
        promise!(
            F,
            repeats_change_nothing,
            "Confirming or cancelling twice is confirming or cancelling once."
        ),
        promise!(
            F,
            an_expired_hold_frees_its_stock_without_a_sweeper,
            "At its deadline a hold is worth nothing, whoever has noticed."
        ),
        promise!(
            F,
            a_late_confirm_is_refused,
            "A hold can be confirmed before its deadline, and not at it."
        ),
        promise!(
            F,
            an_expired_hold_stays_expired,
            "Nothing revives a hold: no extension, no confirmation, no sweeper."
        ),
        promise!(F, extend_moves_the_deadline, "An extension counts from now."),
        promise!(
            F,
            the_sweeper_releases_each_hold_once,
            "The sweeper gives back overdue holds, each once, and nothing else."
        ),
    ]
}

/// Promises about repeats and edits.
fn of_repeats<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            same_key_same_reservation,
            "A repeated request gets the reservation of the first, and takes nothing."
        ),
        promise!(
            F,
            a_reused_key_is_refused,
            "A key that comes with another request is a mistake, not a repeat."
        ),
        promise!(
            F,
            a_refusal_is_not_remembered,
            "A key whose request was refused can succeed later."
        ),
        promise!(
            F,
            a_restock_with_a_key_counts_once,
            "A delivery booked twice under one key arrives once."
        ),
        promise!(
            F,
            an_edit_needs_the_current_version,
            "Who edits what somebody else has changed is told, and changes nothing."
        ),
        promise!(
            F,
            every_change_moves_the_version,
            "No two different states of an item share a version."
        ),
        promise!(
            F,
            a_count_never_takes_what_is_promised,
            "A correction cannot go below what is held."
        ),
        promise!(
            F,
            agrees_with_the_model,
            "Every result of a random history equals the pure ledger's."
        ),
    ]
}

/// Promises about many callers at once.
fn of_crowds<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            concurrent_buyers_never_oversell,
            "Many buyers on many servers get exactly what is there."
        )
        .on_many_threads(),
        promise!(
            F,
            concurrent_repeats_reserve_once,
            "A request sent many times at once has one effect."
        )
        .on_many_threads(),
        promise!(
            F,
            confirm_and_cancel_race_to_one_winner,
            "Of a confirmation and a cancellation at once, one wins."
        )
        .on_many_threads(),
        promise!(
            F,
            opposite_carts_do_not_deadlock,
            "Carts that name the same SKUs in opposite order all come to an end."
        )
        .on_many_threads(),
        promise!(F, editors_never_overwrite_each_other, "Of many edits of one version, one wins.")
            .on_many_threads(),
        promise!(
            F,
            the_audit_is_clean_at_every_moment,
            "A snapshot taken in the middle of the rush adds up."
        )
        .on_many_threads(),
    ]
}

/// The promises that depend on how stock is taken: for answers that share everything else with an
/// answer that is asked all of them.
pub fn promises_of_reserving<F: Fixture>() -> Vec<Promise<F>> {
    const OTHERS: [&str; 16] = [
        "a_new_item_is_all_available",
        "confirm_sells_what_was_held",
        "cancel_gives_back_what_was_held",
        "each_reservation_ends_once",
        "repeats_change_nothing",
        "a_late_confirm_is_refused",
        "an_expired_hold_stays_expired",
        "extend_moves_the_deadline",
        "the_sweeper_releases_each_hold_once",
        "a_restock_with_a_key_counts_once",
        "an_edit_needs_the_current_version",
        "every_change_moves_the_version",
        "a_count_never_takes_what_is_promised",
        "confirm_and_cancel_race_to_one_winner",
        "editors_never_overwrite_each_other",
        "errors_are_told_apart",
    ];
    promises().into_iter().filter(|promise| !OTHERS.contains(&promise.name)).collect()
}

/// How often a busy answer is asked again before the suite gives up on it.
const BUSY_MAX: usize = 1_000;

const MINUTE_MS: u64 = 60_000;

fn sku(name: &str) -> Sku {
    Sku::new(name, "sku").expect("the suite's SKUs are legal")
}

fn key(name: &str) -> Key {
    Key::new(name).expect("the suite's keys are legal")
}

fn order(cart: &[(&str, u64)]) -> Order {
    let lines = cart.iter().map(|&(name, quantity)| Line { sku: sku(name), quantity });
    let lines = Lines::new(lines).expect("the suite's carts are legal");
    Order::new(None, lines, MINUTE_MS).expect("a minute is legal")
}

fn keyed(name: &str, cart: &[(&str, u64)]) -> Order {
    Order { key: Some(key(name)), ..order(cart) }
}

fn failed(error: Error) -> Broken {
    Broken::because(format!("the inventory failed: {error}"))
}

/// One server with these items.
async fn stocked<F: Fixture>(fixture: &F, items: &[(&str, u64)]) -> Result<F::Inventory, Broken> {
    Ok(stocked_servers(fixture, 1, items).await?.remove(0))
}

async fn stocked_servers<F: Fixture>(
    fixture: &F,
    count: usize,
    items: &[(&str, u64)],
) -> Result<Vec<F::Inventory>, Broken> {
    let servers = fixture.servers(count).await;
    for &(name, on_hand) in items {
        servers[0].create(sku(name), on_hand).await.map_err(failed)?;
    }
    Ok(servers)
}

/// Asks until the answer is not busy: busy means that nothing was done.
async fn patiently<T, Fut: Future<Output = Result<T, Error>>>(
    ask: impl Fn() -> Fut,
) -> Result<T, Error> {
    for _ in 1..BUSY_MAX {
        match ask().await {
            Err(Error::Busy { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            answer => return answer,
        }
    }
    ask().await
}

async fn reserve<I: Inventory>(inventory: &I, order: Order) -> Result<Grant, Error> {
    patiently(|| inventory.reserve(order.clone())).await
}

/// Reserves what must be there.
async fn held<I: Inventory>(inventory: &I, order: Order) -> Result<Reservation, Broken> {
    reserve(inventory, order).await.map(|grant| grant.reservation).map_err(failed)
}

async fn confirm<I: Inventory>(inventory: &I, id: ReservationId) -> Result<Reservation, Error> {
    patiently(|| inventory.confirm(id)).await
}

async fn cancel<I: Inventory>(inventory: &I, id: ReservationId) -> Result<Reservation, Error> {
    patiently(|| inventory.cancel(id)).await
}

async fn item<I: Inventory>(inventory: &I, name: &str) -> Result<Item, Broken> {
    inventory.item(&sku(name)).await.map_err(failed)
}

/// `(available, held, sold)`.
async fn numbers<I: Inventory>(inventory: &I, name: &str) -> Result<(u64, u64, u64), Broken> {
    let item = item(inventory, name).await?;
    match item.on_hand == item.available + item.held {
        true => Ok((item.available, item.held, item.sold)),
        false => Err(Broken::because(format!("on hand is not available and held: {item:?}"))),
    }
}

async fn clean<I: Inventory>(inventory: &I) -> Result<(), Broken> {
    let audit = inventory.audit().await.map_err(failed)?;
    match audit.is_clean() {
        true => Ok(()),
        false => Err(Broken::because(format!("the audit found drifts: {:?}", audit.drifts))),
    }
}

/// An error with what it says, and without what differs between answers.
fn named<T>(result: &Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(Error::Expired(_)) => "expired".to_owned(),
        Err(Error::Ended { state, .. }) => format!("ended as {}", state.as_str()),
        Err(Error::UnknownReservation(_)) => "unknown reservation".to_owned(),
        Err(Error::Conflict { .. }) => "conflict".to_owned(),
        Err(error) => error.to_string(),
    }
}
