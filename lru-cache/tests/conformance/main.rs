//! Every answer against every promise, and every wrong cache against the promise that catches it.

use std::{marker::PhantomData, process::ExitCode};

use foldhash::fast::FixedState;
use lru_cache::{
    Expiring, Lifetime, Loading, LruCache, OnError, PolicyCache, ReadShared, Sharded, SmallestLru,
    UnitWeight, WeighBy,
    clock::ManualClock,
    conformance::{self, Fixture, expiry, loading, shared},
    expiry::Timed,
    policy::{Arc, Clock, Fifo, LazyPromotion, Lfu, Policy, S3Fifo, Sieve, Slru, WTinyLfu},
    shared::Listener,
};
use testkit::Suite;

mod wrong;

/// Weighs 1 to 7, by the value.
pub(crate) fn weight_of(value: u64) -> u64 {
    value % 7 + 1
}

pub(crate) type ByValue = WeighBy<fn(&u64, &u64) -> u32>;

pub(crate) fn by_value() -> ByValue {
    WeighBy(|_, value| weight_of(*value) as u32)
}

struct Smallest;

impl Fixture for Smallest {
    type Cache = SmallestLru<u64, u64>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        SmallestLru::new(capacity as usize)
    }
}

struct Lru;

impl Fixture for Lru {
    type Cache = LruCache<u64, u64>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        LruCache::new(capacity as usize)
    }
}

struct LruByWeight;

impl Fixture for LruByWeight {
    type Cache = LruCache<u64, u64, ByValue>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        LruCache::weighted(capacity, by_value())
    }

    fn weight_of(&self, value: u64) -> u64 {
        weight_of(value)
    }
}

struct Of<P>(PhantomData<fn() -> P>);

impl<P: Policy + 'static> Fixture for Of<P> {
    type Cache = PolicyCache<u64, u64, P, UnitWeight, FixedState>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        PolicyCache::with_parts(capacity, UnitWeight, FixedState::default())
    }
}

struct OfByWeight<P>(PhantomData<fn() -> P>);

impl<P: Policy + 'static> Fixture for OfByWeight<P> {
    type Cache = PolicyCache<u64, u64, P, ByValue, FixedState>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        PolicyCache::with_parts(capacity, by_value(), FixedState::default())
    }

    fn weight_of(&self, value: u64) -> u64 {
        weight_of(value)
    }
}

/// A cache without lifetimes must be what it wraps.
struct ExpiringLru;

impl Fixture for ExpiringLru {
    type Cache = Expiring<u64, LruCache<u64, Timed<u64>>, ManualClock>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        expiry::Fixture::cache(self, capacity, Lifetime::default(), ManualClock::default())
    }
}

impl expiry::Fixture for ExpiringLru {
    type Cache = Expiring<u64, LruCache<u64, Timed<u64>>, ManualClock>;

    fn cache(&self, capacity: u64, lifetime: Lifetime, clock: ManualClock) -> Self::Cache {
        Expiring::new(LruCache::new(capacity as usize), lifetime, clock)
    }

    fn insert_for(&self, cache: &mut Self::Cache, key: u64, value: u64, lifetime_ms: Option<u64>) {
        cache.insert_for(key, value, lifetime_ms, |_| {});
    }
}

struct ExpiringSieve;

impl expiry::Fixture for ExpiringSieve {
    type Cache = Expiring<u64, PolicyCache<u64, Timed<u64>, Sieve>, ManualClock>;

    fn cache(&self, capacity: u64, lifetime: Lifetime, clock: ManualClock) -> Self::Cache {
        Expiring::new(PolicyCache::new(capacity as usize), lifetime, clock)
    }

    fn insert_for(&self, cache: &mut Self::Cache, key: u64, value: u64, lifetime_ms: Option<u64>) {
        cache.insert_for(key, value, lifetime_ms, |_| {});
    }
}

/// Small shards on purpose: uneven shares are where capacities go wrong.
const SHARDS: usize = 3;

fn sharded(capacity: u64) -> Sharded<u64, u64, LruCache<u64, u64>> {
    Sharded::new(capacity, SHARDS, |capacity| LruCache::new(capacity as usize))
}

struct ShardedLru;

impl shared::Fixture for ShardedLru {
    type Cache = Sharded<u64, u64, LruCache<u64, u64>>;

    fn cache(&self, capacity: u64, listener: Listener<u64, u64>) -> Self::Cache {
        sharded(capacity).with_listener(listener)
    }
}

impl loading::Fixture for ShardedLru {
    type Subject = Loading<u64, u64, String, Sharded<u64, u64, LruCache<u64, u64>>>;

    fn subject(&self, on_error: OnError) -> Self::Subject {
        Loading::new(sharded(100)).on_error(on_error)
    }
}

struct ReadSharedOf<P>(PhantomData<fn() -> P>);

impl<P: LazyPromotion + Send + Sync + 'static> shared::Fixture for ReadSharedOf<P> {
    type Cache = ReadShared<u64, u64, P>;

    fn cache(&self, capacity: u64, listener: Listener<u64, u64>) -> Self::Cache {
        ReadShared::with_shards(capacity, SHARDS).with_listener(listener)
    }
}

impl<P: LazyPromotion + Send + Sync + 'static> loading::Fixture for ReadSharedOf<P> {
    type Subject = Loading<u64, u64, String, ReadShared<u64, u64, P>>;

    fn subject(&self, on_error: OnError) -> Self::Subject {
        Loading::new(ReadShared::with_shards(100, SHARDS)).on_error(on_error)
    }
}

fn policy<P: Policy + 'static>(suite: &mut Suite) {
    suite.answer(P::NAME, conformance::promises, || async { Of::<P>(PhantomData) });
    let weighted = format!("{}_weighted", P::NAME);
    suite.answer(&weighted, conformance::promises, || async { OfByWeight::<P>(PhantomData) });
}

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("smallest", conformance::lru_promises, || async { Smallest });
    suite.answer("lru", conformance::lru_promises, || async { Lru });
    suite.answer("lru_weighted", conformance::lru_promises, || async { LruByWeight });
    policy::<Fifo>(&mut suite);
    policy::<Clock>(&mut suite);
    policy::<Lfu>(&mut suite);
    policy::<Sieve>(&mut suite);
    policy::<S3Fifo>(&mut suite);
    policy::<Slru>(&mut suite);
    policy::<Arc>(&mut suite);
    policy::<WTinyLfu>(&mut suite);
    suite.answer("expiring_without_lifetime", conformance::lru_promises, || async { ExpiringLru });
    suite.answer("expiring_lru", expiry::promises, || async { ExpiringLru });
    suite.answer("expiring_sieve", expiry::promises, || async { ExpiringSieve });
    suite.answer("sharded_lru", shared::promises, || async { ShardedLru });
    suite.answer("read_shared_s3fifo", shared::promises, || async {
        ReadSharedOf::<S3Fifo>(PhantomData)
    });
    suite.answer("read_shared_clock", shared::promises, || async {
        ReadSharedOf::<Clock>(PhantomData)
    });
    suite.answer("loading_sharded_lru", loading::promises, || async { ShardedLru });
    suite.answer("loading_read_shared_sieve", loading::promises, || async {
        ReadSharedOf::<Sieve>(PhantomData)
    });
    wrong::add_to(&mut suite);
    suite.run()
}
