//! Memory: nothing is allocated after construction, and the index never grows.
//!
//! A binary of its own with one test, because the allocator counts what all threads do.

use std::alloc::System;

use lru_cache::{Cache, LruCache};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and growths of allocations while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn a_full_cache_never_allocates_and_never_grows() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1, "the allocator counts");
    a_million_entries_take_36_bytes_each_through_ten_rounds_of_churn();
    removing_and_inserting_never_grows_the_table();
}

/// Ten turns of a full cache of a million entries, in which every insert evicts.
fn a_million_entries_take_36_bytes_each_through_ten_rounds_of_churn() {
    let capacity = 1_000_000u64;
    // The first cache of a process also allocates the hasher's seed: one byte, once.
    drop(LruCache::<u64, u64>::new(1));
    let region = Region::new(ALLOCATOR);
    let mut cache = LruCache::new(capacity as usize);
    let allocated = region.change().bytes_allocated;
    let bytes = cache.bytes();
    assert_eq!(allocated, bytes, "the cache says {bytes} bytes");
    assert!(bytes as u64 <= 36 * capacity, "{} bytes per entry", bytes as f64 / capacity as f64);
    let churn = allocations(|| (0..11 * capacity).for_each(|key| _ = cache.insert(key, key)));
    assert_eq!(
        (churn, cache.bytes()),
        (0, bytes),
        "(allocations, bytes) after ten rounds of churn"
    );
    cache.check().unwrap();
}

/// Removals and insertions in turn: what fills other tables with tombstones until they grow.
fn removing_and_inserting_never_grows_the_table() {
    for capacity in [100u64, 1_000, 50_000] {
        let mut cache = LruCache::new(capacity as usize);
        let churn = allocations(|| {
            for key in 0..20 * capacity {
                cache.insert(key, key);
                if key >= capacity / 2 {
                    cache.remove(&(key - capacity / 2));
                }
            }
        });
        assert_eq!(churn, 0, "allocations at capacity {capacity}");
        cache.check().unwrap();
    }
}
