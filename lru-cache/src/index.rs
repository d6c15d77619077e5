//! Where each key's entry is: a hash table of slots that never grows behind its owner's back.
//!
//! The entries lie in a vector and have a number, their *slot*. The index holds four bytes per entry,
//! not the key: to compare, it asks the owner to look at the entry. hashbrown's table is the fastest
//! part anybody has written for this (Swiss tables: sixteen one-byte tags are compared at once).
//!
//! Trap: a removal from an open-addressed table may leave a tombstone. A full cache removes and
//! inserts for ever, long runs of full buckets never shrink, and when tombstones have used up the
//! spare room of a table that is half full, hashbrown doubles it: the cache takes twice the index for
//! good. So the index counts what tombstones have taken ([`Index::is_worn`]), and its owner lays it
//! out afresh in the memory it has ([`Index::sweep`]).
//!
//! What it gives up: that sweep is O(n), every five turnovers of the cache or more. It takes less than
//! a nanosecond per insertion, all at once: some milliseconds for a million entries.

use hashbrown::HashTable;

use crate::policy::Slot;

/// An index of slots. Hashes and comparisons are the owner's.
#[derive(Clone, Debug)]
pub struct Index {
    slots: HashTable<Slot>,
    room: usize,
    /// hashbrown's capacity (entries plus spare room) below which tombstones have taken too much.
    worn_below: usize,
}

impl Index {
    /// An index for `entries` entries, all memory allocated now.
    ///
    /// Trade-off: five bytes a bucket are cheap beside an entry, so the table is kept less than half
    /// full (48 %: a capacity that is a power of two would be exactly half), where searches seldom
    /// look further than their first sixteen buckets. For a million entries that is 10.5 bytes each.
    pub fn with_room_for(entries: usize) -> Self {
        // hashbrown takes a power of two of buckets and fills up to 7/8 of them: 175/96 = 7/8 / 0.48.
        let slots = HashTable::with_capacity(entries * 175 / 96 + 1);
        let worn_below = slots.capacity() - entries / 4;
        Self { slots, room: entries, worn_below }
    }

    /// How many entries it was made for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The bytes it occupies, which only [`Index::with_room_for`] decides.
    pub fn bytes(&self) -> usize {
        self.slots.allocation_size()
    }

    /// The slot under `hash` whose entry `is_it`. It is asked for every entry whose tag agrees,
    /// which is the right one and now and then a wrong one.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        self.slots.find(hash, |&slot| is_it(slot)).copied()
    }

    /// Puts a slot in.
    ///
    /// # Panics
    /// When [`Index::room`] is used up: the owner forgot to make room.
    #[inline]
    pub fn insert(&mut self, hash: u64, slot: Slot) {
        assert!(self.len() < self.room, "the index was made for {} entries", self.room);
        self.slots.insert_unique(hash, slot, |_| unreachable!("a swept index has spare room"));
    }

    /// Whether tombstones have taken so much room that the index should be swept before the next
    /// insertion.
    #[inline]
    pub fn is_worn(&self) -> bool {
        self.slots.capacity() < self.worn_below
    }

    /// Lays `entries` out afresh, in the same memory. O(n).
    #[cold]
    pub fn sweep(&mut self, entries: impl Iterator<Item = (Slot, u64)>) {
        self.slots.clear();
        for (slot, hash) in entries {
            self.insert(hash, slot);
        }
    }

    /// Takes a slot out. `hash` is the one it was inserted with; no keys are compared.
    ///
    /// # Panics
    /// When the slot is not in.
    #[inline]
    pub fn remove(&mut self, hash: u64, slot: Slot) {
        let found = self.slots.find_entry(hash, |&at| at == slot).ok();
        found.expect("every entry is in the index").remove();
    }

    /// The entry that was in slot `from` has moved to `to`.
    ///
    /// # Panics
    /// When `from` is not in.
    pub fn renumber(&mut self, hash: u64, from: Slot, to: Slot) {
        let found = self.slots.find_mut(hash, |&at| at == from);
        *found.expect("every entry is in the index") = to;
    }

    /// Looks every one of `entries` up under its hash.
    ///
    /// # Errors
    /// The first that is not found, or that there are others.
    pub fn check(&self, entries: impl Iterator<Item = (Slot, u64)>) -> Result<(), String> {
        let mut expected = 0;
        for (slot, hash) in entries {
            expected += 1;
            if self.find(hash, |at| at == slot).is_none() {
                return Err(format!("the index does not find slot {slot}"));
            }
        }
        if expected != self.len() {
            return Err(format!("{} slots in the index, {expected} entries", self.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::fast::FixedState;

    use super::Index;

    /// Replaces one key after the other, `rounds` times each. Returns how often it was swept.
    fn churn(entries: u64, rounds: u64, hash_of: impl Fn(u64) -> u64) -> u64 {
        let mut index = Index::with_room_for(entries as usize);
        let bytes = index.bytes();
        let slot_of = |key: u64| (key % entries) as u32;
        let mut sweeps = 0;
        for key in 0..entries * (rounds + 1) {
            let resident = key.saturating_sub(entries - 1)..key;
            if key >= entries {
                index.remove(hash_of(key - entries), slot_of(key));
            }
            if index.is_worn() {
                index.sweep(resident.map(|key| (slot_of(key), hash_of(key))));
                sweeps += 1;
            }
            index.insert(hash_of(key), slot_of(key));
        }
        assert_eq!(index.bytes(), bytes, "the index grew");
        let first = entries * rounds;
        index.check((first..first + entries).map(|key| (slot_of(key), hash_of(key)))).unwrap();
        sweeps
    }

    /// The fullest an index of some size can be, over a hundred turnovers of the cache.
    #[test]
    fn churn_never_grows_the_fullest_index_and_seldom_sweeps_it() {
        let hasher = FixedState::default();
        for entries in [491u64, 7864] {
            let larger = Index::with_room_for(entries as usize + 1);
            assert!(Index::with_room_for(entries as usize).bytes() < larger.bytes(), "{entries}");
            let sweeps = churn(entries, 100, |key| hasher.hash_one(key));
            assert!((1..=50).contains(&sweeps), "{sweeps} sweeps of {entries} entries");
        }
    }

    #[test]
    fn a_hostile_hash_leaves_many_tombstones_and_still_nothing_grows() {
        for entries in [1, 2, 5, 14, 96] {
            churn(entries, 20, |_| 0);
        }
    }
}
