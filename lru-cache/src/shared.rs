//! Many threads, one cache.
//!
//! A hit in an exact LRU reorders the list, so even reading needs the lock. Two answers:
//!
//! * [`Sharded`]: split the keys over independent caches, each behind its own mutex. Works with any
//!   [`Cache`], and gives up that the entry evicted is the oldest *of all*.
//! * [`ReadShared`]: use a policy whose hit sets a bit instead of moving an entry
//!   ([`LazyPromotion`]). Readers then share a read lock, and only writers exclude each other.
//!
//! What both promise beyond [`Cache`]:
//!
//! * the total capacity is exactly what was asked for: shards get `capacity / n` and the remainder
//!   is spread, never rounded up;
//! * user code never runs under a lock: what leaves is carried out of the critical section first, and
//!   dropped or handed to the listener then. So a listener, or the `Drop` of a value, may use the
//!   cache it came from. (Exceptions: `Hash` and `Eq` of keys, and `Clone` of values on a hit: make
//!   values cheap to clone, `Arc` for example. For weights see [`Weighed`].)
//!
//! Invariant: no function here calls `listener` or drops a `Departure` while a guard is alive.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
};

use crossbeam_utils::CachePadded;
use foldhash::fast::RandomState;

use crate::{
    cache::{AtLeastOne, Cache, Departure, UnitWeight, Weigher},
    policy::LazyPromotion,
    policy_cache::PolicyCache,
    sync::{Mutex, RwLock},
};

/// Below this many entries per shard, sharding visibly costs hit ratio: keys do not spread evenly,
/// so some shards evict while others have room, and no shard sees enough to tell hot from cold.
pub const SHARD_CAPACITY_MIN: u64 = 1024;

/// More shards than this buy nothing even on large machines and make `len` slow.
pub const SHARDS_MAX: usize = 256;

/// Is told about every entry that leaves, outside all locks.
pub type Listener<K, V> = Box<dyn Fn(&Departure<K, V>) + Send + Sync>;

/// How many shards to use for a capacity: four per core, as long as they stay large enough.
pub fn shards_for(capacity: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let by_capacity = (capacity / SHARD_CAPACITY_MIN).clamp(1, SHARDS_MAX as u64) as usize;
    (4 * cores).clamp(1, SHARDS_MAX).min(by_capacity)
}

/// Capacity of shard number `at` of `shards`: they add up to exactly `capacity`.
fn share_of(capacity: u64, shards: usize, at: usize) -> u64 {
    let shards = shards as u64;
    capacity / shards + u64::from((at as u64) < capacity % shards)
}

/// A value that was weighed before any lock was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed<V> {
    /// The value.
    pub value: V,
    /// What the caller's weigher said.
    pub weight: u32,
}

/// Weighs by the weight that was written down: the weigher for a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsWeighed;

impl<K, V> Weigher<K, Weighed<V>> for AsWeighed {
    type Weight = AtLeastOne;

    fn weigh(&self, _: &K, value: &Weighed<V>) -> AtLeastOne {
        AtLeastOne::new(value.weight)
    }
}

/// What a layer above needs of a cache that many threads share: to change it under a lock of its
/// own, and to run the listener after that lock.
pub trait SharedCache<K, V>: Send + Sync {
    /// A copy of the value under `key`, counted as a use.
    fn get(&self, key: &K) -> Option<V>;

    /// Puts an entry in, and returns what leaves. Nobody has been told yet.
    fn insert_quietly(&self, key: K, value: V) -> Leaving<K, V>;

    /// Takes an entry out.
    fn remove(&self, key: &K) -> Option<(K, V)>;

    /// Tells the listener what left, and drops it.
    fn tell(&self, leaving: Leaving<K, V>);
}

/// What leaves on an insert, carried out of the lock. One entry, the usual number, takes no heap.
#[derive(Debug)]
pub struct Leaving<K, V> {
    first: Option<Departure<K, V>>,
    more: Vec<Departure<K, V>>,
}

impl<K, V> Default for Leaving<K, V> {
    fn default() -> Self {
        Self { first: None, more: Vec::new() }
    }
}

impl<K, V> Leaving<K, V> {
    /// Adds one.
    pub fn push(&mut self, departure: Departure<K, V>) {
        if self.first.is_none() {
            self.first = Some(departure);
        } else {
            self.more.push(departure);
        }
    }

    /// All of them, in the order they left.
    pub fn into_iter_in_order(self) -> impl Iterator<Item = Departure<K, V>> {
        self.first.into_iter().chain(self.more)
    }
}

