//! W-TinyLFU (Einziger, Friedman and Manes, ACM TOS 2017): a newcomer must deserve its victim's seat.
//!
//! Every key's recent frequency is estimated by a small sketch, whether the key is in or not. New
//! entries pass through a window, an LRU of one hundredth of the cache; what the window lets go
//! becomes a candidate for the main part, an SLRU, and is admitted only if it was used more often
//! than the entry it would replace. A scan never displaces anything; a burst lives in the window.
//! Cost: the sketch (four bytes per entry here) and list surgery on every hit. Defeated by: a
//! workload that turns to recency, where the window is too small and yesterday's counts defend
//! yesterday's entries. Caffeine moves the window's size for that reason; this file does not.

use super::{Policy, Slot, sketch::Sketch, slru::share};
use crate::lists::{Lists, PerSlot};

/// The window's share of the capacity.
const WINDOW_PERCENT: u64 = 1;
/// The protected share of what is not window.
const PROTECTED_PERCENT: u64 = 80;

/// A window, an admission filter, and a segmented main part.
#[derive(Default)]
pub struct WTinyLfu {
    lists: Lists,
    hashes: PerSlot<u64>,
    sketch: Sketch,
    window_max: u64,
    protected_max: u64,
}

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

impl WTinyLfu {
    fn main_victim(&self) -> Option<Slot> {
        self.lists.oldest(PROBATION).or_else(|| self.lists.oldest(PROTECTED))
    }

    /// Trade-off: on a tie the candidate loses. Caffeine lets warm candidates win now and then at
    /// random, against an attacker who makes hashes collide; the seeded hasher has that job here.
    fn deserves(&mut self, candidate: Slot, victim: Slot) -> bool {
        let candidate = self.sketch.estimate(*self.hashes.at(candidate));
        candidate > self.sketch.estimate(*self.hashes.at(victim))
    }
}

impl Policy for WTinyLfu {
    const NAME: &'static str = "wtinylfu";

    fn new(capacity: u64) -> Self {
        let window_max = share(capacity, WINDOW_PERCENT).max(1);
        Self {
            sketch: Sketch::for_capacity(capacity),
            window_max,
            protected_max: share(capacity.saturating_sub(window_max), PROTECTED_PERCENT),
            ..Self::default()
        }
    }

    fn hit(&mut self, slot: Slot) {
        self.sketch.record(*self.hashes.at(slot));
        if self.lists.list_of(slot) == WINDOW {
            return self.lists.renew(WINDOW, slot);
        }
        self.lists.renew(PROTECTED, slot);
        while self.lists.weight(PROTECTED) > self.protected_max {
            let oldest = self.lists.oldest(PROTECTED).expect("a list with weight is not empty");
            self.lists.renew(PROBATION, oldest);
        }
    }

    fn miss(&mut self, hash: u64) {
        self.sketch.record(hash);
    }

    fn victim(&mut self) -> Slot {
        let window_is_full = self.lists.weight(WINDOW) >= self.window_max;
        let candidate = self.lists.oldest(WINDOW).filter(|_| window_is_full);
        let victim = match (candidate, self.main_victim()) {
            (Some(candidate), Some(victim)) if self.deserves(candidate, victim) => {
                self.lists.renew(PROBATION, candidate);
                victim
            }
            (Some(candidate), _) => candidate,
            (None, Some(victim)) => victim,
            (None, None) => {
                self.lists.oldest(WINDOW).expect("a victim is asked of a cache that holds some")
            }
        };
        self.lists.remove(victim);
        victim
    }

    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        *self.hashes.at(slot) = hash;
        self.lists.push(WINDOW, slot, weight);
        // While the cache fills nobody is asked for a victim: the window overflows into the main
        // part unopposed.
        while self.lists.weight(WINDOW) > self.window_max && self.lists.len(WINDOW) > 1 {
            let oldest = self.lists.oldest(WINDOW).expect("more than one entry");
            self.lists.renew(PROBATION, oldest);
        }
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
