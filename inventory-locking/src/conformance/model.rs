//! Lockstep with the pure ledger: the same random history, the same results.

use testkit::seed::Seed;
use testkit::{Verdict, ensure};

use super::*;
use crate::ledger::Ledger;
use crate::lifecycle::Action;
use crate::order::Restock;

const NAMES: [&str; 3] = ["a", "b", "c"];
const STEPS: usize = 150;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Reserve(Order),
    Confirm(usize),
    Cancel(usize),
    Extend(usize, u64),
    Restock(usize, Restock),
    Count(usize, u64),
    Sweep,
}

fn random_event(rng: &mut fastrand::Rng, made: usize) -> Event {
    let any = |rng: &mut fastrand::Rng| rng.usize(made.saturating_sub(6)..made);
    match rng.u8(0..20) {
        0..3 => Event::Wait(rng.u64(1..60)),
        3 => Event::Sweep,
        4..6 => {
            let name = rng.u8(0..4);
            let key = (name < 2).then(|| key(&format!("delivery-{name}")));
            Event::Restock(rng.usize(0..3), Restock { key, quantity: rng.u64(1..3) })
        }
        6 => Event::Count(rng.usize(0..3), rng.u64(0..12)),
        7..10 if made > 0 => Event::Confirm(any(rng)),
        10..13 if made > 0 => Event::Cancel(any(rng)),
        13 if made > 0 => Event::Extend(any(rng), rng.u64(0..100)),
        _ => {
            let cart: Vec<_> =
                (0..rng.usize(1..4)).map(|_| (NAMES[rng.usize(0..3)], rng.u64(1..4))).collect();
            let key = rng.bool().then(|| key(&format!("wish-{}", rng.u8(0..12))));
            Event::Reserve(Order { key, ttl_ms: rng.u64(1..3) * 40, ..order(&cart) })
        }
    }
}

/// The two sides, and which reservation of one is which of the other.
struct Lockstep<'a, I> {
    inventory: &'a I,
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
            Event::Reserve(order) => {
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
            Event::Restock(at, restock) => {
                let real = self.inventory.restock(&sku(NAMES[at]), restock.clone()).await;
                let model = self.ledger.restock(&sku(NAMES[at]), restock, now_ms);
                (named(&real), named(&model))
            }
            Event::Count(at, on_hand) => {
                let real = self.inventory.set_on_hand(&sku(NAMES[at]), on_hand, None).await;
                let model = self.ledger.set_on_hand(&sku(NAMES[at]), on_hand, None, now_ms);
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

    async fn act(&mut self, at: usize, action: Action) -> (String, String) {
        let (real_id, model_id) = self.made[at];
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
        for name in NAMES {
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
    let inventory = stocked(&*fixture, &NAMES.map(|name| (name, 8))).await?;
    let mut ledger = Ledger::default();
    for name in NAMES {
        ledger.create(sku(name), 8).map_err(failed)?;
    }
    let mut both = Lockstep { inventory: &inventory, ledger, now_ms: 1_000, made: Vec::new() };
    let mut history = Vec::new();
    for _ in 0..STEPS {
        let event = random_event(&mut rng, both.made.len());
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
    let audit = inventory.audit().await.map_err(failed)?;
    ensure!(audit.is_clean(), "{STEPS} steps in agreement, but the audit says {audit:?}");
    Ok(())
}
