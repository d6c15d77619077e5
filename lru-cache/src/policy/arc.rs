//! ARC (Megiddo and Modha, FAST 2003): recency and frequency, balanced by their own mistakes.
//!
//! Two LRU lists: `recent` for entries used once since they came in, `frequent` for the others. Each
//! has a ghost list of what it threw out. A newcomer remembered by `recent`'s ghosts says that
//! `recent` is too small, and moves the target towards it; one remembered by `frequent`'s ghosts
//! moves it back. Nothing is tuned by hand. Together, residents and ghosts are at most twice the
//! capacity.
//! Cost: list surgery on every hit and memory for as many ghosts as entries. Defeated by: a loop
//! longer than twice the cache, which its ghosts never see again.
//!
//! Names in the paper: `recent` is T1, `frequent` T2, the ghosts B1 and B2, `recent_target` p.

use super::{Policy, Slot, ghosts::Ghosts};
use crate::lists::{Lists, PerSlot};

/// Adaptive replacement.
#[derive(Default)]
pub struct Arc {
    lists: Lists,
    hashes: PerSlot<u64>,
    recent_ghosts: Ghosts,
    frequent_ghosts: Ghosts,
    recent_target: u64,
    capacity: u64,
    incoming: Incoming,
}

/// What the ghosts say about the key being inserted.
#[derive(Clone, Copy, Default, PartialEq)]
enum Incoming {
    #[default]
    New,
    WasRecent,
    WasFrequent,
}

const RECENT: usize = 0;
const FREQUENT: usize = 1;

impl Policy for Arc {
    const NAME: &'static str = "arc";

    fn new(capacity: u64) -> Self {
        Self { capacity, ..Self::default() }
    }

    fn hit(&mut self, slot: Slot) {
        self.lists.renew(FREQUENT, slot);
    }

    fn miss(&mut self, hash: u64) {
        let (recent, frequent) = (self.recent_ghosts.weight(), self.frequent_ghosts.weight());
        self.incoming = if self.recent_ghosts.remove(hash) {
            let step = (frequent / recent.max(1)).max(1);
            self.recent_target = (self.recent_target + step).min(self.capacity);
            Incoming::WasRecent
        } else if self.frequent_ghosts.remove(hash) {
            let step = (recent / frequent.max(1)).max(1);
            self.recent_target = self.recent_target.saturating_sub(step);
            Incoming::WasFrequent
        } else {
            Incoming::New
        };
    }

    fn victim(&mut self) -> Slot {
        let recent = self.lists.weight(RECENT);
        let over_target = recent > self.recent_target
            || (self.incoming == Incoming::WasFrequent && recent == self.recent_target);
        if self.lists.oldest(FREQUENT).is_none() || (recent > 0 && over_target) {
            let slot = self.lists.oldest(RECENT).expect("a victim is asked of a filled cache");
            let weight = self.lists.remove(slot);
            // When `recent` fills the whole cache its entries leave without a ghost: their list and
            // its ghosts together may not exceed the capacity.
            if self.incoming != Incoming::New || recent < self.capacity {
                self.recent_ghosts.push(*self.hashes.at(slot), weight);
            }
            return slot;
        }
        let slot = self.lists.oldest(FREQUENT).expect("checked above");
        let weight = self.lists.remove(slot);
        self.frequent_ghosts.push(*self.hashes.at(slot), weight);
        slot
    }

    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        let list = if self.incoming == Incoming::New { RECENT } else { FREQUENT };
        self.lists.push(list, slot, weight);
        *self.hashes.at(slot) = hash;
        let recent_ghosts_max = self.capacity - self.lists.weight(RECENT).min(self.capacity);
        self.recent_ghosts.shrink_to(recent_ghosts_max);
        let resident = self.lists.weight(RECENT) + self.lists.weight(FREQUENT);
        let others = resident + self.recent_ghosts.weight();
        self.frequent_ghosts.shrink_to((2 * self.capacity).saturating_sub(others));
    }

    fn remove(&mut self, slot: Slot) {
        self.lists.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        if self.recent_target > self.capacity {
            return Err("the target for `recent` is above the capacity".into());
        }
        self.recent_ghosts.check()?;
        self.frequent_ghosts.check()?;
        self.lists.check(resident)
    }
}
