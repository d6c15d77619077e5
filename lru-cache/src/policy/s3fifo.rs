//! S3-FIFO (Yang et al., SOSP 2023, <https://s3fifo.com>): three FIFO queues and two bits.
//!
//! Most keys of most workloads are used once while they are in. A small queue, a tenth of the cache,
//! meets every newcomer; what was not used at least twice there leaves quickly and is remembered as
//! a ghost. What was goes to the main queue, which is a CLOCK with a two-bit counter. A newcomer
//! whose ghost is still remembered starts in the main queue.
//! A hit writes a counter of two bits, and nothing once it is full.
//! Cost: ghosts for as many keys as the main queue holds. Defeated by: keys whose second use comes
//! just after the small queue let them go, and loops.

use super::{LazyPromotion, Policy, Slot, ghosts::Ghosts, slru::share};
use crate::lists::{Lists, PerSlot, Uses};

/// The small queue's share.
const SMALL_PERCENT: u64 = 10;
/// Uses in the small queue that earn a place in the main queue.
const PROMOTE_AT: u8 = 2;
/// Where the counter saturates: two bits.
const USES_MAX: u8 = 3;

/// Small, main and ghost queue.
#[derive(Default)]
pub struct S3Fifo {
    lists: Lists,
    uses: Uses,
    hashes: PerSlot<u64>,
    ghosts: Ghosts,
    main_max: u64,
    /// The key announced by [`Policy::miss`] was a ghost.
    returning: bool,
}

const SMALL: usize = 0;
const MAIN: usize = 1;

impl S3Fifo {
    fn victim_of_main(&mut self, oldest: Slot) -> Option<Slot> {
        let uses = self.uses.at(oldest);
        if *uses > 0 {
            *uses -= 1;
            self.lists.renew(MAIN, oldest);
            return None;
        }
        self.lists.remove(oldest);
        Some(oldest)
    }

    fn victim_of_small(&mut self, oldest: Slot) -> Option<Slot> {
        if *self.uses.at(oldest) >= PROMOTE_AT {
            *self.uses.at(oldest) = 0;
            self.lists.renew(MAIN, oldest);
            return None;
        }
        let weight = self.lists.remove(oldest);
        self.ghosts.push(*self.hashes.at(oldest), weight);
        self.ghosts.shrink_to(self.main_max);
        Some(oldest)
    }
}

impl Policy for S3Fifo {
    const NAME: &'static str = "s3fifo";

    fn new(capacity: u64) -> Self {
        let small_max = share(capacity, SMALL_PERCENT).max(1).min(capacity);
        Self { main_max: capacity - small_max, ..Self::default() }
    }

    fn hit(&mut self, slot: Slot) {
        self.hit_shared(slot);
    }

    fn miss(&mut self, hash: u64) {
        self.returning = self.ghosts.remove(hash);
    }

    fn victim(&mut self) -> Slot {
        loop {
            let main_is_over = self.lists.weight(MAIN) > self.main_max;
            let found = match (self.lists.oldest(SMALL), self.lists.oldest(MAIN)) {
                (Some(oldest), main) if !main_is_over || main.is_none() => {
                    self.victim_of_small(oldest)
                }
                (_, Some(oldest)) => self.victim_of_main(oldest),
                (_, None) => panic!("a victim is asked of a cache that holds something"),
            };
            if let Some(victim) = found {
                return victim;
            }
        }
    }

    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        let list = if std::mem::take(&mut self.returning) { MAIN } else { SMALL };
        self.lists.push(list, slot, weight);
        *self.uses.at(slot) = 0;
        *self.hashes.at(slot) = hash;
    }

    fn remove(&mut self, slot: Slot) {
        self.lists.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        if self.ghosts.weight() > self.main_max {
            return Err("more ghosts than the main queue may hold".into());
        }
        self.ghosts.check()?;
        self.lists.check(resident)
    }
}

impl LazyPromotion for S3Fifo {
    fn hit_shared(&self, slot: Slot) {
        self.uses.raise(slot, USES_MAX);
    }
}
