//! The contract as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by.
//!
//! Three lists. [`promises`] holds for every [`Cache`], whatever its policy; [`lru_promises`] adds what
//! makes it an exact LRU; [`shared`] has what many threads may rely on, [`expiry`] and [`loading`]
//! the rest.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::Arc,
};

use testkit::{Promise, Seed, Verdict, conformance::Broken, ensure, promise, shrink};

use crate::cache::{Cache, Cause, Departure};

pub mod expiry;
pub mod loading;
pub mod shared;

/// How the suite reaches the answer under test: keys and values are numbers.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Cache: Cache<u64, u64>;

    /// A fresh cache of this capacity, whose entries weigh what [`Fixture::weight_of`] says.
    fn cache(&self, capacity: u64) -> Self::Cache;

    /// What an entry with this value weighs.
    fn weight_of(&self, value: u64) -> u64 {
        let _ = value;
        1
    }
}

/// What every cache promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(F, what_was_just_put_in_is_in, "An entry that fits can be read right after."),
        promise!(
            F,
            reads_what_was_last_written,
            "A read finds the last value written, or nothing."
        ),
        promise!(F, never_exceeds_its_capacity, "The total weight never exceeds the capacity."),
        promise!(
            F,
            holds_exactly_its_capacity,
            "It holds as many entries as asked for, not fewer."
        ),
        promise!(F, evicts_no_more_than_it_must, "Nothing leaves while there is room."),
        promise!(
            F,
            every_entry_leaves_exactly_once,
            "What goes in stays in or is handed out once."
        ),
        promise!(F, replacing_hands_out_the_old_value, "A second write hands out the first value."),
        promise!(F, a_removed_key_is_gone, "A removed entry is handed to the caller, and gone."),
        promise!(F, too_heavy_takes_the_old_value_along, "A refused write leaves no stale value."),
        promise!(F, peeking_changes_nothing, "Peeks do not influence what is evicted."),
        promise!(F, the_structure_is_whole, "After every operation all invariants hold."),
    ]
}

/// What an exact LRU promises beyond that.
pub fn lru_promises<F: Fixture>() -> Vec<Promise<F>> {
    let mut all = promises();
    all.extend([
        promise!(F, evicts_the_least_recently_used, "The victim was not used for longest."),
        promise!(F, a_hit_renews, "A key that is read is safe until all others were used."),
        promise!(F, a_write_renews, "So is one that is written again."),
        promise!(F, a_peek_does_not_renew, "One that is peeked at is not."),
        promise!(
            F,
            behaves_like_the_model,
            "Every result equals a list's that is searched in full."
        ),
    ]);
    all
}

fn broken(what: impl std::fmt::Display, history: &[String]) -> Broken {
    let recent = history.iter().skip(history.len().saturating_sub(30)).cloned();
    Broken::because(what.to_string()).with_history(recent)
}

/// Puts an entry in and collects what leaves.
fn put<C: Cache<u64, u64>>(cache: &mut C, key: u64, value: u64) -> Vec<Departure<u64, u64>> {
    let mut left = Vec::new();
    cache.insert_with(key, value, |departure| left.push(departure));
    left
}

/// Random operations on a small key space, so that everything collides with everything.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Get(u64),
    Put(u64, u64),
    Remove(u64),
}

fn operations(part: u64, count: u64) -> impl Iterator<Item = Operation> {
    let mut random = Seed::from_env_or_fresh().rng_for(part);
    (0..count).map(move |number| {
        // The square of a random number prefers small keys: some are popular.
        let key = random.u64(0..40) * random.u64(0..40) / 20;
        match random.u8(0..10) {
            0..5 => Operation::Get(key),
            5..9 => Operation::Put(key, number),
            _ => Operation::Remove(key),
        }
    })
}

async fn what_was_just_put_in_is_in<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = fixture.cache(50);
    for key in 0..200 {
        put(&mut cache, key, key);
        let read = cache.peek(&key).copied();
        ensure!(read == Some(key), "key {key} was just put in and reads {read:?}");
    }
    Ok(())
}

