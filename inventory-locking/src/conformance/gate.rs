//! Promises about a gate in front of SQL: whatever happens to it, it never turns away who could be
//! served, and never lets anything be sold twice.
//!
//! What dies "between the two" is played by doing only one of two steps: a grant or a return in
//! SQL of which the gate does not hear, an announcement that is never followed up.

use testkit::{Promise, Verdict, ensure, promises};

use super::*;
use crate::answer::gated::gate::{Asked, FRESH_MS, KEY_MEMORY_MS, RAISE_MS_MAX};
use crate::answer::gated::{Gated, Truth};
use crate::order::Restock;

/// A [`Fixture`] whose servers stand behind one gate.
pub trait GateFixture: Fixture<Inventory = Gated<Self::Truth>> {
    /// The answer behind the gate.
    type Truth: Truth;

    /// Everything in the gate is gone.
    fn lose_gate(&self) -> impl Future<Output = ()> + Send;
}

/// What a gated inventory promises on top of what every inventory does.
pub fn promises_of_gates<F: GateFixture>() -> Vec<Promise<F>> {
    promises! { F;
        what_was_refused_once_is_refused_at_the_gate =>
            "After the first refusal SQL is not asked again.",
        a_lost_gate_loses_nothing =>
            "Without its memory the gate sells what is left, and not one more.",
        a_repeat_is_answered_though_nothing_is_left =>
            "Who holds the last unit gets their answer again, from a gate that forgot it too.",
        what_is_given_back_is_sold_again =>
            "A cancellation, a delivery, a correction or a shorter hold reopens the gate at once.",
        a_hold_that_runs_out_reopens_the_gate =>
            "At a deadline the stock is back, whatever the gate had learnt before.",
        a_grant_the_gate_never_heard_of_is_not_sold_again =>
            "A server that dies after its commit leaves a gate that still refuses nobody wrongly.",
        a_grant_the_look_has_seen_is_counted_once =>
            "A grant that SQL had counted when the gate looked is not counted again.",
        a_return_that_never_ends_is_survived =>
            "A server that dies while it gives stock back leaves the gate open, not shut.",
        a_look_that_overlaps_a_return_is_not_learnt =>
            "What was true before stock came back is not believed after it.",
        a_return_behind_the_gates_back_is_found =>
            "Stock that nobody announced is found by reconciling, and after a moment without it.",
        the_first_short_line_is_named =>
            "A cart is refused for the same line, with or without the gate.",
    }
}

type Servers<F> = Vec<Gated<<F as GateFixture>::Truth>>;

/// Servers that sell one SKU, after a refusal: the gate knows that `left` are left.
async fn learnt<F: GateFixture>(
    fixture: &F,
    stock: u64,
    left: u64,
) -> Result<(Servers<F>, Option<Reservation>), Broken> {
    let servers = stocked_servers(fixture, 2, &[("pen", stock)]).await?;
    let taken = match stock - left {
        0 => None,
        taken => Some(held(&servers[0], keyed("first", &[("pen", taken)])).await?),
    };
    refused(&servers[0], order(&[("pen", left + 1)]), left).await?;
    Ok((servers, taken))
}

/// Asks for what cannot be had.
async fn refused<I: Inventory>(server: &I, order: Order, left: u64) -> Result<(), Broken> {
    let result = reserve(server, order).await;
    let right = matches!(result, Err(Error::SoldOut { available, .. }) if available == left);
    ensure!(right, "{left} are left, and somebody who wanted more was told {result:?}");
    Ok(())
}

async fn is_shut<T: Truth>(server: &Gated<T>, quantity: u64) -> bool {
    let asked = server.gate().ask(&order(&[("pen", quantity)])).await;
    matches!(asked, Asked::Short { .. })
}

