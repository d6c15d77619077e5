//! Lockstep with the pure ledger: the same random history, the same results.

use testkit::seed::Seed;
use testkit::{Verdict, ensure, shrink};

use super::*;
use crate::ledger::Ledger;
use crate::lifecycle::Action;
use crate::order::Restock;

const NAMES: [&str; 3] = ["a", "b", "c"];
const STEPS: usize = 150;

/// One thing that happens. A reservation is meant by how many were made after it, taken modulo the
/// last six: a history must make sense with any of its events left out.
#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Reserve { key: Option<u8>, ttl_ms: u64, cart: Vec<(usize, u64)> },
    Confirm(usize),
    Cancel(usize),
    Extend(usize, u64),
    Restock { at: usize, key: Option<u8>, quantity: u64 },
    Count(usize, u64),
    Sweep,
}

fn random_event(rng: &mut fastrand::Rng) -> Event {
    match rng.u8(0..20) {
        0..3 => Event::Wait(rng.u64(1..60)),
        3 => Event::Sweep,
        4..6 => {
            let key = Some(rng.u8(0..4)).filter(|&name| name < 2);
            Event::Restock { at: rng.usize(0..3), key, quantity: rng.u64(1..3) }
        }
        6 => Event::Count(rng.usize(0..3), rng.u64(0..12)),
        7..10 => Event::Confirm(rng.usize(0..6)),
        10..13 => Event::Cancel(rng.usize(0..6)),
        13 => Event::Extend(rng.usize(0..6), rng.u64(0..100)),
        _ => {
            let cart = (0..rng.usize(1..4)).map(|_| (rng.usize(0..3), rng.u64(1..4))).collect();
            let key = rng.bool().then(|| rng.u8(0..12));
            Event::Reserve { key, ttl_ms: rng.u64(1..3) * 40, cart }
        }
    }
}

/// The two sides, and which reservation of one is which of the other.
struct Lockstep<'a, I> {
    inventory: &'a I,
    /// SKUs and keys that no earlier history has used.
    names: [String; 3],
    time: usize,
    ledger: Ledger,
    now_ms: u64,
    made: Vec<(ReservationId, ReservationId)>,
}

