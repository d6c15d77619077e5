//! SLRU: two LRU lists, and a second use earns a seat in the second (Karedla, Love and Wherry, 1994).
//!
//! New entries are on probation. A hit on probation promotes to the protected list; when that list
//! is over its share, its oldest entry returns to probation. Victims come from probation, so a scan
//! passes through a fifth of the cache and leaves the rest alone.
//! Cost: list surgery on every hit, as LRU. Defeated by: a loop a little longer than probation, where
//! nothing is used twice before it leaves.

use super::{Policy, Slot};
use crate::lists::Lists;

/// The protected list's share of the capacity: four fifths, as Caffeine has it.
const PROTECTED_PERCENT: u64 = 80;

/// Segmented LRU.
#[derive(Default)]
pub struct Slru {
    lists: Lists,
    protected_max: u64,
}

const PROBATION: usize = 0;
const PROTECTED: usize = 1;

impl Policy for Slru {
    const NAME: &'static str = "slru";

    fn new(capacity: u64) -> Self {
        Self { lists: Lists::default(), protected_max: share(capacity, PROTECTED_PERCENT) }
    }

    fn hit(&mut self, slot: Slot) {
        self.lists.renew(PROTECTED, slot);
        while self.lists.weight(PROTECTED) > self.protected_max {
            let oldest = self.lists.oldest(PROTECTED).expect("a list with weight is not empty");
            self.lists.renew(PROBATION, oldest);
        }
    }

    fn victim(&mut self) -> Slot {
        self.lists
            .pop_oldest(PROBATION)
            .or_else(|| self.lists.pop_oldest(PROTECTED))
            .expect("a victim is asked of a cache that holds something")
    }

    fn insert(&mut self, slot: Slot, _: u64, weight: u64) {
        self.lists.push(PROBATION, slot, weight);
    }

    fn remove(&mut self, slot: Slot) {
        self.lists.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        if self.lists.weight(PROTECTED) > self.protected_max {
            return Err("the protected list is over its share".into());
        }
        self.lists.check(resident)
    }
}

/// A percentage of a capacity, rounded down, without overflow.
pub(super) fn share(capacity: u64, percent: u64) -> u64 {
    (u128::from(capacity) * u128::from(percent) / 100) as u64
}