async fn what_was_refused_once_is_refused_at_the_gate<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, _) = learnt(&*fixture, 5, 2).await?;
    ensure!(is_shut(&servers[1], 3).await, "3 of 2 got through the gate of another server");
    ensure!(!is_shut(&servers[1], 2).await, "2 of 2 were stopped at the gate");
    held(&servers[1], order(&[("pen", 2)])).await?;
    ensure!(is_shut(&servers[0], 1).await, "the gate does not count what is granted");
    refused(&servers[0], order(&[("pen", 1)]), 0).await?;
    clean(&servers[0]).await
}

async fn a_lost_gate_loses_nothing<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, _) = learnt(&*fixture, 5, 2).await?;
    fixture.lose_gate().await;
    refused(&servers[1], order(&[("pen", 3)]), 2).await?;
    held(&servers[0], order(&[("pen", 1)])).await?;
    fixture.lose_gate().await;
    held(&servers[1], order(&[("pen", 1)])).await?;
    refused(&servers[0], order(&[("pen", 1)]), 0).await?;
    let now = numbers(&servers[0], "pen").await?;
    ensure!(now == (0, 5, 0), "5 were there, and 3, 1 and 1 were held: {now:?}");
    clean(&servers[0]).await
}

async fn a_repeat_is_answered_though_nothing_is_left<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, first) = learnt(&*fixture, 3, 0).await?;
    let wish = keyed("first", &[("pen", 3)]);
    let repeats = async |when: &str| {
        let again = reserve(&servers[1], wish.clone()).await;
        let same = matches!(&again, Ok(grant) if Some(&grant.reservation) == first.as_ref());
        ensure!(same, "{when}, the holder of the last three was told {again:?}");
        refused(&servers[1], keyed("another", &[("pen", 1)]), 0).await
    };
    repeats("with everything remembered").await?;
    fixture.lose_gate().await;
    refused(&servers[0], order(&[("pen", 1)]), 0).await?; // learns again
    repeats("with a gate that has forgotten the key").await?;
    // A hold that outlives the memory of keys: its repeat was marked, a stranger is known to be one.
    let id = first.as_ref().expect("three were held").id;
    servers[0].extend(id, 4 * KEY_MEMORY_MS).await.map_err(failed)?;
    fixture.advance_ms(KEY_MEMORY_MS).await;
    refused(&servers[0], order(&[("pen", 1)]), 0).await?;
    let stranger = servers[0].gate().ask(&keyed("stranger", &[("pen", 1)])).await;
    let sure = matches!(stranger, Asked::Short { perhaps_a_repeat: false, .. });
    ensure!(sure, "after the time of its memory the gate still asks about keys: {stranger:?}");
    repeats("after the time in which keys are remembered").await
}

async fn what_is_given_back_is_sold_again<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, first) = learnt(&*fixture, 4, 0).await?;
    let one = || order(&[("pen", 1)]);
    let id = first.expect("four were held").id;
    cancel(&servers[0], id).await.map_err(failed)?;
    let second = held(&servers[1], order(&[("pen", 4)])).await?.id;
    refused(&servers[0], one(), 0).await?;
    servers[1].restock(&sku("pen"), Restock { key: None, quantity: 1 }).await.map_err(failed)?;
    held(&servers[0], one()).await?;
    refused(&servers[0], one(), 0).await?;
    servers[0].set_on_hand(&sku("pen"), 6, None).await.map_err(failed)?;
    held(&servers[1], one()).await?;
    refused(&servers[1], one(), 0).await?;
    servers[1].extend(second, FRESH_MS / 2).await.map_err(failed)?;
    refused(&servers[1], one(), 0).await?;
    fixture.advance_ms(FRESH_MS / 2).await;
    held(&servers[0], order(&[("pen", 4)])).await?;
    clean(&servers[0]).await
}

