//! The exact LRU to use: a table of entries that are their own list. No `unsafe`, no allocation.
//!
//! The same two structures as [`crate::smallest`], laid out for the cache of the processor: the list
//! runs through the entries where they lie in the hash table, so a hit touches the entry and its two
//! neighbours and nothing else. An entry is its key, its value and two four-byte links, 24 bytes for
//! numbers; the key is stored once. A full insert takes the oldest entry out and puts the new one in:
//! nothing is allocated, nothing moves, and the [`Table`] stays as large as it was made.
//!
//! Invariants (walked by [`Cache::check`] after every operation in tests): the list visits each entry
//! exactly once; the table finds each where it is; the weight is the sum of the weights.
//!
//! What it gives up: a hit writes three entries, which is why sharing needs a lock for reading too.
//! See [`crate::shared`] for the cache whose hits write one byte.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    mem,
};

use foldhash::fast::RandomState;

use crate::{
    cache::{Cache, Cause, Departure, UnitWeight, Weigher},
    table::{Cell, Table},
};

/// A constructor reserves for at most this many entries; a larger cache grows into its size. Without
/// this, a capacity of `u64::MAX` by weight would try to allocate it.
const RESERVE_MAX: u64 = 1 << 26;

struct Entry<K, V, W> {
    key: K,
    value: V,
    weight: W,
    /// Means nothing in the newest entry.
    newer: Cell,
    /// Means nothing in the oldest entry.
    older: Cell,
}

