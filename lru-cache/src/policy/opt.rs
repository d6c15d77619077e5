//! OPT (Belady, 1966): out goes what is needed last. The bound for every policy, and no policy: it
//! reads the future.
//!
//! Offline, the whole request sequence is known. One pass backwards notes for every request when its
//! key is requested next; one pass forwards keeps the residents in a heap by that time and evicts the
//! farthest. O(n log n) time, O(n) memory.
//! With weights the exact optimum is as hard as knapsack; farthest-first is then only a good guess,
//! and the tables say so.

use std::{
    collections::{BinaryHeap, HashMap},
    hash::Hash,
};

use foldhash::fast::FixedState;

const NEVER: usize = usize::MAX;

/// How many of `requests`, pairs of key and weight, a cache of `capacity` can hit at best.
///
/// ```
/// use lru_cache::policy::opt;
///
/// // A loop of three keys over a cache of two: LRU hits nothing, OPT keeps two of the three.
/// let requests = [1, 2, 3, 1, 2, 3, 1, 2, 3].map(|key| (key, 1));
/// assert_eq!(opt::hits(&requests, 2), 4);
/// ```
pub fn hits<K: Hash + Eq>(requests: &[(K, u64)], capacity: u64) -> u64 {
    let next_use = next_uses(requests);
    // Per resident, which request refreshed it last (an older entry of the heap is a leftover) and
    // the weight it came in with, which a hit never changes.
    let mut resident: HashMap<&K, (usize, u64), FixedState> = HashMap::default();
    let mut farthest: BinaryHeap<(usize, usize)> = BinaryHeap::new();
    let (mut held, mut hits) = (0, 0);
    for (now, (key, weight)) in requests.iter().enumerate() {
        match resident.get_mut(key) {
            Some((refreshed, _)) => {
                *refreshed = now;
                hits += 1;
            }
            None if *weight > capacity => continue,
            None => {
                resident.insert(key, (now, *weight));
                held += weight;
            }
        }
        farthest.push((next_use[now], now));
        // The newcomer competes with the residents: one that is needed later than all of them is
        // not kept. (Forcing it in costs a few hits, and would no longer be the bound.)
        while held > capacity {
            let (_, at) = farthest.pop().expect("every resident is in the heap");
            let evicted = &requests[at].0;
            if resident.get(evicted).is_some_and(|&(refreshed, _)| refreshed == at) {
                held -= resident.remove(evicted).map_or(0, |(_, weight)| weight);
            }
        }
    }
    hits
}

/// For each request, the position of the next request for the same key.
fn next_uses<K: Hash + Eq>(requests: &[(K, u64)]) -> Vec<usize> {
    let mut next_use = vec![NEVER; requests.len()];
    let mut upcoming: HashMap<&K, usize, FixedState> = HashMap::default();
    for (now, (key, _)) in requests.iter().enumerate().rev() {
        if let Some(later) = upcoming.insert(key, now) {
            next_use[now] = later;
        }
    }
    next_use
}
