//! Promises about the life of one reservation, on virtual time.

use testkit::{Verdict, ensure};

use super::*;
use crate::inventory::State;

pub(super) async fn confirm_sells_what_was_held<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("a", 5), ("b", 5)]).await?;
    let id = held(&inventory, order(&[("a", 2), ("b", 1)])).await?.id;
    let confirmed = confirm(&inventory, id).await.map_err(failed)?;
    ensure!(confirmed.state == State::Confirmed, "confirmed: {confirmed:?}");
    ensure!(numbers(&inventory, "a").await? == (3, 0, 2), "two of a were sold");
    ensure!(numbers(&inventory, "b").await? == (4, 0, 1), "one of b was sold");
    fixture.advance_ms(2 * MINUTE_MS).await;
    inventory.expire_due(100).await.map_err(failed)?;
    let later = inventory.reservation(id).await.map_err(failed)?;
    ensure!(later.state == State::Confirmed, "a sale has no deadline: {later:?}");
    ensure!(numbers(&inventory, "a").await? == (3, 0, 2), "a sale was undone by the clock");
    clean(&inventory).await
}

pub(super) async fn cancel_gives_back_what_was_held<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("a", 5), ("b", 5)]).await?;
    let id = held(&inventory, order(&[("a", 5), ("b", 1)])).await?.id;
    let cancelled = cancel(&inventory, id).await.map_err(failed)?;
    ensure!(cancelled.state == State::Cancelled, "cancelled: {cancelled:?}");
    for name in ["a", "b"] {
        let now = numbers(&inventory, name).await?;
        ensure!(now == (5, 0, 0), "{name} should be back and is {now:?}");
    }
    held(&inventory, order(&[("a", 5)])).await?;
    clean(&inventory).await
}

/// Every first end against every second attempt.
pub(super) async fn each_reservation_ends_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 100)]).await?;
    let table = [
        ("confirm", "cancel", "ended as confirmed"),
        ("confirm", "extend", "ended as confirmed"),
        ("cancel", "confirm", "ended as cancelled"),
        ("cancel", "extend", "ended as cancelled"),
        ("expire", "confirm", "expired"),
        ("expire", "cancel", "expired"),
        ("expire", "extend", "expired"),
    ];
    for (first, second, expected) in table {
        let id = held(&inventory, order(&[("pen", 1)])).await?.id;
        if first == "expire" {
            fixture.advance_ms(MINUTE_MS).await;
        } else {
            act(&inventory, first, id).await.map_err(failed)?;
        }
        let before = numbers(&inventory, "pen").await?;
        let result = act(&inventory, second, id).await;
        let name = named(&result);
        ensure!(name == expected, "{second} after {first}: {name}, not {expected}");
        let after = numbers(&inventory, "pen").await?;
        ensure!(after == before, "{second} after {first} moved stock: {before:?} to {after:?}");
    }
    clean(&inventory).await
}

async fn act<I: Inventory>(
    inventory: &I,
    what: &str,
    id: ReservationId,
) -> Result<Reservation, Error> {
    match what {
        "confirm" => confirm(inventory, id).await,
        "cancel" => cancel(inventory, id).await,
        _ => inventory.extend(id, MINUTE_MS).await,
    }
}

pub(super) async fn repeats_change_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 10)]).await?;
    let sold = held(&inventory, order(&[("pen", 2)])).await?.id;
    let returned = held(&inventory, order(&[("pen", 3)])).await?.id;
    held(&inventory, order(&[("pen", 4)])).await?;
    let first = confirm(&inventory, sold).await.map_err(failed)?;
    let again = confirm(&inventory, sold).await.map_err(failed)?;
    ensure!(first == again, "confirmed twice: {first:?}, then {again:?}");
    let now = numbers(&inventory, "pen").await?;
    ensure!(now == (1, 7, 2), "2 of 10 were sold twice over: {now:?}");
    let first = cancel(&inventory, returned).await.map_err(failed)?;
    let again = cancel(&inventory, returned).await.map_err(failed)?;
    ensure!(first == again, "cancelled twice: {first:?}, then {again:?}");
    let now = numbers(&inventory, "pen").await?;
    ensure!(now == (4, 4, 2), "3 of 10 were given back twice over: {now:?}");
    clean(&inventory).await
}

pub(super) async fn an_expired_hold_frees_its_stock_without_a_sweeper<F: Fixture>(
    fixture: Arc<F>,
) -> Verdict {
    let inventory = stocked(&*fixture, &[("a", 4), ("b", 4)]).await?;
    let id = held(&inventory, order(&[("a", 4), ("b", 3)])).await?.id;
    fixture.advance_ms(MINUTE_MS - 1).await;
    let early = reserve(&inventory, order(&[("a", 1)])).await;
    ensure!(early.is_err(), "a unit was sold a millisecond before its hold was over");
    fixture.advance_ms(1).await;
    // Nobody has swept, and nobody has looked: the buyer is the first to notice.
    let bought = reserve(&inventory, order(&[("a", 4)])).await;
    ensure!(bought.is_ok(), "at the deadline of the hold its stock is not available: {bought:?}");
    let now = numbers(&inventory, "b").await?;
    ensure!(now == (4, 0, 0), "b was held by the same reservation and is {now:?}");
    let expired = inventory.reservation(id).await.map_err(failed)?;
    ensure!(expired.state == State::Expired, "the hold is over: {expired:?}");
    clean(&inventory).await
}