/// The two ends of the list. An empty cache has none.
#[derive(Clone, Copy)]
struct Ends {
    newest: Cell,
    oldest: Cell,
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
    table: Table<Entry<K, V, W::Weight>>,
    ends: Option<Ends>,
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
            table: Table::with_room_for(entries),
            ends: None,
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
            self.rebuild(self.table.len());
        }
    }

    /// Takes the oldest entry out, if there is one. O(1).
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let oldest = self.ends?.oldest;
        Some(self.take_out(oldest))
    }

    /// The entries from the most to the least recently used.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        let mut next = self.ends.map(|ends| ends.newest);
        (0..self.table.len()).map(move |_| {
            let entry = self.table.at(next.expect("a filled cache has ends"));
            next = Some(entry.older);
            (&entry.key, &entry.value)
        })
    }

    /// The bytes allocated. What keys and values own on the heap is not included.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    #[inline]
    fn find<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<Cell>
    where
        K: Borrow<Q>,
    {
        self.table.find(hash, |entry| entry.key.borrow() == key)
    }

    /// Makes an entry the newest.
    #[inline(always)]
    fn touch(&mut self, cell: Cell) {
        let Some(Ends { newest, oldest }) = self.ends else { return };
        if cell == newest {
            return;
        }
        let entry = self.table.at_mut(cell);
        let (newer, older) = (entry.newer, mem::replace(&mut entry.older, newest));
        self.table.at_mut(newest).newer = cell;
        self.table.at_mut(newer).older = older;
        if cell == oldest {
            self.ends = Some(Ends { newest: cell, oldest: newer });
        } else {
            self.table.at_mut(older).newer = newer;
            self.ends = Some(Ends { newest: cell, oldest });
        }
    }

    /// Puts a new entry into the table and at the new end of the list.
    #[inline]
    fn put_in(&mut self, hash: u64, key: K, value: V, weight: W::Weight) {
        if self.table.len() == self.table.room() {
            self.rebuild(self.table.len() * 2);
        }
        self.weight += weight.into();
        let newest = self.ends.map_or(Cell::MIN, |ends| ends.newest);
        let entry = Entry { key, value, weight, newer: newest, older: newest };
        let cell = self.table.insert(hash, entry);
        self.ends = match self.ends {
            Some(Ends { oldest, .. }) => {
                self.table.at_mut(newest).newer = cell;
                Some(Ends { newest: cell, oldest })
            }
            None => Some(Ends { newest: cell, oldest: cell }),
        };
    }

    /// Takes an entry out of the list and the table.
    #[inline]
    fn take_out(&mut self, cell: Cell) -> (K, V) {
        // Trade-off: the key is hashed again rather than keeping four bytes of hash in every entry.
        // For long string keys that is the wrong side of the trade.
        let hash = self.hasher.hash_one(&self.table.at(cell).key);
        let Entry { key, value, weight, newer, older } = self.table.remove(hash, cell);
        self.weight -= weight.into();
        self.ends = match self.ends {
            Some(Ends { newest, oldest }) if newest == oldest => None,
            Some(Ends { newest, oldest }) if cell == oldest => Some(Ends { newest, oldest: newer }),
            Some(Ends { newest, oldest }) if cell == newest => Some(Ends { newest: older, oldest }),
            ends => {
                self.table.at_mut(newer).older = older;
                self.table.at_mut(older).newer = newer;
                ends
            }
        };
        (key, value)
    }

    #[inline]
    fn evict_down_to(&mut self, weight_max: u64, leave: &mut impl FnMut(Departure<K, V>)) {
        while self.weight > weight_max {
            let oldest = self.ends.expect("a weight belongs to an entry").oldest;
            let (key, value) = self.take_out(oldest);
            leave(Departure { key, value, cause: Cause::Evicted });
        }
    }

    /// The only place where the table changes its size: entries move to a new one, oldest first.
    #[cold]
    fn rebuild(&mut self, entries: usize) {
        let mut small = mem::replace(&mut self.table, Table::with_room_for(entries));
        let mut next = self.ends.take();
        self.weight = 0;
        while let Some(Ends { newest, oldest }) = next {
            let hash = self.hasher.hash_one(&small.at(oldest).key);
            let Entry { key, value, weight, newer, .. } = small.remove(hash, oldest);
            self.put_in(hash, key, value, weight);
            next = (oldest != newest).then_some(Ends { newest, oldest: newer });
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
        let cell = self.find(self.hasher.hash_one(key), key)?;
        self.touch(cell);
        Some(&mut self.table.at_mut(cell).value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let cell = self.find(self.hasher.hash_one(key), key)?;
        Some(&self.table.at(cell).value)
    }

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let cell = self.find(self.hasher.hash_one(key), key)?;
        Some(&mut self.table.at_mut(cell).value)
    }

    #[inline]
    fn insert_with(&mut self, key: K, value: V, mut leave: impl FnMut(Departure<K, V>)) {
        let weight = self.weigher.weigh(&key, &value);
        let heavy = weight.into();
        let hash = self.hasher.hash_one(&key);
        if let Some(cell) = self.find(hash, &key) {
            if heavy > self.capacity {
                let (old_key, old) = self.take_out(cell);
                leave(Departure { key: old_key, value: old, cause: Cause::Replaced });
                return leave(Departure { key, value, cause: Cause::TooHeavy });
            }
            let entry = self.table.at_mut(cell);
            let old_weight = mem::replace(&mut entry.weight, weight);
            let value = mem::replace(&mut entry.value, value);
            self.touch(cell);
            self.weight = self.weight - old_weight.into() + heavy;
            leave(Departure { key, value, cause: Cause::Replaced });
            // It is the newest and fits alone, so this ends before it reaches it.
            return self.evict_down_to(self.capacity, &mut leave);
        }
        if heavy > self.capacity {
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        self.evict_down_to(self.capacity - heavy, &mut leave);
        self.put_in(hash, key, value, weight);
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let cell = self.find(self.hasher.hash_one(key), key)?;
        Some(self.take_out(cell))
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn weight(&self) -> u64 {
        self.weight
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn check(&self) -> Result<(), String> {
        self.table.check(|entry| self.hasher.hash_one(&entry.key))?;
        let weight = self.table.iter().map(|entry| entry.weight.into()).sum::<u64>();
        if weight != self.weight || weight > self.capacity {
            return Err(format!("weighs {weight}, says {} of {}", self.weight, self.capacity));
        }
        let Some(Ends { newest, oldest }) = self.ends else {
            return if self.is_empty() { Ok(()) } else { Err("entries outside the list".into()) };
        };
        let mut cell = newest;
        for step in 1..self.len() {
            let older = self.table.at(cell).older;
            if self.table.at(older).newer != cell {
                return Err(format!("{cell} and its older neighbour {older} disagree"));
            }
            if older == newest || cell == oldest {
                return Err(format!("the list ends after {step} of {}", self.len()));
            }
            cell = older;
        }
        if cell == oldest { Ok(()) } else { Err(format!("the list ends at {cell}, not {oldest}")) }
    }
}