async fn a_hold_that_runs_out_reopens_the_gate<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let servers = stocked_servers(&*fixture, 2, &[("pen", 2)]).await?;
    let brief = |ttl_ms| Order { ttl_ms, ..order(&[("pen", 1)]) };
    // One hold was there when the gate looked, the other came while it knew.
    held(&servers[0], brief(FRESH_MS / 2)).await?;
    refused(&servers[0], order(&[("pen", 2)]), 1).await?;
    held(&servers[1], brief(FRESH_MS / 4)).await?;
    ensure!(is_shut(&servers[0], 1).await, "both are held, and the gate lets through");
    fixture.advance_ms(FRESH_MS / 4).await;
    held(&servers[0], order(&[("pen", 1)])).await?;
    refused(&servers[1], order(&[("pen", 1)]), 0).await?;
    fixture.advance_ms(FRESH_MS / 4).await;
    held(&servers[1], order(&[("pen", 1)])).await?;
    refused(&servers[0], order(&[("pen", 1)]), 0).await?;
    clean(&servers[0]).await
}

async fn a_grant_the_gate_never_heard_of_is_not_sold_again<F: GateFixture>(
    fixture: Arc<F>,
) -> Verdict {
    let (servers, _) = learnt(&*fixture, 4, 3).await?;
    // The server died between its commit and the gate.
    held(servers[0].truth(), keyed("lost", &[("pen", 2)])).await?;
    held(&servers[1], order(&[("pen", 1)])).await?;
    let more = reserve(&servers[1], order(&[("pen", 1)])).await;
    ensure!(matches!(more, Err(Error::SoldOut { .. })), "a fifth of four: {more:?}");
    let again = reserve(&servers[1], keyed("lost", &[("pen", 2)])).await;
    ensure!(again.as_ref().is_ok_and(|grant| grant.replayed), "its customer was told {again:?}");
    let drifts = servers[0].reconcile().await.map_err(failed)?;
    let found = drifts.first().is_some_and(|drift| drift.believed == 2 && drift.available == 0);
    ensure!(found, "the gate believed in two that were gone, and reconciling found {drifts:?}");
    ensure!(is_shut(&servers[0], 1).await, "the drift was found and not mended");
    clean(&servers[0]).await
}

async fn a_grant_the_look_has_seen_is_counted_once<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, _) = learnt(&*fixture, 4, 3).await?;
    let wish = order(&[("pen", 1)]);
    let Asked::Pass(ticket) = servers[0].gate().ask(&wish).await else {
        return Err(Broken::because("one of three was refused"));
    };
    held(servers[0].truth(), wish.clone()).await?;
    fixture.advance_ms(FRESH_MS).await;
    refused(&servers[1], order(&[("pen", 3)]), 2).await?; // another look, with the grant in it
    servers[0].gate().granted(&ticket, &wish).await;
    ensure!(!is_shut(&servers[1], 2).await, "2 are left, and the gate counted the grant twice");
    held(&servers[1], order(&[("pen", 2)])).await?;
    clean(&servers[0]).await
}

async fn a_return_that_never_ends_is_survived<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, first) = learnt(&*fixture, 2, 0).await?;
    // The server announces that stock comes back, gives it back, and dies.
    servers[0].gate().raise(vec![sku("pen")]).await;
    let id = first.expect("two were held").id;
    cancel(servers[0].truth(), id).await.map_err(failed)?;
    held(&servers[1], order(&[("pen", 2)])).await?;
    refused(&servers[1], order(&[("pen", 1)]), 0).await?;
    ensure!(!is_shut(&servers[1], 1).await, "something was learnt while stock may come back");
    fixture.advance_ms(RAISE_MS_MAX / 2).await;
    refused(&servers[1], order(&[("pen", 3)]), 0).await?;
    fixture.advance_ms(RAISE_MS_MAX / 2).await; // and the holds are over
    held(&servers[1], order(&[("pen", 2)])).await?;
    refused(&servers[1], order(&[("pen", 1)]), 0).await?;
    ensure!(is_shut(&servers[1], 1).await, "a dead server keeps the gate open for ever");
    clean(&servers[0]).await
}

