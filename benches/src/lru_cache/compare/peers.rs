//! Other people's caches, all with our hasher unless the name says otherwise.

use foldhash::fast::RandomState;
use quick_cache::{DefaultHashBuilder, UnitWeighter, sync::DefaultLifecycle};

use super::Exact;
use super::subjects::{Own, Share, SharedLoop, exact, shared, value_of};
use crate::{LoopSubject, Role};

/// What takes part, as pinned in the workspace's manifest.
pub(super) const VERSIONS: [(&str, &str); 5] = [
    ("lru", "0.19"),
    ("hashlink", "0.12"),
    ("schnellru", "0.2"),
    ("quick_cache", "0.7"),
    ("moka", "0.12"),
];

type Lru<S> = lru::LruCache<u64, u64, S>;
type Hashlink<S> = hashlink::LruCache<u64, u64, S>;
type Schnellru<S> = schnellru::LruMap<u64, u64, schnellru::ByLength, S>;

pub(super) const EXACT: [Exact; 3] = [
    |run| exact::<Lru<RandomState>>("lru", Role::Peer, run),
    |run| exact::<Hashlink<RandomState>>("hashlink", Role::Peer, run),
    |run| exact::<Schnellru<RandomState>>("schnellru", Role::Peer, run),
];

pub(super) const EXACT_DEFAULTS: [Exact; 3] = [
    |run| exact::<Lru<lru::DefaultHasher>>("lru", Role::Peer, run),
    |run| exact::<Hashlink<hashlink::DefaultHashBuilder>>("hashlink", Role::Peer, run),
    |run| exact::<Schnellru<schnellru::RandomState>>("schnellru", Role::Peer, run),
];

impl<S: std::hash::BuildHasher + Default> Own for Lru<S> {
    fn make(capacity: u64) -> Self {
        let capacity = (capacity as usize).try_into().expect("a capacity above zero");
        lru::LruCache::with_hasher(capacity, S::default())
    }

    #[inline]
    fn read(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn put(&mut self, key: u64) {
        std::hint::black_box(self.push(key, value_of(key)));
    }

    fn entries(&self) -> usize {
        self.len()
    }
}

impl<S: std::hash::BuildHasher + Default> Own for Hashlink<S> {
    fn make(capacity: u64) -> Self {
        hashlink::LruCache::with_hasher(capacity as usize, S::default())
    }

    #[inline]
    fn read(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn put(&mut self, key: u64) {
        std::hint::black_box(self.insert(key, value_of(key)));
    }

    fn entries(&self) -> usize {
        self.len()
    }
}

impl<S: std::hash::BuildHasher + Default> Own for Schnellru<S> {
    fn make(capacity: u64) -> Self {
        schnellru::LruMap::with_hasher(schnellru::ByLength::new(capacity as u32), S::default())
    }

    #[inline]
    fn read(&mut self, key: u64) -> Option<u64> {
        self.get(&key).copied()
    }

    #[inline]
    fn put(&mut self, key: u64) {
        std::hint::black_box(self.insert(key, value_of(key)));
    }

    fn entries(&self) -> usize {
        self.len()
    }
}

type QuickCache<S> = quick_cache::sync::Cache<u64, u64, UnitWeighter, S>;
type Moka<S> = moka::sync::Cache<u64, u64, S>;

/// The shared peers.
pub(super) fn shared_peers(run: &SharedLoop) -> Vec<LoopSubject> {
    vec![
        shared::<QuickCache<RandomState>>("quick_cache", Role::Peer, run.clone()),
        shared::<QuickCache<DefaultHashBuilder>>(
            "quick_cache, default hasher",
            Role::Peer,
            run.clone(),
        ),
        shared::<Moka<RandomState>>("moka", Role::Peer, run.clone()),
    ]
}

impl<S> Share for QuickCache<S>
where
    S: std::hash::BuildHasher + Default + Clone + Send + Sync,
{
    fn make(capacity: u64) -> Self {
        let (hasher, lifecycle) = (S::default(), DefaultLifecycle::default());
        quick_cache::sync::Cache::with(capacity as usize, capacity, UnitWeighter, hasher, lifecycle)
    }

    #[inline]
    fn read(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn put(&self, key: u64) {
        self.insert(key, value_of(key));
    }

    /// It rounds its capacity up so that every shard has the same.
    fn entries_of(&self) -> (u64, u64) {
        (self.len() as u64, self.capacity())
    }
}

impl<S> Share for Moka<S>
where
    S: std::hash::BuildHasher + Default + Clone + Send + Sync + 'static,
{
    fn make(capacity: u64) -> Self {
        moka::sync::Cache::builder().max_capacity(capacity).build_with_hasher(S::default())
    }

    #[inline]
    fn read(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn put(&self, key: u64) {
        self.insert(key, value_of(key));
    }

    /// It holds more than its capacity until its maintenance has run.
    fn entries_of(&self) -> (u64, u64) {
        self.run_pending_tasks();
        (self.entry_count(), self.policy().max_capacity().unwrap_or(0))
    }
}
