//! SIEVE (Zhang et al., NSDI 2024, <https://cachemon.github.io/SIEVE-website/>): CLOCK whose
//! survivors do not move.
//!
//! One FIFO queue, one visited bit, one hand. The hand walks from the oldest towards the newest
//! entry, clears set bits and evicts the first entry that was not visited; the next search goes on
//! from there. Survivors keep their place, so new entries always meet the hand before the old guard
//! does: *lazy promotion, quick demotion*.
//!
//! Trap: the queue order is the policy. An implementation that fills the hole of an evicted entry
//! with another one (a vector with `swap_remove`) is a different, worse policy under this name.
//!
//! Cost: as CLOCK. Defeated by: recency. Entries visited once sit in front of the hand for a whole
//! turn while recent ones are thrown out, so block traces with little popularity suffer.

use super::{LazyPromotion, Policy, Slot};
use crate::lists::{Lists, Uses};

/// A hand that sifts a FIFO queue in place.
#[derive(Default)]
pub struct Sieve {
    queue: Lists,
    visited: Uses,
    hand: Option<Slot>,
}

const QUEUE: usize = 0;

impl Policy for Sieve {
    const NAME: &'static str = "sieve";

    fn new(_: u64) -> Self {
        Self::default()
    }

    fn hit(&mut self, slot: Slot) {
        self.hit_shared(slot);
    }

    fn victim(&mut self) -> Slot {
        loop {
            let candidate = self
                .hand
                .or_else(|| self.queue.oldest(QUEUE))
                .expect("a victim is asked of a cache that holds something");
            self.hand = self.queue.newer(candidate);
            if std::mem::take(self.visited.at(candidate)) == 0 {
                self.queue.remove(candidate);
                return candidate;
            }
        }
    }

    fn insert(&mut self, slot: Slot, _: u64, weight: u64) {
        self.queue.push(QUEUE, slot, weight);
        *self.visited.at(slot) = 0;
    }

    fn remove(&mut self, slot: Slot) {
        if self.hand == Some(slot) {
            self.hand = self.queue.newer(slot);
        }
        self.queue.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        if self.hand.is_some_and(|hand| self.queue.list_of(hand) != QUEUE) {
            return Err("the hand points at a slot that is not in the queue".into());
        }
        self.queue.check(resident)
    }
}

impl LazyPromotion for Sieve {
    fn hit_shared(&self, slot: Slot) {
        self.visited.raise(slot, 1);
    }
}
