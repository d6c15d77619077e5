//! Each policy on a sequence small enough to follow with a pencil: what is requested, one letter
//! each, and who is evicted for it, in order.

use foldhash::fast::FixedState;
use lru_cache::{
    Cache, LruCache, PolicyCache, UnitWeight,
    policy::{Arc, Clock, Fifo, Lfu, Policy, S3Fifo, Sieve, Slru, WTinyLfu},
};

fn evicted(mut cache: impl Cache<char, ()>, requests: &str) -> String {
    let mut evicted = String::new();
    for key in requests.chars() {
        if cache.get(&key).is_none() {
            evicted.extend(cache.insert(key, ()).map(|departure| departure.key));
        }
        cache.check().unwrap();
    }
    evicted
}

#[track_caller]
fn check<P: Policy>(capacity: u64, requests: &str, expected: &str) {
    let hasher = FixedState::default();
    let cache = PolicyCache::<_, _, P, _, _>::with_parts(capacity, UnitWeight, hasher);
    assert_eq!(evicted(cache, requests), expected, "{} on {requests}", P::NAME);
}

#[test]
fn fifo_does_not_care_that_a_was_used() {
    check::<Fifo>(3, "abcad", "a");
}

#[test]
fn lru_spares_a_because_it_was_used() {
    assert_eq!(evicted(LruCache::new(3), "abcadae"), "bc");
}

/// `a` goes round once, at the price of its bit, and is the oldest again when `f` comes.
#[test]
fn clock_gives_a_second_chance_and_not_a_third() {
    check::<Clock>(3, "abcadef", "bca");
}

/// The same requests: `a` stays where it is, and the hand that has passed it goes on to `d`.
#[test]
fn sieve_keeps_the_survivor_and_moves_the_hand_on() {
    check::<Sieve>(3, "abcadef", "bcd");
}

/// The walk-through of figure 1 in the paper: queue A..G (oldest first), A, B and G visited.
/// H evicts C, because A and B lose their bits and keep their places; the hand goes on from D.
#[test]
fn sieve_does_figure_1() {
    let mut cache = PolicyCache::<char, (), Sieve>::new(7);
    for key in 'A'..='G' {
        cache.insert(key, ());
    }
    for key in ['A', 'B', 'G'] {
        cache.get(&key);
    }
    assert_eq!(cache.insert('H', ()).unwrap().key, 'C');
    assert_eq!(cache.get(&'A'), Some(&()));
    assert_eq!(cache.get(&'D'), Some(&()));
    assert_eq!(cache.insert('I', ()).unwrap().key, 'E', "the hand passes D, which was visited");
    assert_eq!(cache.insert('J', ()).unwrap().key, 'F');
    cache.insert('B', ());
    assert_eq!(cache.insert('K', ()).unwrap().key, 'H', "G loses its bit");
    cache.check().unwrap();
}

#[test]
fn lfu_evicts_the_least_used_and_the_oldest_of_those() {
    check::<Lfu>(3, "aabbcde", "cd");
    check::<Lfu>(3, "abcd", "a");
}

/// Two uses put `a` into the protected list; the scan passes through probation.
#[test]
fn slru_protects_what_was_used_twice_from_a_scan() {
    check::<Slru>(5, "aabcdefghijka", "bcdefg");
}

/// `a` is used twice in the small queue and moves on; `b` is not, leaves, and comes back while its
/// ghost is remembered: both sit in the main queue while the scan goes through the small one.
#[test]
fn s3fifo_lets_one_hit_wonders_through() {
    check::<S3Fifo>(10, "aaabcdefghijkblmnopqrstab", "bcdefghijkl");
}

/// Figure 4 of the paper by hand, with a capacity of two. `b` comes back from the recent ghosts, so
/// recency gets room and `a` leaves; `a` comes back from the frequent ones, so it loses it again.
#[test]
fn arc_follows_its_ghosts() {
    check::<Arc>(2, "abacba", "bac");
}

/// Ten keys are used twice each. A scan of new keys finds every victim more popular than itself.
#[test]
fn wtinylfu_does_not_admit_a_scan() {
    check::<WTinyLfu>(10, "aabbccddeeffgghhiijjklmabcdefghi", "jkl");
}
