//! Promises about stock: what is there, what is taken, what is edited.

use testkit::{Verdict, ensure};

use super::*;
use crate::order::{Restock, STOCK_MAX};

pub(super) async fn a_new_item_is_all_available<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 7), ("ink", 0)]).await?;
    ensure!(numbers(&inventory, "pen").await? == (7, 0, 0), "7 were put in stock");
    ensure!(numbers(&inventory, "ink").await? == (0, 0, 0), "nothing was put in stock");
    let again = inventory.create(sku("pen"), 9).await;
    ensure!(matches!(again, Err(Error::Exists(_))), "a second pen: {again:?}");
    ensure!(numbers(&inventory, "pen").await? == (7, 0, 0), "the second create changed the first");
    clean(&inventory).await
}

pub(super) async fn the_last_unit_sells_and_not_one_more<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 10)]).await?;
    for (quantity, left) in [(3, 7), (1, 6), (5, 1)] {
        held(&inventory, order(&[("pen", quantity)])).await?;
        let now = numbers(&inventory, "pen").await?;
        ensure!(
            now == (left, 10 - left, 0),
            "{quantity} were held, {left} should be left: {now:?}"
        );
    }
    let two = reserve(&inventory, order(&[("pen", 2)])).await;
    ensure!(
        matches!(two, Err(Error::SoldOut { requested: 2, available: 1, .. })),
        "two of the last one: {two:?}"
    );
    held(&inventory, order(&[("pen", 1)])).await?;
    let none = reserve(&inventory, order(&[("pen", 1)])).await;
    ensure!(matches!(none, Err(Error::SoldOut { available: 0, .. })), "one of none: {none:?}");
    ensure!(numbers(&inventory, "pen").await? == (0, 10, 0), "all ten are held");
    clean(&inventory).await
}

pub(super) async fn a_cart_is_all_or_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("a", 5), ("b", 1), ("c", 5)]).await?;
    let refused = reserve(&inventory, order(&[("a", 2), ("b", 2), ("c", 2)])).await;
    ensure!(
        matches!(&refused, Err(Error::SoldOut { sku, requested: 2, available: 1 }) if sku.as_str() == "b"),
        "two of b, of which there is one: {refused:?}"
    );
    for name in ["a", "c"] {
        let now = numbers(&inventory, name).await?;
        ensure!(now == (5, 0, 0), "the cart was refused, but {name} is {now:?}");
    }
    let cart = held(&inventory, order(&[("c", 2), ("a", 1), ("c", 1), ("b", 1)])).await?;
    let lines: Vec<_> =
        cart.order.lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
    ensure!(lines == [("a", 1), ("b", 1), ("c", 3)], "the cart was kept as {lines:?}");
    for (name, expected) in [("a", (4, 1, 0)), ("b", (0, 1, 0)), ("c", (2, 3, 0))] {
        let now = numbers(&inventory, name).await?;
        ensure!(now == expected, "{name} should be {expected:?} and is {now:?}");
    }
    clean(&inventory).await
}

pub(super) async fn a_refusal_changes_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 3)]).await?;
    held(&inventory, order(&[("pen", 1)])).await?;
    let before = item(&inventory, "pen").await?;
    for quantity in [3, 4, 100, 1_000_000] {
        let refused = reserve(&inventory, order(&[("pen", quantity)])).await;
        ensure!(refused.is_err(), "{quantity} of 2 were granted");
        let after = item(&inventory, "pen").await?;
        ensure!(after == before, "refusing {quantity} changed {before:?} into {after:?}");
    }
    held(&inventory, order(&[("pen", 2)])).await?;
    clean(&inventory).await
}

pub(super) async fn errors_are_told_apart<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 1), ("zip", 0)]).await?;
    let unknown = reserve(&inventory, order(&[("nib", 1), ("zip", 1)])).await;
    ensure!(
        matches!(&unknown, Err(Error::UnknownSku(sku)) if sku.as_str() == "nib"),
        "an unknown SKU before a sold out one: {unknown:?}"
    );
    let sold_out = reserve(&inventory, order(&[("pen", 2), ("zzz", 1)])).await;
    ensure!(
        matches!(sold_out, Err(Error::SoldOut { requested: 2, available: 1, .. })),
        "a sold out SKU before an unknown one: {sold_out:?}"
    );
    let item = inventory.item(&sku("nib")).await;
    ensure!(matches!(item, Err(Error::UnknownSku(_))), "the stock of nothing: {item:?}");
    let nobody = ReservationId::fresh();
    let unknown = [
        ("read", named(&inventory.reservation(nobody).await)),
        ("confirm", named(&confirm(&inventory, nobody).await)),
        ("cancel", named(&cancel(&inventory, nobody).await)),
        ("extend", named(&inventory.extend(nobody, 1).await)),
    ];
    for (what, name) in unknown {
        ensure!(name == "unknown reservation", "{what} of a reservation nobody made: {name}");
    }
    let restock = |quantity| Restock { key: None, quantity };
    for (what, result) in [
        ("a restock of 0", inventory.restock(&sku("pen"), restock(0)).await),
        ("a restock beyond the bound", inventory.restock(&sku("pen"), restock(STOCK_MAX)).await),
        ("a restock that overflows", inventory.restock(&sku("pen"), restock(u64::MAX)).await),
        ("a count beyond the bound", inventory.set_on_hand(&sku("pen"), u64::MAX, None).await),
        ("an item beyond the bound", inventory.create(sku("nib"), STOCK_MAX + 1).await),
    ] {
        ensure!(matches!(result, Err(Error::Invalid { .. })), "{what}: {result:?}");
    }
    let unknown = inventory.restock(&sku("nib"), restock(1)).await;
    ensure!(matches!(unknown, Err(Error::UnknownSku(_))), "a restock of nothing: {unknown:?}");
    clean(&inventory).await
}

