//! Promises about repeats: the same key, the same result, one effect.

use testkit::{Verdict, ensure};

use super::*;
use crate::inventory::State;
use crate::order::Restock;

pub(super) async fn same_key_same_reservation<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = stocked_servers(&*fixture, 2, &[("a", 5), ("b", 5)]).await?;
    let wish = keyed("wish", &[("a", 1), ("b", 2)]);
    let first = reserve(&servers[0], wish.clone()).await.map_err(failed)?;
    ensure!(!first.replayed, "the first of its key is no replay");
    fixture.advance_ms(1_000).await;
    let again = reserve(&servers[1], wish.clone()).await.map_err(failed)?;
    ensure!(again.replayed, "the second of its key is a replay");
    ensure!(
        again.reservation == first.reservation,
        "{:?} became {:?} when repeated",
        first.reservation,
        again.reservation
    );
    let id = first.reservation.id;
    servers[0].extend(id, 2 * MINUTE_MS).await.map_err(failed)?;
    confirm(&servers[1], id).await.map_err(failed)?;
    let late = reserve(&servers[0], wish.clone()).await.map_err(failed)?;
    ensure!(
        late.replayed && late.reservation == first.reservation,
        "a repeat after the confirmation got {late:?}, not what was granted"
    );
    fixture.advance_ms(10 * MINUTE_MS).await;
    let other =
        reserve(&servers[0], keyed("other", &[("a", 1), ("b", 2)])).await.map_err(failed)?;
    ensure!(other.reservation.id != id && !other.replayed, "another key is another wish");
    let none = reserve(&servers[0], order(&[("a", 1)])).await.map_err(failed)?;
    ensure!(none.reservation.id != other.reservation.id, "no key is no repeat");
    ensure!(numbers(&servers[0], "b").await? == (1, 2, 2), "b was taken once for each key");
    clean(&servers[0]).await
}

pub(super) async fn a_reused_key_is_refused<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("a", 5), ("b", 5)]).await?;
    let wish = keyed("wish", &[("a", 2)]);
    let id = held(&inventory, wish.clone()).await?.id;
    let longer = Order { ttl_ms: wish.ttl_ms + 1, ..wish.clone() };
    for other in [keyed("wish", &[("a", 1)]), keyed("wish", &[("a", 2), ("b", 1)]), longer] {
        let refused = reserve(&inventory, other.clone()).await;
        ensure!(matches!(refused, Err(Error::KeyReused(_))), "{other:?} got {refused:?}");
    }
    // Written in another order, it is the same cart.
    held(&inventory, keyed("cart", &[("a", 1), ("b", 1)])).await?;
    let same = reserve(&inventory, keyed("cart", &[("b", 1), ("a", 1)])).await;
    ensure!(same.as_ref().is_ok_and(|grant| grant.replayed), "a reordered cart: {same:?}");
    cancel(&inventory, id).await.map_err(failed)?;
    let after = held(&inventory, wish).await?;
    ensure!(after.state == State::Held && after.id == id, "as it was granted: {after:?}");
    ensure!(numbers(&inventory, "a").await? == (4, 1, 0), "a repeat revived a cancelled hold");
    clean(&inventory).await
}

pub(super) async fn a_refusal_is_not_remembered<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 1)]).await?;
    let wish = keyed("wish", &[("pen", 2)]);
    let refused = reserve(&inventory, wish.clone()).await;
    ensure!(matches!(refused, Err(Error::SoldOut { .. })), "two of one: {refused:?}");
    let more = Restock { key: None, quantity: 1 };
    inventory.restock(&sku("pen"), more).await.map_err(failed)?;
    let granted = reserve(&inventory, wish).await;
    ensure!(
        granted.as_ref().is_ok_and(|grant| !grant.replayed),
        "two of two, under the key that had been refused: {granted:?}"
    );
    ensure!(numbers(&inventory, "pen").await? == (0, 2, 0), "two are held");
    clean(&inventory).await
}

pub(super) async fn a_restock_with_a_key_counts_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = stocked_servers(&*fixture, 2, &[("pen", 1), ("ink", 1)]).await?;
    let delivery = |name: &str, quantity| Restock { key: Some(key(name)), quantity };
    for server in &servers {
        let item = server.restock(&sku("pen"), delivery("monday", 4)).await.map_err(failed)?;
        ensure!(item.available == 5, "four arrived on monday: {item:?}");
    }
    let item = servers[0].restock(&sku("pen"), delivery("tuesday", 4)).await.map_err(failed)?;
    ensure!(item.available == 9, "and four on tuesday: {item:?}");
    for (name, quantity) in [("pen", 3), ("ink", 4)] {
        let reused = servers[0].restock(&sku(name), delivery("monday", quantity)).await;
        ensure!(
            matches!(reused, Err(Error::KeyReused(_))),
            "monday, {quantity} {name}: {reused:?}"
        );
    }
    ensure!(numbers(&servers[1], "ink").await? == (1, 0, 0), "no ink arrived");
    clean(&servers[0]).await
}