/// Any cache, many times, each behind a mutex.
///
/// ```
/// use lru_cache::{LruCache, Sharded};
///
/// let cache = Sharded::new(100_000, 16, |capacity| LruCache::<u64, u64>::new(capacity as usize));
/// std::thread::scope(|scope| {
///     for thread in 0..4 {
///         let cache = &cache;
///         scope.spawn(move || cache.insert(thread, thread * 10));
///     }
/// });
/// assert_eq!(cache.get(&3), Some(30));
/// ```
pub struct Sharded<K, V, C, S = RandomState> {
    shards: Box<[CachePadded<Mutex<C>>]>,
    hasher: S,
    listener: Option<Listener<K, V>>,
    entries: PhantomData<fn(K, V)>,
}

impl<K: Hash + Eq, V: Clone, C: Cache<K, V>> Sharded<K, V, C> {
    /// `shards` caches whose capacities add up to `capacity`, each made by `make`.
    pub fn new(capacity: u64, shards: usize, make: impl FnMut(u64) -> C) -> Self {
        Self::with_hasher(capacity, shards, RandomState::default(), make)
    }
}

impl<K: Hash + Eq, V: Clone, C: Cache<K, V>, S: BuildHasher> Sharded<K, V, C, S> {
    /// As [`new`](Sharded::new), with keys distributed over the shards by `hasher`.
    pub fn with_hasher(
        capacity: u64,
        shards: usize,
        hasher: S,
        mut make: impl FnMut(u64) -> C,
    ) -> Self {
        let shards = shards.clamp(1, SHARDS_MAX);
        let shard = |at| CachePadded::new(Mutex::new(make(share_of(capacity, shards, at))));
        Self {
            shards: (0..shards).map(shard).collect(),
            hasher,
            listener: None,
            entries: PhantomData,
        }
    }

    /// Has every departure told to `listener`, on the thread that caused it.
    #[must_use]
    pub fn with_listener(mut self, listener: Listener<K, V>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// A copy of the value under `key`, counted as a use.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.shard(key).lock().get(key).cloned()
    }

    /// Puts an entry in.
    pub fn insert(&self, key: K, value: V) {
        let shard = self.shard(&key);
        self.update(shard, |cache, leaving| {
            cache.insert_with(key, value, |departure| leaving.push(departure));
        });
    }

    /// Takes an entry out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.shard(key).lock().remove(key)
    }

    /// Runs `change` on the shard of `key`, under its lock, for operations that a particular cache
    /// has and the contract has not. What `change` pushes to `leaving` is told to the listener.
    ///
    /// Trap: `change` runs under the lock. Nothing of a caller belongs in there.
    pub fn with_shard<Q: Hash + ?Sized, R>(
        &self,
        key: &Q,
        change: impl FnOnce(&mut C, &mut Leaving<K, V>) -> R,
    ) -> R {
        self.update(self.shard(key), change)
    }

    /// Runs `change` on every shard, one after the other.
    pub fn with_each_shard(&self, mut change: impl FnMut(&mut C, &mut Leaving<K, V>)) {
        for shard in &self.shards {
            self.update(shard, &mut change);
        }
    }

    /// How many entries are in. Shards are asked one after the other: a number from a moment ago.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// True when nothing is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The total weight.
    pub fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().weight()).sum()
    }

    /// The total capacity, exactly as asked for.
    pub fn capacity(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().capacity()).sum()
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &Mutex<C> {
        &self.shards[pick(self.hasher.hash_one(key), self.shards.len())]
    }

    fn update<R>(
        &self,
        shard: &Mutex<C>,
        change: impl FnOnce(&mut C, &mut Leaving<K, V>) -> R,
    ) -> R {
        let mut leaving = Leaving::default();
        // The guard lives for this statement only; what leaves outlives it.
        let result = change(&mut shard.lock(), &mut leaving);
        tell(self.listener.as_ref(), leaving);
        result
    }
}

type ReadShard<K, V, P> = CachePadded<RwLock<PolicyCache<K, V, P>>>;

/// A cache whose readers do not exclude each other.
///
/// ```
/// use lru_cache::{ReadShared, policy::S3Fifo};
///
/// let cache = ReadShared::<u64, String, S3Fifo>::new(10_000);
/// cache.insert(1, "one".to_string());
/// assert_eq!(cache.get(&1).as_deref(), Some("one"));
/// ```
pub struct ReadShared<K, V, P> {
    shards: Box<[ReadShard<K, V, P>]>,
    hasher: RandomState,
    listener: Option<Listener<K, V>>,
}

impl<K: Hash + Eq, V: Clone, P: LazyPromotion> ReadShared<K, V, P> {
    /// A cache for `capacity` entries, in as many shards as suit it and the machine.
    pub fn new(capacity: u64) -> Self {
        Self::with_shards(capacity, shards_for(capacity))
    }

    /// A cache for `capacity` entries in `shards` shards.
    pub fn with_shards(capacity: u64, shards: usize) -> Self {
        let shards = shards.clamp(1, SHARDS_MAX);
        let hasher = RandomState::default();
        let shard = |at| {
            let capacity = share_of(capacity, shards, at);
            let cache = PolicyCache::with_parts(capacity, UnitWeight, hasher.clone());
            CachePadded::new(RwLock::new(cache))
        };
        Self { shards: (0..shards).map(shard).collect(), hasher, listener: None }
    }

