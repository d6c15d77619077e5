//! CLOCK: FIFO with a second chance (Corbató, 1968).
//!
//! Each entry has a bit that a hit sets. When the oldest entry is looked at and its bit is set, the
//! bit is cleared and the entry goes round again; otherwise it leaves. That approximates LRU with one
//! bit written per hit, and only if it was not set already: no lock, no list surgery.
//! Cost: a victim may take a whole turn, but every step clears a bit some hit paid for: O(1)
//! amortised. Defeated by: a scan longer than the cache, like LRU.

use super::{LazyPromotion, Policy, Slot};
use crate::{
    lists::Uses,
    queues::{Queues, Waiting},
};

/// Second chance.
#[derive(Default)]
pub struct Clock {
    ring: Queues<1>,
    used: Uses,
}

const RING: usize = 0;

impl Policy for Clock {
    const NAME: &'static str = "clock";

    fn new(_: u64) -> Self {
        Self::default()
    }

    fn hit(&mut self, slot: Slot) {
        self.hit_shared(slot);
    }

    fn victim(&mut self) -> Slot {
        loop {
            let oldest =
                self.ring.pop(RING).expect("a victim is asked of a cache that holds something");
            if std::mem::take(self.used.at(oldest.slot)) == 0 {
                return oldest.slot;
            }
            self.ring.push(RING, oldest);
        }
    }

    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        self.ring.push(RING, Waiting { slot, hash: hash as u32, weight });
        *self.used.at(slot) = 0;
    }

    fn remove(&mut self, slot: Slot) {
        self.ring.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        self.ring.check(resident)
    }
}

impl LazyPromotion for Clock {
    #[inline]
    fn hit_shared(&self, slot: Slot) {
        self.used.raise(slot, 1);
    }
}