async fn reads_what_was_last_written<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = fixture.cache(30);
    let mut written = HashMap::new();
    for operation in operations(1, 5_000) {
        match operation {
            Operation::Get(key) => {
                let read = cache.get(&key).copied();
                let last = written.get(&key).copied();
                ensure!(
                    read.is_none() || read == last,
                    "key {key} reads {read:?}, last written was {last:?}"
                );
            }
            Operation::Put(key, value) => {
                put(&mut cache, key, value);
                written.insert(key, value);
            }
            Operation::Remove(key) => {
                cache.remove(&key);
                written.remove(&key);
            }
        }
    }
    Ok(())
}

async fn never_exceeds_its_capacity<F: Fixture>(fixture: Arc<F>) -> Verdict {
    for capacity in [0, 1, 2, 3, 7, 30, 100] {
        let mut cache = fixture.cache(capacity);
        ensure!(cache.capacity() == capacity, "asked for {capacity}, has {}", cache.capacity());
        let mut values = HashMap::new();
        for operation in operations(2, 2_000) {
            match operation {
                Operation::Get(key) => _ = cache.get(&key),
                Operation::Put(key, value) => {
                    values.insert(key, value);
                    put(&mut cache, key, value);
                }
                Operation::Remove(key) => _ = cache.remove(&key),
            }
            // Weighed from outside: a cache that miscounts believes itself.
            let held: Vec<u64> = values.keys().filter_map(|key| cache.peek(key).copied()).collect();
            let weight: u64 = held.iter().map(|&value| fixture.weight_of(value)).sum();
            ensure!(weight <= capacity, "holds a weight of {weight} of {capacity}");
            ensure!(weight == cache.weight(), "holds {weight}, says {}", cache.weight());
            ensure!(
                held.len() == cache.len(),
                "holds {} entries, says {}",
                held.len(),
                cache.len()
            );
        }
    }
    Ok(())
}

async fn holds_exactly_its_capacity<F: Fixture>(fixture: Arc<F>) -> Verdict {
    for capacity in [1, 2, 3, 5, 17, 64, 100, 1_000, 1_023] {
        let mut cache = fixture.cache(capacity);
        let mut weight = 0;
        for key in 0.. {
            weight += fixture.weight_of(key);
            if weight > capacity {
                break;
            }
            let left = put(&mut cache, key, key);
            ensure!(left.is_empty(), "{left:?} left for entry {key}, with room up to {capacity}");
        }
    }
    Ok(())
}

async fn evicts_no_more_than_it_must<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let capacity = 30;
    let mut cache = fixture.cache(capacity);
    for operation in operations(3, 5_000) {
        let Operation::Put(key, value) = operation else {
            if let Operation::Get(key) = operation {
                cache.get(&key);
            }
            continue;
        };
        let mut before = cache.weight();
        let replaced = cache.peek(&key).map_or(0, |&old| fixture.weight_of(old));
        before -= replaced;
        let mut needed = (before + fixture.weight_of(value)).saturating_sub(capacity);
        for departure in put(&mut cache, key, value) {
            if departure.cause == Cause::Evicted {
                ensure!(needed > 0, "{departure:?} was evicted for ({key}, {value}) without need");
                needed = needed.saturating_sub(fixture.weight_of(departure.value));
            }
        }
    }
    Ok(())
}

async fn every_entry_leaves_exactly_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = fixture.cache(25);
    let (mut inside, mut outside) = (HashMap::new(), HashSet::new());
    for operation in operations(4, 5_000) {
        let mut left = Vec::new();
        match operation {
            Operation::Get(key) => _ = cache.get(&key),
            Operation::Put(key, value) => {
                inside.insert(value, key);
                left = put(&mut cache, key, value);
            }
            Operation::Remove(key) => {
                let removed = cache.remove(&key);
                left.extend(removed.map(|(key, value)| Departure {
                    key,
                    value,
                    cause: Cause::Removed,
                }));
            }
        }
        for Departure { key, value, .. } in left {
            ensure!(outside.insert(value), "value {value} left twice");
            let stored = inside.remove(&value);
            ensure!(stored == Some(key), "value {value} left under key {key}, not {stored:?}");
        }
    }
    ensure!(inside.len() == cache.len(), "{} unaccounted for", inside.len().abs_diff(cache.len()));
    for (value, key) in inside {
        let read = cache.peek(&key).copied();
        ensure!(read == Some(value), "({key}, {value}) neither left nor is in: {read:?}");
    }
    Ok(())
}