pub(super) async fn a_late_confirm_is_refused<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 4)]).await?;
    let in_time = held(&inventory, order(&[("pen", 1)])).await?;
    let too_late = held(&inventory, order(&[("pen", 1)])).await?;
    let lasts_ms = in_time.expires_at_ms - in_time.granted_at_ms;
    ensure!(lasts_ms == MINUTE_MS, "a hold for a minute lasts {lasts_ms} ms");
    fixture.advance_ms(MINUTE_MS - 1).await;
    let confirmed = confirm(&inventory, in_time.id).await;
    ensure!(confirmed.is_ok(), "a millisecond before the deadline: {confirmed:?}");
    fixture.advance_ms(1).await;
    let late = confirm(&inventory, too_late.id).await;
    ensure!(matches!(late, Err(Error::Expired(_))), "at the deadline: {late:?}");
    let now = numbers(&inventory, "pen").await?;
    ensure!(now == (3, 0, 1), "one was sold, one came back: {now:?}");
    clean(&inventory).await
}

pub(super) async fn an_expired_hold_stays_expired<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 2)]).await?;
    let id = held(&inventory, order(&[("pen", 2)])).await?.id;
    fixture.advance_ms(MINUTE_MS).await;
    for what in ["extend", "confirm", "cancel", "extend"] {
        let name = named(&act(&inventory, what, id).await);
        ensure!(name == "expired", "{what} of an expired hold: {name}");
    }
    held(&inventory, order(&[("pen", 2)])).await?;
    inventory.expire_due(100).await.map_err(failed)?;
    let extended = inventory.extend(id, MINUTE_MS).await;
    ensure!(matches!(extended, Err(Error::Expired(_))), "its stock is somebody's: {extended:?}");
    ensure!(numbers(&inventory, "pen").await? == (0, 2, 0), "two are held, once");
    clean(&inventory).await
}

pub(super) async fn extend_moves_the_deadline<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 1)]).await?;
    let granted = held(&inventory, order(&[("pen", 1)])).await?;
    fixture.advance_ms(MINUTE_MS / 2).await;
    let extended = inventory.extend(granted.id, 2 * MINUTE_MS).await.map_err(failed)?;
    let until_ms = extended.expires_at_ms - granted.granted_at_ms;
    ensure!(
        until_ms == MINUTE_MS / 2 + 2 * MINUTE_MS,
        "extended until {until_ms} ms after it began"
    );
    fixture.advance_ms(2 * MINUTE_MS - 1).await;
    let read = inventory.reservation(granted.id).await.map_err(failed)?;
    ensure!(read.state == State::Held, "a millisecond before the new deadline: {read:?}");
    let shorter = inventory.extend(granted.id, 10).await.map_err(failed)?;
    ensure!(shorter.state == State::Held, "an extension may shorten: {shorter:?}");
    fixture.advance_ms(10).await;
    let late = confirm(&inventory, granted.id).await;
    ensure!(matches!(late, Err(Error::Expired(_))), "at the new deadline: {late:?}");
    for ttl_ms in [0, u64::MAX] {
        let wrong = inventory.extend(granted.id, ttl_ms).await;
        ensure!(matches!(wrong, Err(Error::Invalid { .. })), "extended by {ttl_ms}: {wrong:?}");
    }
    clean(&inventory).await
}

pub(super) async fn the_sweeper_releases_each_hold_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 20)]).await?;
    let sold = held(&inventory, order(&[("pen", 1)])).await?.id;
    let returned = held(&inventory, order(&[("pen", 2)])).await?.id;
    for _ in 0..3 {
        held(&inventory, order(&[("pen", 3)])).await?;
    }
    confirm(&inventory, sold).await.map_err(failed)?;
    cancel(&inventory, returned).await.map_err(failed)?;
    let early = inventory.expire_due(100).await.map_err(failed)?;
    ensure!(early == 0, "{early} holds were released before their time");
    fixture.advance_ms(MINUTE_MS).await;
    let mut released = Vec::new();
    for limit in [2, 2, 100, 100] {
        released.push(inventory.expire_due(limit).await.map_err(failed)?);
    }
    ensure!(released == [2, 1, 0, 0], "three holds were overdue; the sweeper says {released:?}");
    let now = numbers(&inventory, "pen").await?;
    ensure!(now == (19, 0, 1), "one was sold, the rest came back: {now:?}");
    clean(&inventory).await
}
