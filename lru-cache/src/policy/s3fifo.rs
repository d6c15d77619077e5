//! S3-FIFO (Yang et al., SOSP 2023, <https://s3fifo.com>): three FIFO queues and two bits.
//!
//! Most keys of most workloads are used once while they are in. A small queue, a tenth of the cache,
//! meets every newcomer; what was not used at least twice there leaves quickly and is remembered as
//! a ghost. What was goes to the main queue, which is a CLOCK with a two-bit counter. A newcomer
//! whose ghost is still remembered starts in the main queue.
//! A hit writes a counter of two bits, and nothing once it is full.
//! Cost: as many ghosts as the main queue holds, 16 bytes each with the room between them; a victim
//! may take several steps, each of which clears what some hit paid for: O(1) amortised. Defeated by:
//! keys whose second use comes just after the small queue let them go, and loops.

use super::{LazyPromotion, Policy, Slot, forgotten::Forgotten, slru::share};
use crate::{
    lists::Uses,
    queues::{Queues, Waiting},
};

/// The small queue's share.
const SMALL_PERCENT: u64 = 10;
/// Uses in the small queue that earn a place in the main queue.
const PROMOTE_AT: u8 = 2;
/// Where the counter saturates: two bits.
const USES_MAX: u8 = 3;

/// Small, main and ghost queue.
#[derive(Default)]
pub struct S3Fifo {
    queues: Queues<2>,
    uses: Uses,
    ghosts: Forgotten,
    main_max: u64,
    /// The key announced by [`Policy::miss`] was a ghost.
    returning: bool,
}

const SMALL: usize = 0;
const MAIN: usize = 1;

impl S3Fifo {
    /// As many ghosts as a full main queue has entries: of equal weight, nine of ten.
    #[inline]
    fn ghosts_wanted(&self) -> usize {
        let entries = self.queues.len(SMALL) + self.queues.len(MAIN);
        entries - entries * SMALL_PERCENT as usize / 100
    }

    fn victim_of_main(&mut self) -> Option<Slot> {
        let oldest = self.queues.pop(MAIN)?;
        let uses = self.uses.at(oldest.slot);
        if *uses == 0 {
            return Some(oldest.slot);
        }
        *uses -= 1;
        self.queues.push(MAIN, oldest);
        None
    }

    fn victim_of_small(&mut self) -> Option<Slot> {
        let wanted = self.ghosts_wanted();
        let oldest = self.queues.pop(SMALL)?;
        let uses = self.uses.at(oldest.slot);
        if *uses >= PROMOTE_AT {
            *uses = 0;
            self.queues.push(MAIN, oldest);
            return None;
        }
        self.ghosts.push(oldest.hash, wanted);
        Some(oldest.slot)
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
        self.returning = self.ghosts.remove(hash as u32, self.ghosts_wanted());
    }

    fn victim(&mut self) -> Slot {
        loop {
            let (small, main) = (self.queues.len(SMALL), self.queues.len(MAIN));
            assert!(small + main > 0, "a victim is asked of a cache that holds something");
            let main_is_over = self.queues.weight(MAIN) > self.main_max;
            let found = if small > 0 && (!main_is_over || main == 0) {
                self.victim_of_small()
            } else {
                self.victim_of_main()
            };
            if let Some(victim) = found {
                return victim;
            }
        }
    }

    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        let queue = if std::mem::take(&mut self.returning) { MAIN } else { SMALL };
        self.queues.push(queue, Waiting { slot, hash: hash as u32, weight });
        *self.uses.at(slot) = 0;
    }

    fn remove(&mut self, slot: Slot) {
        self.queues.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        self.ghosts.check()?;
        self.queues.check(resident)
    }
}

impl LazyPromotion for S3Fifo {
    #[inline]
    fn hit_shared(&self, slot: Slot) {
        self.uses.raise(slot, USES_MAX);
    }
}