pub(super) async fn an_edit_needs_the_current_version<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 5)]).await?;
    let read = item(&inventory, "pen").await?.version;
    let edited = inventory.set_on_hand(&sku("pen"), 8, Some(read)).await.map_err(failed)?;
    ensure!(edited.on_hand == 8 && edited.version > read, "an edit to 8: {edited:?}");
    let stale = inventory.set_on_hand(&sku("pen"), 3, Some(read)).await;
    ensure!(
        matches!(stale, Err(Error::Conflict { current, .. }) if current == edited.version),
        "an edit of version {read} when it was {}: {stale:?}",
        edited.version
    );
    // Somebody who reserves changes the item too: the editor's picture is out of date.
    held(&inventory, order(&[("pen", 1)])).await?;
    let stale = inventory.set_on_hand(&sku("pen"), 3, Some(edited.version)).await;
    ensure!(matches!(stale, Err(Error::Conflict { .. })), "an edit over a reservation: {stale:?}");
    ensure!(numbers(&inventory, "pen").await? == (7, 1, 0), "a refused edit changed the stock");
    let blind = inventory.set_on_hand(&sku("pen"), 3, None).await.map_err(failed)?;
    ensure!(blind.available == 2, "a blind edit to 3 with 1 held: {blind:?}");
    clean(&inventory).await
}

pub(super) async fn every_change_moves_the_version<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 20)]).await?;
    let mut seen = vec![item(&inventory, "pen").await?];
    let mut look = async |what: &str| {
        let now = item(&inventory, "pen").await?;
        let same = seen.iter().find(|earlier| earlier.version >= now.version);
        ensure!(same.is_none(), "after {what} it is {now:?}, but earlier it was {same:?}");
        let unmoved = item(&inventory, "pen").await?;
        ensure!(unmoved == now, "looking changed {now:?} into {unmoved:?}");
        seen.push(now);
        Ok(())
    };
    let first = held(&inventory, order(&[("pen", 2)])).await?.id;
    look("a hold").await?;
    confirm(&inventory, first).await.map_err(failed)?;
    look("a confirmation").await?;
    let second = held(&inventory, order(&[("pen", 2)])).await?.id;
    look("a hold").await?;
    cancel(&inventory, second).await.map_err(failed)?;
    look("a cancellation").await?;
    inventory.restock(&sku("pen"), Restock { key: None, quantity: 1 }).await.map_err(failed)?;
    look("a restock").await?;
    inventory.set_on_hand(&sku("pen"), 9, None).await.map_err(failed)?;
    look("a count").await?;
    held(&inventory, order(&[("pen", 2)])).await?;
    look("a hold").await?;
    fixture.advance_ms(MINUTE_MS).await;
    look("an expiry").await
}

pub(super) async fn a_count_never_takes_what_is_promised<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let inventory = stocked(&*fixture, &[("pen", 5)]).await?;
    held(&inventory, order(&[("pen", 3)])).await?;
    let below = inventory.set_on_hand(&sku("pen"), 2, None).await;
    ensure!(
        matches!(below, Err(Error::BelowHeld { held: 3, .. })),
        "a count of 2 with 3 held: {below:?}"
    );
    ensure!(numbers(&inventory, "pen").await? == (2, 3, 0), "the refused count changed the stock");
    inventory.set_on_hand(&sku("pen"), 3, None).await.map_err(failed)?;
    ensure!(numbers(&inventory, "pen").await? == (0, 3, 0), "a count of exactly what is held");
    fixture.advance_ms(MINUTE_MS).await;
    inventory.set_on_hand(&sku("pen"), 2, None).await.map_err(failed)?;
    ensure!(numbers(&inventory, "pen").await? == (2, 0, 0), "the hold was over");
    clean(&inventory).await
}
