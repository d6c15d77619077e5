//! The exact LRU to use: one vector of entries, one index of slots, no `unsafe`, no allocation.
//!
//! The same two structures as [`crate::smallest`], laid out for the cache of the processor. An entry
//! is its key, its value and two four-byte links: 24 bytes for numbers. The key is stored once; the
//! [`Index`] holds slots only and asks the entries when it compares. The ring of uses makes the
//! commonest write free: when the cache is full, the oldest entry sits where the newest belongs, so
//! a miss overwrites one entry in place and moves one number, `newest`.
//!
//! Invariants (walked by [`Cache::check`] after every operation in tests): entries are dense; the
//! ring visits each exactly once; the index finds each where it is; the weight is the sum of the
//! weights.
//!
//! What it gives up: a removal moves the last entry into the hole, so a slot is no stable handle.
//! And a hit writes up to five entries, which is why sharing needs a lock for reading too: see
//! [`crate::shared`] for the cache whose hits write one byte.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    mem,
};

use foldhash::fast::RandomState;

use crate::{
    cache::{Cache, Cause, Departure, UnitWeight, Weigher},
    index::Index,
};

/// Slots are four bytes; a cache holds at most this many entries, whatever they weigh.
pub const ENTRIES_MAX: usize = u32::MAX as usize;

/// Above this many entries a constructor does not reserve in advance: `with_capacity(u64::MAX)` by
/// weight is legal and must not try to allocate it.
const RESERVE_MAX: u64 = 1 << 26;

struct Entry<K, V, W> {
    key: K,
    value: V,
    weight: W,
    newer: u32,
    older: u32,
}

/// An exact LRU cache.
///
/// ```
/// use lru_cache::{Cache, Cause, Departure, LruCache};
///
/// let mut cache = LruCache::new(2);
/// cache.insert("a".to_string(), 1);
/// cache.insert("b".to_string(), 2);
/// assert_eq!(cache.get("a"), Some(&1)); // a borrowed key will do
/// let left = cache.insert("c".to_string(), 3);
/// assert_eq!(left, Some(Departure { key: "b".into(), value: 2, cause: Cause::Evicted }));
/// assert_eq!(cache.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["c", "a"]);
/// ```
pub struct LruCache<K, V, W: Weigher<K, V> = UnitWeight, S = RandomState> {
    entries: Vec<Entry<K, V, W::Weight>>,
    index: Index,
    /// The start of the ring. Its `newer` neighbour is the oldest entry.
    newest: u32,
    weight: u64,
    capacity: u64,
    weigher: W,
    hasher: S,
}

impl<K: Hash + Eq, V> LruCache<K, V> {
    /// A cache for `capacity` entries. Allocates for all of them now, and never again.
    pub fn new(capacity: usize) -> Self {
        Self::with_parts(capacity as u64, capacity, UnitWeight, RandomState::default())
    }
}

impl<K: Hash + Eq, V, W: Weigher<K, V>> LruCache<K, V, W> {
    /// A cache for a total weight of `capacity`. How many entries that will be is not known, so it
    /// allocates as it fills; once full it does not grow unless entries become lighter.
    pub fn weighted(capacity: u64, weigher: W) -> Self {
        Self::with_parts(capacity, 0, weigher, RandomState::default())
    }
}

impl<K: Hash + Eq, V, W: Weigher<K, V>, S: BuildHasher> LruCache<K, V, W, S> {
    /// A cache of total weight `capacity` with room for `entries` in advance.
    ///
    /// Trade-off: the default hasher is seeded per process but made for speed. Keys chosen by an
    /// attacker who can measure time deserve `std::hash::RandomState` here.
    pub fn with_parts(capacity: u64, entries: usize, weigher: W, hasher: S) -> Self {
        let entries = (entries as u64).min(RESERVE_MAX) as usize;
        Self {
            entries: Vec::with_capacity(entries),
            index: Index::with_room_for(entries),
            newest: 0,
            weight: 0,
            capacity,
            weigher,
            hasher,
        }
    }

