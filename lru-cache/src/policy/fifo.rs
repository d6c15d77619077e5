//! FIFO: out goes what came in first.
//!
//! A hit writes nothing at all, so it is the fastest policy and the easiest to share. It is also
//! the floor of every comparison, because it throws a popular entry out as readily as a useless one.
//! Cost: one queue, one step for a victim. Defeated by: popularity. A key used on every request is evicted once per turn of the queue.

use super::{LazyPromotion, Policy, Slot};
use crate::lists::Lists;

/// First in, first out.
#[derive(Default)]
pub struct Fifo(Lists);

const QUEUE: usize = 0;

impl Policy for Fifo {
    const NAME: &'static str = "fifo";

    fn new(_: u64) -> Self {
        Self::default()
    }

    fn hit(&mut self, _: Slot) {}

    fn victim(&mut self) -> Slot {
        self.0.pop_oldest(QUEUE).expect("a victim is asked of a cache that holds something")
    }

    fn insert(&mut self, slot: Slot, _: u64, weight: u64) {
        self.0.push(QUEUE, slot, weight);
    }

    fn remove(&mut self, slot: Slot) {
        self.0.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        self.0.check(resident)
    }
}

impl LazyPromotion for Fifo {
    fn hit_shared(&self, _: Slot) {}
}