async fn replacing_hands_out_the_old_value<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = fixture.cache(100);
    put(&mut cache, 1, 10);
    let left = put(&mut cache, 1, 11);
    let expected = [Departure { key: 1, value: 10, cause: Cause::Replaced }];
    ensure!(left == expected, "the second write handed out {left:?}");
    ensure!(cache.len() == 1, "one key was written twice, {} entries", cache.len());
    ensure!(cache.get(&1) == Some(&11), "the second value is not there");
    Ok(())
}

async fn a_removed_key_is_gone<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = fixture.cache(1_000);
    for key in 0..50 {
        put(&mut cache, key, key + 100);
    }
    for key in (0..50).step_by(3) {
        let removed = cache.remove(&key);
        ensure!(removed == Some((key, key + 100)), "removing {key} handed out {removed:?}");
        ensure!(cache.get(&key).is_none(), "key {key} was removed and is still there");
        ensure!(cache.remove(&key).is_none(), "key {key} was removed twice");
    }
    for key in 0..50 {
        let expected = (key % 3 != 0).then_some(key + 100);
        ensure!(cache.peek(&key).copied() == expected, "removing others changed key {key}");
    }
    Ok(())
}

async fn too_heavy_takes_the_old_value_along<F: Fixture>(fixture: Arc<F>) -> Verdict {
    // The heaviest value of a few, in a cache that is one too small for it.
    let heavy = (0..100).max_by_key(|&value| fixture.weight_of(value)).unwrap_or(0);
    let light = (0..100).min_by_key(|&value| fixture.weight_of(value)).unwrap_or(0);
    let mut cache = fixture.cache(fixture.weight_of(heavy) - 1);
    put(&mut cache, 1, light);
    let left = put(&mut cache, 1, heavy);
    let refused = Departure { key: 1, value: heavy, cause: Cause::TooHeavy };
    ensure!(left.contains(&refused), "an entry heavier than the cache was not refused: {left:?}");
    let read = cache.get(&1).copied();
    ensure!(read.is_none(), "after a refused write the key reads {read:?}");
    Ok(())
}

async fn peeking_changes_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (mut watched, mut alone) = (fixture.cache(20), fixture.cache(20));
    let mut history = Vec::new();
    for operation in operations(5, 3_000) {
        for key in 0..10 {
            watched.peek(&key);
        }
        history.push(format!("{operation:?}"));
        let same = match operation {
            Operation::Get(key) => watched.get(&key) == alone.get(&key),
            Operation::Put(key, value) => {
                put(&mut watched, key, value) == put(&mut alone, key, value)
            }
            Operation::Remove(key) => watched.remove(&key) == alone.remove(&key),
        };
        if !same {
            return Err(broken("a cache that is peeked at evicts something else", &history));
        }
    }
    Ok(())
}

async fn the_structure_is_whole<F: Fixture>(fixture: Arc<F>) -> Verdict {
    for capacity in [1, 2, 3, 10, 40] {
        let mut cache = fixture.cache(capacity);
        let mut history = Vec::new();
        for operation in operations(6, 2_000) {
            history.push(format!("{operation:?}"));
            match operation {
                Operation::Get(key) => _ = cache.get(&key),
                Operation::Put(key, value) => _ = put(&mut cache, key, value),
                Operation::Remove(key) => _ = cache.remove(&key),
            }
            cache.check().map_err(|what| broken(what, &history))?;
        }
    }
    Ok(())
}

