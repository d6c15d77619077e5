//! The exact LRU to use: one vector of entries, one index of slots. No `unsafe`, no allocation.
//!
//! The same two structures as [`crate::smallest`], laid out for the cache of the processor. Keys and
//! values lie densely in one vector and the list runs through another, two four-byte links an entry:
//! 24 bytes for two numbers. A hit reads one entry and rewrites the links around it, eight pairs of
//! which share a cache line. The [`Index`] holds slots only and asks the entries when it compares, so
//! a key is stored once. A full insert overwrites the oldest entry where it lies: nothing is allocated
//! and nothing moves.
//!
//! Invariants (walked by [`Cache::check`] after every operation in tests): the list visits each entry
//! exactly once; the index finds each where it is; the weight is the sum of the weights.
//!
//! What it gives up: a removal moves the last entry into the hole, so a slot is no stable handle. And
//! a hit writes up to four links, which is why sharing needs a lock for reading too.
//! See [`crate::shared`] for the cache whose hits write one byte.
//!
//! Tried and not better: links beside key and value (slower while everything fits the processor's
//! caches); a table of our own with tags and slots in one 32-byte chunk (one miss less, but more
//! instructions, so fewer lookups are in flight); looking the next victim up one eviction ahead; a
//! log of uses instead of a list.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    mem,
};

use foldhash::fast::RandomState;

use crate::{
    cache::{Cache, Cause, Departure, UnitWeight, Weigher},
    index::Index,
    policy::Slot,
};

/// A constructor reserves for at most this many entries; a larger cache grows into its size. Without
/// this, a capacity of `u64::MAX` by weight would try to allocate it.
const RESERVE_MAX: u64 = 1 << 26;

struct Entry<K, V, W> {
    key: K,
    value: V,
    weight: W,
}

#[derive(Clone, Copy)]
struct Links {
    /// Means nothing in the newest entry.
    newer: Slot,
    /// Means nothing in the oldest entry.
    older: Slot,
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
    /// The list, one pair of links for each entry.
    links: Vec<Links>,
    index: Index,
    /// The ends of the list mean nothing while there are no entries.
    newest: Slot,
    oldest: Slot,
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
            links: Vec::with_capacity(entries),
            index: Index::with_room_for(entries),
            newest: 0,
            oldest: 0,
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
        self.evict_down_to(capacity, &mut leave);
        if smaller {
            self.entries.shrink_to_fit();
            self.links.shrink_to_fit();
            self.index_for(self.entries.len());
        }
    }

    /// Takes the oldest entry out, if there is one. O(1).
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        (!self.entries.is_empty()).then(|| self.take_out(self.oldest))
    }

    /// The entries from the most to the least recently used.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        let mut next = self.newest;
        (0..self.entries.len()).map(move |_| {
            let entry = &self.entries[next as usize];
            next = self.links[next as usize].older;
            (&entry.key, &entry.value)
        })
    }

    /// The bytes allocated. What keys and values own on the heap is not included.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<K, V, W::Weight>>()
            + self.links.capacity() * size_of::<Links>()
            + self.index.bytes()
    }

    #[inline]
    fn find<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        self.index.find(hash, |slot| self.entries[slot as usize].key.borrow() == key)
    }

    /// Makes an entry the newest.
    #[inline]
    fn touch(&mut self, slot: Slot) {
        if slot == self.newest {
            return;
        }
        let Links { newer, older } = self.links[slot as usize];
        self.links[slot as usize].older = self.newest;
        self.links[self.newest as usize].newer = slot;
        self.links[newer as usize].older = older;
        if slot == self.oldest {
            self.oldest = newer;
        } else {
            self.links[older as usize].newer = newer;
        }
        self.newest = slot;
    }

    /// A new entry at the end of the vector and the new end of the list.
    fn append(&mut self, hash: u64, key: K, value: V, weight: W::Weight) {
        if self.entries.len() == self.index.room() {
            self.index_for(self.entries.len() * 2 + 1);
        }
        let slot = Slot::try_from(self.entries.len()).expect("slots are numbered with 32 bits");
        self.index.insert(hash, slot);
        if slot == 0 {
            self.oldest = slot;
        } else {
            self.links[self.newest as usize].newer = slot;
        }
        self.entries.push(Entry { key, value, weight });
        self.links.push(Links { newer: slot, older: self.newest });
        self.newest = slot;
        self.weight += weight.into();
        if self.index.is_worn() {
            self.sweep_index();
        }
    }

    /// Overwrites the oldest entry with a new one, and makes it the newest.
    #[inline]
    fn recycle_oldest(&mut self, hash: u64, key: K, value: V, weight: W::Weight) -> (K, V) {
        let slot = self.oldest;
        // Trade-off: the old key is hashed again rather than keeping four bytes of hash in every
        // entry. For long string keys that is the wrong side of the trade.
        self.index.remove(self.hasher.hash_one(&self.entries[slot as usize].key), slot);
        self.index.insert(hash, slot);
        let entry = &mut self.entries[slot as usize];
        self.weight = self.weight - entry.weight.into() + weight.into();
        entry.weight = weight;
        let value = mem::replace(&mut entry.value, value);
        let key = mem::replace(&mut entry.key, key);
        if slot != self.newest {
            self.oldest = self.links[slot as usize].newer;
            self.links[slot as usize].older = self.newest;
            self.links[self.newest as usize].newer = slot;
            self.newest = slot;
        }
        if self.index.is_worn() {
            self.sweep_index();
        }
        (key, value)
    }

    /// Takes an entry out, and moves the last one into the hole so that entries stay dense.
    fn take_out(&mut self, slot: Slot) -> (K, V) {
        let Links { newer, older } = self.links[slot as usize];
        match (slot == self.newest, slot == self.oldest) {
            (true, true) => {}
            (true, false) => self.newest = older,
            (false, true) => self.oldest = newer,
            (false, false) => {
                self.links[newer as usize].older = older;
                self.links[older as usize].newer = newer;
            }
        }
        self.index.remove(self.hasher.hash_one(&self.entries[slot as usize].key), slot);
        let Entry { key, value, weight } = self.entries.swap_remove(slot as usize);
        self.links.swap_remove(slot as usize);
        self.weight -= weight.into();
        if (slot as usize) < self.entries.len() {
            self.moved(self.entries.len() as Slot, slot);
        }
        (key, value)
    }

    /// The entry of slot `from` now lies in `to`: tells the index and the list.
    fn moved(&mut self, from: Slot, to: Slot) {
        let Links { newer, older } = self.links[to as usize];
        let hash = self.hasher.hash_one(&self.entries[to as usize].key);
        self.index.renumber(hash, from, to);
        if self.newest == from {
            self.newest = to;
        } else {
            self.links[newer as usize].older = to;
        }
        if self.oldest == from {
            self.oldest = to;
        } else {
            self.links[older as usize].newer = to;
        }
    }

    /// Writes over an entry whose key is `new`'s.
    fn replace(
        &mut self,
        slot: Slot,
        new: Entry<K, V, W::Weight>,
        mut leave: impl FnMut(Departure<K, V>),
    ) {
        let Entry { key, value, weight } = new;
        if weight.into() > self.capacity {
            let (old_key, old) = self.take_out(slot);
            leave(Departure { key: old_key, value: old, cause: Cause::Replaced });
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        let entry = &mut self.entries[slot as usize];
        let old_weight = mem::replace(&mut entry.weight, weight);
        let value = mem::replace(&mut entry.value, value);
        self.touch(slot);
        self.weight = self.weight - old_weight.into() + weight.into();
        leave(Departure { key, value, cause: Cause::Replaced });
        // It is the newest and fits alone, so this ends before it reaches it.
        self.evict_down_to(self.capacity, &mut leave);
    }

    fn evict_down_to(&mut self, weight_max: u64, leave: &mut impl FnMut(Departure<K, V>)) {
        while self.weight > weight_max {
            let (key, value) = self.take_out(self.oldest);
            leave(Departure { key, value, cause: Cause::Evicted });
        }
    }

    /// The only place where the index changes its size.
    #[cold]
    fn index_for(&mut self, entries: usize) {
        self.index = Index::with_room_for(entries);
        self.sweep_index();
    }

    #[cold]
    fn sweep_index(&mut self) {
        self.index.sweep(hashes(&self.entries, &self.hasher));
    }
}

