//! What a `u64 -> u64` entry costs in memory: ours and the peers, filled to one million entries and
//! after ten rounds of churn, as asked of the allocator.
//!
//! `cargo bench -p bench-lru-cache --features peers --bench memory`

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Hasher = foldhash::fast::RandomState;
const ENTRIES: u64 = 1_000_000;
const ROUNDS: u64 = 10;

/// Live bytes since the region began.
fn live(region: &Region<'_, System>) -> f64 {
    let change = region.change();
    change.bytes_allocated as f64 - change.bytes_deallocated as f64
}

fn row<C>(name: &str, make: impl FnOnce() -> C, put: impl Fn(&mut C, u64)) {
    let region = Region::new(ALLOCATOR);
    let mut cache = make();
    (0..ENTRIES).for_each(|key| put(&mut cache, key));
    let filled = live(&region) / ENTRIES as f64;
    let made = region.change().allocations;
    (ENTRIES..(ROUNDS + 1) * ENTRIES).for_each(|key| put(&mut cache, key));
    let churned = live(&region) / ENTRIES as f64;
    let change = region.change();
    let during = change.allocations - made;
    println!("{name:<12} {filled:>8.1} {churned:>10.1} {during:>12}");
}

fn main() {
    println!("bytes per u64 -> u64 entry at one million, {ROUNDS} rounds of churn");
    println!("{:<12} {:>8} {:>10} {:>12}", "cache", "filled", "churned", "allocations");
    let entries = ENTRIES as usize;
    row(
        "LruCache",
        || lru_cache::LruCache::<u64, u64>::new(entries),
        |cache, key| _ = lru_cache::Cache::insert(cache, key, key),
    );
    row(
        "schnellru",
        || {
            let limit = schnellru::ByLength::new(ENTRIES as u32);
            schnellru::LruMap::<u64, u64, _, Hasher>::with_hasher(limit, Hasher::default())
        },
        |cache, key| _ = cache.insert(key, key),
    );
    row(
        "hashlink",
        || hashlink::LruCache::<u64, u64, Hasher>::with_hasher(entries, Hasher::default()),
        |cache, key| _ = cache.insert(key, key),
    );
    row(
        "lru",
        || {
            let capacity = entries.try_into().expect("not zero");
            lru::LruCache::<u64, u64, Hasher>::with_hasher(capacity, Hasher::default())
        },
        |cache, key| _ = cache.push(key, key),
    );
    row(
        "quick_cache",
        || quick_cache::sync::Cache::<u64, u64>::new(entries),
        |cache, key| cache.insert(key, key),
    );
    row(
        "moka",
        || moka::sync::Cache::<u64, u64>::new(ENTRIES),
        |cache, key| {
            cache.insert(key, key);
            // Otherwise it holds more entries than asked for.
            if key % 10_000 == 9_999 {
                cache.run_pending_tasks();
            }
        },
    );
}