    /// Has every departure told to `listener`, on the thread that caused it.
    #[must_use]
    pub fn with_listener(mut self, listener: Listener<K, V>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// A copy of the value under `key`, counted as a use. Writes at most one byte.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().get_shared(hash, key).cloned()
    }

    /// Puts an entry in.
    pub fn insert(&self, key: K, value: V) {
        let leaving = self.put(key, value);
        tell(self.listener.as_ref(), leaving);
    }

    /// Takes an entry out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.shard(self.hasher.hash_one(key)).write().remove(key)
    }

    /// How many entries are in. Shards are asked one after the other: a number from a moment ago.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// True when nothing is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The total capacity, exactly as asked for.
    pub fn capacity(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().capacity()).sum()
    }

    /// Walks every shard. For tests.
    ///
    /// # Errors
    /// The first broken invariant, in words.
    pub fn check(&self) -> Result<(), String> {
        self.shards.iter().try_for_each(|shard| shard.read().check())
    }

    /// The key is hashed once, for the shard and for the index in it.
    fn put(&self, key: K, value: V) -> Leaving<K, V> {
        let mut leaving = Leaving::default();
        let hash = self.hasher.hash_one(&key);
        let leave = |departure| leaving.push(departure);
        self.shard(hash).write().insert_hashed(hash, key, value, leave);
        leaving
    }

    fn shard(&self, hash: u64) -> &RwLock<PolicyCache<K, V, P>> {
        &self.shards[pick(hash, self.shards.len())]
    }
}

impl<K, V, C, S> SharedCache<K, V> for Sharded<K, V, C, S>
where
    K: Hash + Eq + Send,
    V: Clone + Send,
    C: Cache<K, V> + Send,
    S: BuildHasher + Send + Sync,
{
    fn get(&self, key: &K) -> Option<V> {
        self.get(key)
    }

    fn insert_quietly(&self, key: K, value: V) -> Leaving<K, V> {
        let mut leaving = Leaving::default();
        let shard = self.shard(&key);
        shard.lock().insert_with(key, value, |departure| leaving.push(departure));
        leaving
    }

    fn remove(&self, key: &K) -> Option<(K, V)> {
        self.remove(key)
    }

    fn tell(&self, leaving: Leaving<K, V>) {
        tell(self.listener.as_ref(), leaving);
    }
}

impl<K, V, P> SharedCache<K, V> for ReadShared<K, V, P>
where
    K: Hash + Eq + Send + Sync,
    V: Clone + Send + Sync,
    P: LazyPromotion + Send + Sync,
{
    fn get(&self, key: &K) -> Option<V> {
        self.get(key)
    }

    fn insert_quietly(&self, key: K, value: V) -> Leaving<K, V> {
        self.put(key, value)
    }

    fn remove(&self, key: &K) -> Option<(K, V)> {
        self.remove(key)
    }

    fn tell(&self, leaving: Leaving<K, V>) {
        tell(self.listener.as_ref(), leaving);
    }
}

/// The shard of a hash.
///
/// Trap: foldhash multiplies, so the hashes of keys in sequence lie at equal distances, and under an
/// unlucky seed the bits that choose a shard take few values: with 64 shards of 16 one seed in 25
/// left a fifth of the cache unused. Folding the halves together before another multiplication breaks
/// the pattern. The index inside goes by other bits, so the keys of one shard do not crowd there.
#[inline]
fn pick(hash: u64, shards: usize) -> usize {
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (((mixed >> 32) * shards as u64) >> 32) as usize
}

fn tell<K, V>(listener: Option<&Listener<K, V>>, leaving: Leaving<K, V>) {
    for departure in leaving.into_iter_in_order() {
        if let Some(listener) = listener {
            listener(&departure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::{SharedSeed, fast::SeedableRandomState};

    use super::pick;

    /// Chosen by bits of the hash alone, they do not.
    #[test]
    fn keys_in_sequence_spread_over_shards_under_every_seed() {
        const SHARDS: usize = 64;
        const EACH: usize = 64;
        for seed in 0..1_000 {
            let shared: &'static SharedSeed = Box::leak(Box::new(SharedSeed::from_u64(seed)));
            let hasher = SeedableRandomState::with_seed(seed, shared);
            let mut keys = [0; SHARDS];
            for key in 0..(SHARDS * EACH) as u64 {
                keys[pick(hasher.hash_one(key), SHARDS)] += 1;
            }
            let fullest = keys.iter().max().expect("there are shards");
            assert!(
                *fullest < 2 * EACH,
                "seed {seed}: a shard has {fullest} keys, {EACH} expected"
            );
        }
    }
}
