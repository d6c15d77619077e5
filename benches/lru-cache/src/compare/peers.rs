//! Other people's caches, all with our hasher unless the name says otherwise.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use quick_cache::{DefaultHashBuilder, UnitWeighter, sync::DefaultLifecycle};

use super::Exact;
use super::subjects::{SharedLoop, exact, own, share, shared};
use measure::{LoopSubject, Role};

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

own!([S: BuildHasher + Default] Lru<S>, push, |capacity| {
    let capacity = (capacity as usize).try_into().expect("a capacity above zero");
    lru::LruCache::with_hasher(capacity, S::default())
});
own!([S: BuildHasher + Default] Hashlink<S>, insert, |capacity| {
    hashlink::LruCache::with_hasher(capacity as usize, S::default())
});
own!([S: BuildHasher + Default] Schnellru<S>, insert, |capacity| {
    schnellru::LruMap::with_hasher(schnellru::ByLength::new(capacity as u32), S::default())
});

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

share!(
    [S: BuildHasher + Default + Clone + Send + Sync] QuickCache<S>,
    |capacity| {
        let (hasher, lifecycle) = (S::default(), DefaultLifecycle::default());
        quick_cache::sync::Cache::with(capacity as usize, capacity, UnitWeighter, hasher, lifecycle)
    },
    // It rounds its capacity up so that every shard has the same.
    |cache| (cache.len() as u64, cache.capacity())
);
share!(
    [S: BuildHasher + Default + Clone + Send + Sync + 'static] Moka<S>,
    |capacity| {
        moka::sync::Cache::builder().max_capacity(capacity).build_with_hasher(S::default())
    },
    |cache| {
        // It holds more than its capacity until its maintenance has run.
        cache.run_pending_tasks();
        (cache.entry_count(), cache.policy().max_capacity().unwrap_or(0))
    }
);