/// Every slot with the hash of its key.
fn hashes<K: Hash, V, W>(
    entries: &[Entry<K, V, W>],
    hasher: &impl BuildHasher,
) -> impl Iterator<Item = (Slot, u64)> {
    (0..).zip(entries).map(|(slot, entry)| (slot, hasher.hash_one(&entry.key)))
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

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        Some(&mut self.entries[slot as usize].value)
    }

    #[inline]
    fn insert_with(&mut self, key: K, value: V, mut leave: impl FnMut(Departure<K, V>)) {
        let weight = self.weigher.weigh(&key, &value);
        let heavy = weight.into();
        let hash = self.hasher.hash_one(&key);
        if let Some(slot) = self.find(hash, &key) {
            return self.replace(slot, Entry { key, value, weight }, leave);
        }
        if heavy > self.capacity {
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        while self.weight + heavy > self.capacity {
            let oldest = self.entries[self.oldest as usize].weight.into();
            if self.weight - oldest + heavy <= self.capacity {
                let (key, value) = self.recycle_oldest(hash, key, value, weight);
                return leave(Departure { key, value, cause: Cause::Evicted });
            }
            let (key, value) = self.take_out(self.oldest);
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
        self.index.check(hashes(&self.entries, &self.hasher))?;
        let weight = self.entries.iter().map(|entry| entry.weight.into()).sum::<u64>();
        if weight != self.weight || weight > self.capacity {
            return Err(format!("weighs {weight}, says {} of {}", self.weight, self.capacity));
        }
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut slot = self.newest;
        for step in 1..self.len() {
            let older = self.links[slot as usize].older;
            if self.links[older as usize].newer != slot {
                return Err(format!("slot {slot} and its older neighbour {older} disagree"));
            }
            if older == self.newest || slot == self.oldest {
                return Err(format!("the list ends after {step} of {}", self.len()));
            }
            slot = older;
        }
        let oldest = self.oldest;
        if slot == oldest { Ok(()) } else { Err(format!("the list ends at {slot}, not {oldest}")) }
    }
}
