//! A gate in front of the connection pool: only so many at once for one SKU.
//!
//! Whoever waits for a hot row holds a connection while waiting. Without a gate one hot SKU takes
//! every connection, and customers who want something else wait behind a lock they have nothing
//! to do with. More clients on one row do not go faster anyway; they only wait closer.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::inventory::Error;
use crate::order::Lines;

/// Gates. SKUs that share one also share its places: unlikely, and only slower.
const GATES: usize = 1_024;

/// The most that wait at one gate. One more is told that it is busy, because it would wait longer
/// than a customer does.
pub const WAITING_MAX: usize = 4_096;

/// The gates of all SKUs.
#[derive(Debug)]
pub struct Admission {
    gates: Vec<Gate>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Debug)]
struct Gate {
    places: Semaphore,
    waiting: AtomicUsize,
}

/// The right to ask for the SKUs of a cart. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Admitted<'a>(#[allow(dead_code, reason = "held for its drop")] Vec<SemaphorePermit<'a>>);

impl Admission {
    /// Gates that let `places` through at once for each SKU.
    pub fn new(places: usize) -> Self {
        let gate = |_| Gate { places: Semaphore::new(places.max(1)), waiting: AtomicUsize::new(0) };
        Self {
            gates: (0..GATES).map(gate).collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// Waits at the gate of every SKU of a cart, in the order of the gates: two carts that wait
    /// for each other's gate would wait for ever.
    ///
    /// # Errors
    /// [`Error::Busy`] when [`WAITING_MAX`] wait there.
    pub async fn enter(&self, lines: &Lines) -> Result<Admitted<'_>, Error> {
        let mut wanted: Vec<usize> =
            lines.iter().map(|line| self.gate_of(line.sku.as_str())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut permits = Vec::with_capacity(wanted.len());
        for gate in wanted {
            permits.push(self.gates[gate].enter().await?);
        }
        Ok(Admitted(permits))
    }

    fn gate_of(&self, sku: &str) -> usize {
        self.hasher.hash_one(sku) as usize % GATES
    }
}

impl Gate {
    async fn enter(&self) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.places.try_acquire() {
            return Ok(permit);
        }
        let waiting = Leaves(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            let what = format!("{WAITING_MAX} wait for the same");
            return Err(Error::Busy { what, retry_after_ms: 1_000 });
        }
        let permit = self.places.acquire().await.expect("the gate is never closed");
        drop(waiting);
        Ok(permit)
    }
}

/// Counts out whoever stops waiting, also when the caller has gone away.
struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Line, Sku};

    fn cart(skus: &[&str]) -> Lines {
        let line = |sku: &&str| Line { sku: Sku::stored(sku), quantity: 1 };
        Lines::new(skus.iter().map(line)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_hot_sku_waits_for_itself_and_nobody_else_does() {
        let admission = Admission::new(2);
        let elsewhere = |sku: &String| admission.gate_of(sku) != admission.gate_of("hot");
        let cold = (0..).map(|number| format!("cold-{number}")).find(elsewhere).unwrap();
        let both = cart(&[&cold, "hot"]);
        let (hot, cold) = (cart(&["hot"]), cart(&[&cold]));
        let (first, _second) = (admission.enter(&hot).await.unwrap(), admission.enter(&hot).await);
        let soon = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, admission.enter(&hot)).await.is_err(), "two are inside");
        let other = tokio::time::timeout(soon, admission.enter(&cold)).await;
        assert!(other.is_ok(), "nobody asked for the cold one");
        assert!(tokio::time::timeout(soon, admission.enter(&both)).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(soon, admission.enter(&hot)).await.is_ok());
        let waiting = admission.gates.iter().map(|gate| gate.waiting.load(Ordering::Relaxed));
        assert_eq!(waiting.sum::<usize>(), 0, "those who gave up are not counted");
    }
}
