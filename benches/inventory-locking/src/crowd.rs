//! The crowd of the comparison: buyers who each want one, and the books at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use inventory_locking::{Error, Inventory, Key, Line, Lines, Order, Sku};

use measure::Ready;
use measure::harness::{Keys, Outcome, Shot, Summary};

/// SKUs, when buyers do not all want the same.
pub(super) const SKUS: u64 = 200;

/// Never sold out: the subject is the lock.
pub(super) const PLENTY: u64 = 1_000_000_000;

/// An inventory under load, with what it has granted.
pub(super) struct Counted<I> {
    pub(super) inventory: I,
    keys: Keys,
    skus: Vec<Sku>,
    stock: u64,
    pub(super) granted: AtomicU64,
    asked: AtomicU64,
    unknown: AtomicU64,
}

impl<I: Inventory> Counted<I> {
    /// As many SKUs as `keys` can name, with so much of each.
    pub(super) async fn stocked(inventory: I, keys: Keys, stock: u64) -> anyhow::Result<Arc<Self>> {
        // One hot SKU is the only one there is: nothing else could be asked for.
        let count = if let Keys::Uniform { n } = keys { n } else { SKUS };
        let name = |n| Sku::new(&format!("sku-{n:04}"), "sku");
        let skus: Vec<Sku> = (0..count).map(name).collect::<Result<_, _>>()?;
        let creating = futures::stream::iter(skus.iter().cloned())
            .map(|sku| inventory.create(sku, stock))
            .buffer_unordered(16);
        let created: Vec<_> = creating.collect().await;
        created.into_iter().collect::<Result<Vec<_>, _>>()?;
        let [granted, asked, unknown] = [0, 0, 0].map(AtomicU64::new);
        Ok(Arc::new(Self { inventory, keys, skus, stock, granted, asked, unknown }))
    }

    /// Each request is a wish of its own with a key, as real ones are.
    async fn reserve(&self, shot: Shot) -> Outcome {
        let sku = self.skus[self.keys.pick(&mut shot.rng()) as usize].clone();
        let key = Key::new(&format!("wish-{}", self.asked.fetch_add(1, Ordering::Relaxed)));
        let lines = Lines::new([Line { sku, quantity: 1 }]).map_err(|_| "invalid")?;
        let order = Order::new(key.ok(), lines, 600_000).map_err(|_| "invalid")?;
        match self.inventory.reserve(order).await {
            Ok(_) => {
                self.granted.fetch_add(1, Ordering::Relaxed);
                Ok("reserved")
            }
            Err(Error::Busy { .. }) => Err("busy"),
            Err(Error::SoldOut { .. }) if self.stock < PLENTY => Ok("refused"),
            Err(Error::SoldOut { .. }) => Err("sold-out"),
            Err(_) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                Err("unavailable")
            }
        }
    }

    /// Every invariant, and as many holds as were granted.
    async fn check(&self) -> Result<(), String> {
        let audit = self.inventory.audit().await.map_err(|error| error.to_string())?;
        let (granted, unknown) =
            (self.granted.load(Ordering::Relaxed), self.unknown.load(Ordering::Relaxed));
        // Requests that the end of the run cut off may have been granted without being counted.
        let held = audit.held as u64;
        let in_flight = self.asked.load(Ordering::Relaxed).saturating_sub(granted) + unknown;
        let few = self.stock * self.skus.len() as u64;
        let adds_up = (granted..=(granted + in_flight).min(few)).contains(&held);
        match audit.is_clean() && adds_up {
            true => Ok(()),
            false => Err(format!("{granted} were granted; the audit says {audit:?}")),
        }
    }

    pub(super) fn ready(
        self: Arc<Self>,
        note: impl FnOnce(&Self, &Summary) + Send + 'static,
    ) -> Ready {
        let checked = Arc::clone(&self);
        let op = move |shot: Shot| {
            let counted = Arc::clone(&self);
            async move { counted.reserve(shot).await }
        };
        Ready::new(op, move |summary| async move {
            let verdict = checked.check().await;
            note(&checked, &summary);
            verdict
        })
    }
}
