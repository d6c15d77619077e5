//! A cache of any policy: entries in slots, an index to find them, and a [`Policy`] to choose.
//!
//! The exact LRU has its own file because its ring is the point of it. Everything else is the same
//! for all policies and is here: what happens on a hit, what leaves on an insert, and in which order
//! the policy is told.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    mem,
};

use foldhash::fast::RandomState;

use crate::{
    cache::{Cache, Cause, Departure, UnitWeight, Weigher},
    index::Index,
    policy::{LazyPromotion, Policy, Slot},
};

struct Entry<K, V, W> {
    key: K,
    value: V,
    weight: W,
}

/// A cache that forgets what `P` tells it to.
///
/// ```
/// use lru_cache::{Cache, PolicyCache, policy::Sieve};
///
/// let mut cache = PolicyCache::<_, _, Sieve>::new(2);
/// cache.insert("a", 1);
/// cache.insert("b", 2);
/// cache.get("a");
/// assert_eq!(cache.insert("c", 3).unwrap().key, "b"); // "a" was used, "b" was not
/// ```
pub struct PolicyCache<K, V, P, W: Weigher<K, V> = UnitWeight, S = RandomState> {
    slots: Vec<Option<Entry<K, V, W::Weight>>>,
    free: Vec<Slot>,
    /// Where each key's slot is. Slots stay when this is replaced by a larger one.
    index: Index,
    policy: P,
    weight: u64,
    capacity: u64,
    weigher: W,
    hasher: S,
}

impl<K: Hash + Eq, V, P: Policy> PolicyCache<K, V, P> {
    /// A cache for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self::with_parts(capacity as u64, UnitWeight, RandomState::default())
    }
}

impl<K: Hash + Eq, V, P: Policy, W: Weigher<K, V>, S: BuildHasher> PolicyCache<K, V, P, W, S> {
    /// A cache of total weight `capacity`. It allocates as it fills.
    pub fn with_parts(capacity: u64, weigher: W, hasher: S) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Index::with_room_for(0),
            policy: P::new(capacity),
            weight: 0,
            capacity,
            weigher,
            hasher,
        }
    }

    fn entry(&self, slot: Slot) -> &Entry<K, V, W::Weight> {
        self.slots[slot as usize].as_ref().expect("the index and the policy name filled slots only")
    }

    fn find<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        K: Borrow<Q>,
    {
        self.index.find(hash, |slot| self.entry(slot).key.borrow() == key)
    }

    /// Empties a slot that the policy has forgotten already.
    fn vacate(&mut self, slot: Slot) -> (K, V) {
        let entry = self.slots[slot as usize].take().expect("a slot is vacated once");
        self.index.remove(self.hasher.hash_one(&entry.key), slot);
        self.free.push(slot);
        self.weight -= entry.weight.into();
        (entry.key, entry.value)
    }

    /// As [`Cache::insert_with`], for a caller who has hashed the key with this cache's hasher.
    pub(crate) fn insert_hashed(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        mut leave: impl FnMut(Departure<K, V>),
    ) {
        let weight = self.weigher.weigh(&key, &value);
        let heavy = weight.into();
        if let Some(slot) = self.find(hash, &key) {
            let entry = self.slots[slot as usize].as_mut().expect("the index names filled slots");
            if heavy == entry.weight.into() {
                let value = mem::replace(&mut entry.value, value);
                self.policy.hit(slot);
                return leave(Departure { key, value, cause: Cause::Replaced });
            }
            // Trade-off: a write that changes the weight is a removal and an insertion, so the
            // entry starts its career again. Policies stay free of a third way to change a queue.
            self.policy.remove(slot);
            let (key, value) = self.vacate(slot);
            leave(Departure { key, value, cause: Cause::Replaced });
        }
        if heavy > self.capacity {
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        self.policy.miss(hash);
        while self.weight + heavy > self.capacity {
            self.evict(&mut leave);
        }
        self.occupy(hash, Entry { key, value, weight });
    }

    fn evict(&mut self, leave: &mut impl FnMut(Departure<K, V>)) {
        let victim = self.policy.victim();
        let (key, value) = self.vacate(victim);
        leave(Departure { key, value, cause: Cause::Evicted });
    }

    fn occupy(&mut self, hash: u64, entry: Entry<K, V, W::Weight>) {
        if self.index.len() == self.index.room() {
            self.grow_index();
        }
        let weight = entry.weight.into();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as Slot - 1
        });
        if self.index.is_worn() {
            self.index.sweep(hashes(&self.slots, &self.hasher));
        }
        self.slots[slot as usize] = Some(entry);
        self.index.insert(hash, slot);
        self.policy.insert(slot, hash, weight);
        self.weight += weight;
    }

    #[cold]
    fn grow_index(&mut self) {
        self.index = Index::with_room_for(self.slots.len() * 2 + 1);
        self.index.sweep(hashes(&self.slots, &self.hasher));
    }
}

/// Every filled slot with the hash of its key.
fn hashes<K: Hash, V, W>(
    slots: &[Option<Entry<K, V, W>>],
    hasher: &impl BuildHasher,
) -> impl Iterator<Item = (Slot, u64)> {
    let filled = (0..).zip(slots).filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)));
    filled.map(|(slot, entry)| (slot, hasher.hash_one(&entry.key)))
}

impl<K: Hash + Eq, V, P, W: Weigher<K, V>, S: BuildHasher> PolicyCache<K, V, P, W, S>
where
    P: LazyPromotion,
{
    /// As [`Cache::get`], with shared access: what a reader does under a lock for reading.
    /// `hash` is the key's by this cache's hasher, which the caller has used to find the shard.
    #[inline]
    pub(crate) fn get_shared<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(hash, key)?;
        self.policy.hit_shared(slot);
        Some(&self.entry(slot).value)
    }
}

impl<K, V, P, W, S> Cache<K, V> for PolicyCache<K, V, P, W, S>
where
    K: Hash + Eq,
    P: Policy,
    W: Weigher<K, V>,
    S: BuildHasher,
{
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        self.policy.hit(slot);
        self.slots[slot as usize].as_mut().map(|entry| &mut entry.value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        Some(&self.entry(slot).value)
    }

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        self.slots[slot as usize].as_mut().map(|entry| &mut entry.value)
    }

    fn insert_with(&mut self, key: K, value: V, leave: impl FnMut(Departure<K, V>)) {
        self.insert_hashed(self.hasher.hash_one(&key), key, value, leave);
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(self.hasher.hash_one(key), key)?;
        self.policy.remove(slot);
        Some(self.vacate(slot))
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn weight(&self) -> u64 {
        self.weight
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn check(&self) -> Result<(), String> {
        let filled = self.slots.iter().flatten().count();
        if filled != self.index.len() || filled + self.free.len() != self.slots.len() {
            return Err(format!(
                "{filled} filled, {} free, {} in the index, {} slots",
                self.free.len(),
                self.index.len(),
                self.slots.len()
            ));
        }
        self.index.check(hashes(&self.slots, &self.hasher))?;
        let weight = self.slots.iter().flatten().map(|entry| entry.weight.into()).sum::<u64>();
        if weight != self.weight || weight > self.capacity {
            return Err(format!("weighs {weight}, says {} of {}", self.weight, self.capacity));
        }
        self.policy.check(filled)
    }
}