impl<I: Inventory> Lockstep<'_, I> {
    /// What the answer says and what the ledger says, in words.
    async fn step(&mut self, event: &Event) -> (String, String) {
        let now_ms = self.now_ms;
        match event.clone() {
            Event::Wait(_) => (String::new(), String::new()),
            Event::Reserve { key: wish, ttl_ms, cart } => {
                let cart: Vec<_> =
                    cart.iter().map(|&(at, quantity)| (&*self.names[at], quantity)).collect();
                let key = wish.map(|wish| key(&format!("wish-{}-{wish}", self.time)));
                let order = Order { key, ttl_ms, ..order(&cart) };
                let real = reserve(self.inventory, order.clone()).await;
                let model = self.ledger.reserve(ReservationId::fresh(), order, now_ms);
                if let (Ok(real), Ok(model)) = (&real, &model)
                    && !real.replayed
                {
                    self.made.push((real.reservation.id, model.reservation.id));
                }
                (self.granted(&real), self.granted(&model))
            }
            Event::Confirm(at) => self.act(at, Action::Confirm).await,
            Event::Cancel(at) => self.act(at, Action::Cancel).await,
            Event::Extend(at, ttl_ms) => self.act(at, Action::Extend { ttl_ms }).await,
            Event::Restock { at, key: delivery, quantity } => {
                let key = delivery.map(|name| key(&format!("delivery-{}-{name}", self.time)));
                let (sku, restock) = (sku(&self.names[at]), Restock { key, quantity });
                let real = self.inventory.restock(&sku, restock.clone()).await;
                let model = self.ledger.restock(&sku, restock, now_ms);
                (named(&real), named(&model))
            }
            Event::Count(at, on_hand) => {
                let sku = sku(&self.names[at]);
                let real = self.inventory.set_on_hand(&sku, on_hand, None).await;
                let model = self.ledger.set_on_hand(&sku, on_hand, None, now_ms);
                (named(&real), named(&model))
            }
            Event::Sweep => {
                // How many are left to sweep depends on who noticed what before.
                let real = self.inventory.expire_due(2).await;
                self.ledger.release_overdue(now_ms, usize::MAX);
                (named(&real), "ok".to_owned())
            }
        }
    }

    async fn act(&mut self, back: usize, action: Action) -> (String, String) {
        let recent = &self.made[self.made.len().saturating_sub(6)..];
        let Some(&(real_id, model_id)) = recent.iter().rev().cycle().take(6).nth(back) else {
            return (String::new(), String::new()); // nothing was reserved yet
        };
        let real = match action {
            Action::Confirm => confirm(self.inventory, real_id).await,
            Action::Cancel => cancel(self.inventory, real_id).await,
            Action::Extend { ttl_ms } => self.inventory.extend(real_id, ttl_ms).await,
        };
        let model = self.ledger.act(model_id, action, self.now_ms);
        let say = |result: Result<Reservation, Error>| match result {
            Ok(after) => {
                format!("{:?} for {} ms", after.state, after.expires_at_ms - after.granted_at_ms)
            }
            Err(error) => named::<()>(&Err(error)),
        };
        (say(real), say(model))
    }

    /// A grant by its number in the history instead of its id.
    fn granted(&self, result: &Result<Grant, Error>) -> String {
        let Ok(grant) = result else { return named(result) };
        let id = grant.reservation.id;
        let number = self.made.iter().position(|made| made.0 == id || made.1 == id);
        format!("number {number:?}, replayed {}", grant.replayed)
    }

    async fn items(&mut self) -> Result<(Vec<Item>, Vec<Item>), Broken> {
        let (mut real, mut model) = (Vec::new(), Vec::new());
        for name in &self.names {
            // The version counts changes, and answers may make two where the ledger makes one.
            let plain = |item: Item| Item { version: 0, ..item };
            real.push(plain(item(self.inventory, name).await?));
            model.push(plain(self.ledger.item(&sku(name), self.now_ms).map_err(failed)?));
        }
        Ok((real, model))
    }
}

pub(super) async fn agrees_with_the_model<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let events = (0..STEPS).map(|_| random_event(&mut rng)).collect();
    let (fixture, inventory) = (&*fixture, stocked(&*fixture, &[]).await?);
    let inventory = &inventory;
    shrink::played(events, |events, time| in_lockstep(fixture, inventory, events, time)).await?;
    // Not part of what is played: what an earlier history broke, a later one would be blamed for.
    let audit = inventory.audit().await.map_err(failed)?;
    ensure!(audit.is_clean(), "{STEPS} steps in agreement, but the audit says {audit:?}");
    Ok(())
}

/// Plays a history on SKUs of its own; broken where a result differs from the ledger's.
async fn in_lockstep<F: Fixture>(
    fixture: &F,
    inventory: &F::Inventory,
    events: Vec<Event>,
    time: usize,
) -> Verdict {
    let names = NAMES.map(|name| format!("{name}-{time}"));
    let mut ledger = Ledger::default();
    for name in &names {
        inventory.create(sku(name), 8).await.map_err(failed)?;
        ledger.create(sku(name), 8).map_err(failed)?;
    }
    let mut both = Lockstep { inventory, names, time, ledger, now_ms: 1_000, made: Vec::new() };
    let mut history = Vec::new();
    for event in events {
        if let Event::Wait(by_ms) = event {
            fixture.advance_ms(by_ms).await;
            both.now_ms += by_ms;
        }
        let (real, model) = both.step(&event).await;
        history.push(format!("{event:?}: {real}"));
        let (real_items, model_items) = both.items().await?;
        if real != model || real_items != model_items {
            let what = format!(
                "the ledger says {model:?} and {model_items:?}, the answer {real:?} and {real_items:?}"
            );
            let recent = history.split_off(history.len().saturating_sub(12));
            return Err(Broken::because(what).with_history(recent));
        }
    }
    Ok(())
}
