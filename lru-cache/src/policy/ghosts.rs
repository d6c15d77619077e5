//! Memory of what was thrown out: hashes of keys, oldest forgotten first.
//!
//! A ghost costs a few bytes and tells a policy that it was wrong: the key came back. Hashes stand for
//! keys; two keys with one 64-bit hash would be taken for each other, which happens about once in
//! four billion caches of a million ghosts, and costs one misplaced entry then.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::lists::Lists;

const QUEUE: usize = 0;

/// A queue of hashes that can be asked and taken out by hash.
#[derive(Default)]
pub(super) struct Ghosts {
    slot_of: HashMap<u64, u32, FixedState>,
    hashes: Vec<u64>,
    free: Vec<u32>,
    queue: Lists,
}

impl Ghosts {
    /// Remembers a hash. A hash that is in already becomes the newest.
    pub(super) fn push(&mut self, hash: u64, weight: u64) {
        self.remove(hash);
        let slot = self.free.pop().unwrap_or(self.hashes.len() as u32);
        if slot as usize == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[slot as usize] = hash;
        }
        self.slot_of.insert(hash, slot);
        self.queue.push(QUEUE, slot, weight);
    }

    /// Forgets a hash, and says whether it was remembered.
    pub(super) fn remove(&mut self, hash: u64) -> bool {
        let Some(slot) = self.slot_of.remove(&hash) else { return false };
        self.queue.remove(slot);
        self.free.push(slot);
        true
    }

    /// Forgets the oldest while the total weight is above `weight_max`.
    pub(super) fn shrink_to(&mut self, weight_max: u64) {
        while self.weight() > weight_max {
            let slot = self.queue.oldest(QUEUE).expect("a queue with weight is not empty");
            self.remove(self.hashes[slot as usize]);
        }
    }

    pub(super) fn weight(&self) -> u64 {
        self.queue.weight(QUEUE)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let misplaced =
            self.slot_of.iter().any(|(hash, &slot)| self.hashes[slot as usize] != *hash);
        if misplaced || self.slot_of.len() + self.free.len() != self.hashes.len() {
            return Err("the ghosts' map and their queue disagree".into());
        }
        self.queue.check(self.slot_of.len())
    }
}