async fn a_look_that_overlaps_a_return_is_not_learnt<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, first) = learnt(&*fixture, 2, 0).await?;
    let (gate, pen) = (servers[0].gate(), sku("pen"));
    let look = gate.look(&pen, true).await;
    let look = look.ok_or_else(|| Broken::because("nobody may look at a quiet SKU"))?;
    cancel(&servers[1], first.expect("two were held").id).await.map_err(failed)?;
    let learnt = gate.learn(look, &pen, 0, FRESH_MS).await;
    ensure!(learnt.is_none(), "none left was believed after two came back: {learnt:?}");
    held(&servers[1], order(&[("pen", 1)])).await?;
    // The other way round: the return began first.
    let raise = gate.raise(vec![pen.clone()]).await;
    let look = gate.look(&pen, true).await;
    ensure!(look.is_none(), "somebody may look while stock comes back: {look:?}");
    if let Some(raise) = raise {
        gate.raised(raise).await;
    }
    let look = gate.look(&pen, true).await;
    ensure!(look.is_some(), "nobody may look although the return is over");
    held(&servers[0], order(&[("pen", 1)])).await?;
    clean(&servers[0]).await
}

async fn a_return_behind_the_gates_back_is_found<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let (servers, _) = learnt(&*fixture, 2, 0).await?;
    let behind = async || {
        let more = Restock { key: None, quantity: 1 };
        servers[0].truth().restock(&sku("pen"), more).await.map_err(failed).map(drop)
    };
    behind().await?;
    ensure!(is_shut(&servers[1], 1).await, "nobody told the gate, and yet it knows");
    let drifts = servers[1].reconcile().await.map_err(failed)?;
    let found = drifts.first().is_some_and(|drift| drift.believed == 0 && drift.available == 1);
    ensure!(drifts.len() == 1 && found, "one unit came in unannounced; found: {drifts:?}");
    let quiet = servers[1].audit().await.map_err(failed)?;
    ensure!(quiet.gate_drifts == 0, "what was mended is found again: {quiet:?}");
    held(&servers[1], order(&[("pen", 1)])).await?;
    refused(&servers[1], order(&[("pen", 1)]), 0).await?;
    behind().await?;
    let audit = servers[0].audit().await.map_err(failed)?;
    ensure!(audit.gate_drifts == 1 && audit.is_clean(), "the audit finds it too: {audit:?}");
    held(&servers[1], order(&[("pen", 1)])).await?;
    refused(&servers[1], order(&[("pen", 1)]), 0).await?;
    behind().await?;
    fixture.advance_ms(FRESH_MS).await;
    held(&servers[0], order(&[("pen", 1)])).await?;
    clean(&servers[0]).await
}

async fn the_first_short_line_is_named<F: GateFixture>(fixture: Arc<F>) -> Verdict {
    let servers = stocked_servers(&*fixture, 2, &[("ink", 5), ("nib", 1), ("pen", 1)]).await?;
    for name in ["nib", "pen"] {
        let known = reserve(&servers[0], order(&[(name, 2)])).await;
        ensure!(known.is_err(), "two of one {name}: {known:?}");
    }
    let both = reserve(&servers[1], order(&[("ink", 1), ("nib", 2), ("pen", 3)])).await;
    let right = matches!(&both, Err(Error::SoldOut { sku, requested: 2, available: 1 })
        if sku.as_str() == "nib");
    ensure!(right, "nib comes before pen: {both:?}");
    // Ink is unknown to the gate and short; pen is known and short; ink comes first.
    let unknown = reserve(&servers[1], order(&[("ink", 6), ("pen", 3)])).await;
    let right = matches!(&unknown, Err(Error::SoldOut { sku, .. }) if sku.as_str() == "ink");
    ensure!(right, "ink comes before pen: {unknown:?}");
    held(&servers[1], order(&[("ink", 5), ("nib", 1), ("pen", 1)])).await?;
    clean(&servers[0]).await
}