    /// Changes the bound. Entries that no longer fit leave, oldest first. O(departures), and a
    /// smaller cache gives memory back, which is O(n).
    pub fn resize(&mut self, capacity: u64, mut leave: impl FnMut(Departure<K, V>)) {
        let smaller = capacity < self.capacity;
        self.capacity = capacity;
        while self.weight > capacity {
            let (key, value) = self.take_out(self.oldest());
            leave(Departure { key, value, cause: Cause::Evicted });
        }
        if smaller {
            self.entries.shrink_to_fit();
            self.rebuild_index(self.entries.len());
        }
    }

    /// Takes the oldest entry out, if there is one. O(1).
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        (!self.entries.is_empty()).then(|| self.take_out(self.oldest()))
    }

    /// The entries from the most to the least recently used.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        let mut slot = self.newest;
        (0..self.entries.len()).map(move |_| {
            let entry = &self.entries[slot as usize];
            slot = entry.older;
            (&entry.key, &entry.value)
        })
    }

    /// The bytes allocated for entries and index. Keys' and values' own heap memory is not included.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<K, V, W::Weight>>() + self.index.bytes()
    }

    #[inline]
    fn find<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.index.find(hash, |slot| self.entries[slot as usize].key.borrow() == key)
    }

    #[inline]
    fn oldest(&self) -> u32 {
        self.entries[self.newest as usize].newer
    }

    /// Makes `slot` the newest. Writes nothing when it already is, and one number when it is the
    /// oldest: turning a ring is free.
    #[inline]
    fn touch(&mut self, slot: u32) {
        if slot == self.newest {
            return;
        }
        if slot != self.oldest() {
            self.unlink(slot);
            self.link_before_newest(slot);
        }
        self.newest = slot;
    }

    #[inline]
    fn unlink(&mut self, slot: u32) {
        let Entry { newer, older, .. } = self.entries[slot as usize];
        self.entries[newer as usize].older = older;
        self.entries[older as usize].newer = newer;
    }

    #[inline]
    fn link_before_newest(&mut self, slot: u32) {
        let newest = self.newest;
        let oldest = mem::replace(&mut self.entries[newest as usize].newer, slot);
        self.entries[oldest as usize].older = slot;
        let entry = &mut self.entries[slot as usize];
        entry.newer = oldest;
        entry.older = newest;
    }

    /// A new entry at the end of the vector, newest in the ring.
    fn append(&mut self, hash: u64, key: K, value: V, weight: W::Weight) {
        assert!(self.entries.len() < ENTRIES_MAX, "slots are 32 bits");
        if self.index.len() == self.index.room() {
            self.rebuild_index(self.entries.len() * 2);
        }
        let slot = self.entries.len() as u32;
        self.entries.push(Entry { key, value, weight, newer: slot, older: slot });
        self.index.insert(hash, slot);
        if slot > 0 {
            self.link_before_newest(slot);
        }
        self.newest = slot;
        self.weight += weight.into();
    }

    /// Overwrites the oldest entry with a new one. No link changes: see the top of this file.
    #[inline]
    fn recycle_oldest(&mut self, hash: u64, key: K, value: V, weight: W::Weight) -> (K, V) {
        let slot = self.oldest();
        let entry = &mut self.entries[slot as usize];
        let old_weight = mem::replace(&mut entry.weight, weight);
        let old_key = mem::replace(&mut entry.key, key);
        let old_value = mem::replace(&mut entry.value, value);
        // Trade-off: the old key is hashed again rather than keeping eight bytes of hash in every
        // entry. For long string keys that is the wrong side of the trade.
        self.index.remove(self.hasher.hash_one(&old_key), slot);
        self.index.insert(hash, slot);
        self.newest = slot;
        self.weight = self.weight - old_weight.into() + weight.into();
        (old_key, old_value)
    }

    /// Takes an entry out and fills the hole with the last one, so that entries stay dense.
    fn take_out(&mut self, slot: u32) -> (K, V) {
        if slot == self.newest {
            self.newest = self.entries[slot as usize].older;
        }
        self.unlink(slot);
        self.index.remove(self.hasher.hash_one(&self.entries[slot as usize].key), slot);
        let gone = self.entries.swap_remove(slot as usize);
        self.weight -= gone.weight.into();
        let last = self.entries.len() as u32;
        if slot != last {
            self.moved(last, slot);
        }
        (gone.key, gone.value)
    }

    /// The entry at `from` now lives at `to`: tell its neighbours, the index and `newest`.
    fn moved(&mut self, from: u32, to: u32) {
        let Entry { newer, older, .. } = self.entries[to as usize];
        // Trap: an entry alone in the ring is its own neighbour, under its old number.
        let newer = if newer == from { to } else { newer };
        let older = if older == from { to } else { older };
        self.entries[newer as usize].older = to;
        self.entries[older as usize].newer = to;
        if self.newest == from {
            self.newest = to;
        }
        let hash = self.hasher.hash_one(&self.entries[to as usize].key);
        self.index.relabel(hash, from, to);
    }

    /// The only place where the index changes its size.
    #[cold]
    fn rebuild_index(&mut self, entries: usize) {
        self.index = Index::with_room_for(entries);
        for (slot, entry) in self.entries.iter().enumerate() {
            self.index.insert(self.hasher.hash_one(&entry.key), slot as u32);
        }
    }
}

