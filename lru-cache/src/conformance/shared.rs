//! What many threads may rely on.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use testkit::{Broken, Promise, Seed, Verdict, ensure, promise};

use crate::shared::{Listener, SharedCache};

/// How the suite reaches the answer under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Cache: SharedCache<u64, u64> + 'static;

    /// A fresh cache of this many entries, in several shards, that tells `listener` what leaves.
    fn cache(&self, capacity: u64, listener: Listener<u64, u64>) -> Self::Cache;
}

/// The promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(F, the_total_capacity_is_exact, "Shards together hold what was asked for."),
        promise!(F, threads_read_their_own_keys, "No thread ever reads another key's value."),
        promise!(F, what_leaves_is_told_once, "With many threads, every entry is told of once."),
        promise!(F, a_listener_may_use_the_cache, "The listener runs outside every lock."),
    ]
}

const THREADS: u64 = 4;

fn insert<C: SharedCache<u64, u64>>(cache: &C, key: u64, value: u64) {
    cache.tell(cache.insert_quietly(key, value));
}

async fn the_total_capacity_is_exact<F: Fixture>(fixture: Arc<F>) -> Verdict {
    for capacity in [1, 7, 100, 1_000, 1_021] {
        let left = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&left);
        let cache = fixture.cache(
            capacity,
            Box::new(move |_| {
                counter.fetch_add(1, SeqCst);
            }),
        );
        let inserted = 50_000;
        (0..inserted).for_each(|key| insert(&cache, key, key));
        let inside = inserted - left.load(SeqCst);
        ensure!(inside == capacity, "asked for {capacity}, full with {inside}");
    }
    Ok(())
}

async fn threads_read_their_own_keys<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let cache = fixture.cache(500, Box::new(|_| {}));
    let wrong = AtomicU64::new(0);
    let seed = Seed::from_env_or_fresh();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cache, wrong, mut random) = (&cache, &wrong, seed.rng_for(thread));
            scope.spawn(move || {
                for number in 0..20_000 {
                    let key = random.u64(0..2_000);
                    match random.u8(0..10) {
                        0..6 => {
                            let foreign = cache.get(&key).is_some_and(|value| value % 2_000 != key);
                            wrong.fetch_add(u64::from(foreign), SeqCst);
                        }
                        6..9 => insert(cache, key, number * 2_000 + key),
                        _ => _ = cache.remove(&key),
                    }
                }
            });
        }
    });
    let wrong = wrong.load(SeqCst);
    ensure!(wrong == 0, "{wrong} reads returned a value of another key");
    Ok(())
}

async fn what_leaves_is_told_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let told: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
    let book = Arc::clone(&told);
    let cache = fixture.cache(
        300,
        Box::new(move |departure| {
            let mut book = book.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *book.entry(departure.value).or_default() += 1;
        }),
    );
    let each = 5_000;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let cache = &cache;
            scope.spawn(move || {
                for number in 0..each {
                    // Every value once, keys often.
                    insert(cache, number % 1_000, thread * each + number);
                }
            });
        }
    });
    let told = told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((value, times)) = told.iter().find(|&(_, &times)| times > 1) {
        return Err(Broken::because(format!("value {value} was told {times} times")));
    }
    let inside = (0..1_000).filter(|key| cache.get(key).is_some()).count() as u64;
    let (gone, all) = (told.len() as u64, THREADS * each);
    ensure!(gone + inside == all, "{all} went in, {gone} were told, {inside} are in");
    Ok(())
}

async fn a_listener_may_use_the_cache<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let itself: Arc<OnceLock<Arc<F::Cache>>> = Arc::default();
        let inside = Arc::clone(&itself);
        let cache = Arc::new(fixture.cache(
            4,
            Box::new(move |departure| {
                // Every key, so that the shard that was just written to is among them.
                let cache = inside.get().expect("set before the first insert");
                (0..64).for_each(|key| _ = cache.get(&key));
                if departure.key < 1_000 {
                    insert(&**cache, departure.key + 1_000, 0);
                }
            }),
        ));
        _ = itself.set(Arc::clone(&cache));
        (0..64).for_each(|key| insert(&*cache, key, key));
        _ = done.send(());
    });
    // Generous: it takes a millisecond, or for ever.
    let finished = finished.recv_timeout(Duration::from_secs(5));
    ensure!(finished.is_ok(), "a listener that reads and writes the cache never returned");
    Ok(())
}
