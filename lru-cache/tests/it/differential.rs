//! Operations on our LRUs and on the `lru` crate, with one result: a million of them, or as many as
//! `LRU_DIFFERENTIAL_OPERATIONS` says. A hundred million take some seconds once it is compiled:
//!
//! ```text
//! LRU_DIFFERENTIAL_OPERATIONS=100000000 cargo test --release -p lru-cache --test it differential
//! ```

use lru_cache::{Cache, LruCache, SmallestLru};
use testkit::Seed;

/// A scratch cache against the peer: same operation, same result, same order at the end.
fn agree_with_the_peer(mut ours: impl Cache<u64, u64>, operations: u64, keys: u64) {
    let mut random = Seed::from_env_or_fresh().rng();
    let capacity = usize::try_from(ours.capacity()).unwrap();
    let mut peer = lru::LruCache::new(capacity.try_into().unwrap());
    for number in 0..operations {
        let key = random.u64(0..keys) * random.u64(0..keys) / keys;
        match random.u8(0..100) {
            0..50 => assert_eq!(ours.get(&key), peer.get(&key), "get {key} at {number}"),
            50..90 => {
                let left = ours.insert(key, number).map(|left| (left.key, left.value));
                assert_eq!(left, peer.push(key, number), "insert {key} at {number}");
            }
            90..95 => assert_eq!(ours.peek(&key), peer.peek(&key), "peek {key} at {number}"),
            _ => assert_eq!(ours.remove(&key), peer.pop_entry(&key), "remove {key} at {number}"),
        }
        assert_eq!(ours.len(), peer.len());
    }
    ours.check().unwrap();
}

/// What the environment asks for, or a million.
fn operations() -> u64 {
    std::env::var("LRU_DIFFERENTIAL_OPERATIONS").map_or(1_000_000, |text| {
        text.parse().expect("LRU_DIFFERENTIAL_OPERATIONS is a number of operations")
    })
}

#[test]
fn a_million_operations_or_more_agree_with_the_lru_crate() {
    let operations = operations();
    agree_with_the_peer(LruCache::new(1_000), operations, 4_000);
    println!("{operations} operations agree");
}

#[test]
fn tiny_caches_agree_with_the_lru_crate() {
    for capacity in [1, 2, 3, 4, 5, 8, 16] {
        agree_with_the_peer(LruCache::new(capacity), 20_000, 24);
        agree_with_the_peer(SmallestLru::new(capacity), 20_000, 24);
    }
}

#[test]
fn the_order_agrees_with_the_lru_crate_and_survives_a_resize() {
    let mut random = Seed::from_env_or_fresh().rng();
    let mut ours = LruCache::new(500);
    let mut peer = lru::LruCache::new(500.try_into().unwrap());
    for capacity in [500usize, 100, 700, 1, 50] {
        let mut left = Vec::new();
        ours.resize(capacity as u64, |departure| left.push(departure.key));
        let mut expected = Vec::new();
        while peer.len() > capacity {
            expected.extend(peer.pop_lru().map(|(key, _)| key));
        }
        peer.resize(capacity.try_into().unwrap());
        assert_eq!(left, expected, "resized to {capacity}");
        for number in 0..5_000u64 {
            let key = random.u64(0..1_000);
            if ours.get(&key).copied() != peer.get(&key).copied() {
                panic!("get {key} at {number}");
            }
            ours.insert(key, number);
            peer.push(key, number);
        }
        let order: Vec<(u64, u64)> = ours.iter().map(|(&key, &value)| (key, value)).collect();
        let expected: Vec<(u64, u64)> = peer.iter().map(|(&key, &value)| (key, value)).collect();
        assert_eq!(order, expected, "order at capacity {capacity}");
        ours.check().unwrap();
    }
}