/// A cache with room for exactly keys 0 to 3, which are in, oldest first.
fn of_four<F: Fixture>(fixture: &F) -> F::Cache {
    let room = (0..4).map(|key| fixture.weight_of(key)).sum();
    let mut cache = fixture.cache(room);
    (0..4).for_each(|key| _ = put(&mut cache, key, key));
    cache
}

fn first_victim<F: Fixture>(fixture: &F, mut cache: F::Cache) -> Option<u64> {
    // A value that weighs as little as any, so that it need not throw out two.
    let light = (0..100).min_by_key(|&value| fixture.weight_of(value)).unwrap_or(0);
    put(&mut cache, 1_000, light).first().map(|departure| departure.key)
}

async fn evicts_the_least_recently_used<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let victim = first_victim(&*fixture, of_four(&*fixture));
    ensure!(victim == Some(0), "of 0, 1, 2, 3, put in this order, {victim:?} was evicted");
    Ok(())
}

async fn a_hit_renews<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = of_four(&*fixture);
    cache.get(&0);
    let victim = first_victim(&*fixture, cache);
    ensure!(victim == Some(1), "0 was read, then {victim:?} was evicted instead of 1");
    Ok(())
}

async fn a_write_renews<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut cache = of_four(&*fixture);
    put(&mut cache, 0, 0);
    let victim = first_victim(&*fixture, cache);
    ensure!(victim == Some(1), "0 was written again, then {victim:?} was evicted instead of 1");
    Ok(())
}

async fn a_peek_does_not_renew<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let cache = of_four(&*fixture);
    cache.peek(&0);
    let victim = first_victim(&*fixture, cache);
    ensure!(victim == Some(0), "0 was only peeked at, then {victim:?} was evicted instead of it");
    Ok(())
}

async fn behaves_like_the_model<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let history: Vec<_> = operations(7, 10_000).collect();
    let Err((at, what)) = agrees_with_a_list(&*fixture, &history) else { return Ok(()) };
    let differs = |steps: Vec<Operation>| ready(agrees_with_a_list(&*fixture, &steps).is_err());
    let short = shrink::shortest(history[..=at].to_vec(), differs).await;
    let what = agrees_with_a_list(&*fixture, &short).err().map_or(what, |(_, what)| what);
    let told: Vec<_> = short.iter().map(|operation| format!("{operation:?}")).collect();
    Err(broken(what, &told))
}

/// Plays a history against a fresh cache and a list with the oldest first, searched from the front:
/// too simple to be wrong.
///
/// # Errors
/// The first operation after which the two differ, and how.
fn agrees_with_a_list<F: Fixture>(
    fixture: &F,
    history: &[Operation],
) -> Result<(), (usize, String)> {
    let capacity = 30;
    let mut cache = fixture.cache(capacity);
    let mut model: Vec<(u64, u64)> = Vec::new();
    for (at, &operation) in history.iter().enumerate() {
        let (key, written) = match operation {
            Operation::Get(key) | Operation::Remove(key) => (key, None),
            Operation::Put(key, value) => (key, Some(value)),
        };
        let found = model.iter().position(|&(held, _)| held == key).map(|at| model.remove(at));
        let mut expected: Vec<u64> = found.iter().map(|&(_, value)| value).collect();
        let got: Vec<u64> = match operation {
            Operation::Get(key) => cache.get(&key).copied().into_iter().collect(),
            Operation::Remove(key) => {
                cache.remove(&key).map(|(_, value)| value).into_iter().collect()
            }
            Operation::Put(key, value) => {
                put(&mut cache, key, value).iter().map(|departure| departure.value).collect()
            }
        };
        if !matches!(operation, Operation::Remove(_)) {
            model.extend(written.map(|value| (key, value)).or(found));
        }
        while model.iter().map(|&(_, value)| fixture.weight_of(value)).sum::<u64>() > capacity {
            expected.push(model.remove(0).1);
        }
        if got != expected {
            return Err((at, format!("{operation:?} hands out {got:?}, the model {expected:?}")));
        }
    }
    Ok(())
}