impl<K: Hash + Eq, V, W: Weigher<K, V>, S: BuildHasher> Cache<K, V> for LruCache<K, V, W, S> {
    fn name(&self) -> &'static str {
        "lru"
    }

    #[inline]
    fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    #[inline]
    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        self.touch(slot);
        Some(&mut self.entries[slot as usize].value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        Some(&self.entries[slot as usize].value)
    }

    #[inline]
    fn insert_with(&mut self, key: K, value: V, mut leave: impl FnMut(Departure<K, V>)) {
        let weight = self.weigher.weigh(&key, &value);
        let heavy = weight.into();
        let hash = self.hasher.hash_one(&key);
        if let Some(slot) = self.find(hash, &key) {
            if heavy > self.capacity {
                let (old_key, old) = self.take_out(slot);
                leave(Departure { key: old_key, value: old, cause: Cause::Replaced });
                return leave(Departure { key, value, cause: Cause::TooHeavy });
            }
            let entry = &mut self.entries[slot as usize];
            let old_weight = mem::replace(&mut entry.weight, weight);
            let value = mem::replace(&mut entry.value, value);
            self.touch(slot);
            self.weight = self.weight - old_weight.into() + heavy;
            leave(Departure { key, value, cause: Cause::Replaced });
            // It is the newest and fits alone, so this ends before it reaches it.
            while self.weight > self.capacity {
                let (key, value) = self.take_out(self.oldest());
                leave(Departure { key, value, cause: Cause::Evicted });
            }
            return;
        }
        if heavy > self.capacity {
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        while self.weight + heavy > self.capacity {
            let oldest = &self.entries[self.oldest() as usize];
            if self.weight - oldest.weight.into() + heavy <= self.capacity {
                let (key, value) = self.recycle_oldest(hash, key, value, weight);
                return leave(Departure { key, value, cause: Cause::Evicted });
            }
            let (key, value) = self.take_out(self.oldest());
            leave(Departure { key, value, cause: Cause::Evicted });
        }
        self.append(hash, key, value, weight);
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        Some(self.take_out(slot))
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn weight(&self) -> u64 {
        self.weight
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn check(&self) -> Result<(), String> {
        if self.index.len() != self.entries.len() {
            return Err(format!("{} in the index, {} entries", self.index.len(), self.len()));
        }
        self.index.check(|slot| self.hasher.hash_one(&self.entries[slot as usize].key))?;
        let weight = self.entries.iter().map(|entry| entry.weight.into()).sum::<u64>();
        if weight != self.weight || weight > self.capacity {
            return Err(format!("weighs {weight}, says {} of {}", self.weight, self.capacity));
        }
        let mut slot = self.newest;
        for step in 1..=self.entries.len() {
            let older = self.entries[slot as usize].older;
            if self.entries[older as usize].newer != slot {
                return Err(format!("slot {slot} and its older neighbour {older} disagree"));
            }
            if (older == self.newest) != (step == self.entries.len()) {
                return Err(format!("the ring closes after {step} of {}", self.entries.len()));
            }
            slot = older;
        }
        Ok(())
    }
}
