//! The exact LRU beside `lru`, `hashlink` and `schnellru`, and the shared caches beside
//! `quick_cache` and `moka`.
//!
//! Keys are drawn afresh between the measured slices and never replayed: a finite stream that is
//! replayed is a loop, and a loop decides by itself which cache looks good. Every exact LRU gets the
//! same keys in the same number of slices, so all of them must count the same hits, to the last one.

mod goals;
#[cfg(feature = "peers")]
mod peers;
#[cfg(not(feature = "peers"))]
#[path = "compare/no_peers.rs"]
mod peers;
mod subjects;

use std::sync::{Arc, OnceLock};

use lru_cache::policy::{Clock, S3Fifo};
use lru_cache::{Cache, LruCache, ReadShared, Sharded, SmallestLru};

use self::subjects::{Made, Own, SharedLoop, SingleLoop, Yours, exact, made_by, shared};
use measure::harness::{Keys, Saturation};
use measure::{Bench, Comparison, LoopSubject, Role, SCENARIO, Scenario, YOURS};

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "the exact LRU beside three others, and the shared caches beside two, with what \
                 they cost in memory";
    Comparison { system: "lru-cache", about, run: |bench| Box::pin(compare(bench)) }
}

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    for (name, version) in peers::VERSIONS {
        bench.version(name, version);
    }
    one_thread(&bench).await?;
    many_threads(&bench).await?;
    memory_of_ours();
    goals::print(&bench);
    Ok(())
}

// ---- one thread

/// An exact LRU by name, made for this run.
type Exact = fn(SingleLoop) -> LoopSubject;

fn exact_lrus() -> Vec<Exact> {
    let ours: Exact = |run| exact::<LruCache<u64, u64>>("LruCache", Role::Answer, run);
    [ours].into_iter().chain(peers::EXACT).collect()
}

fn with_their_defaults() -> Vec<Exact> {
    let ours: Exact = |run| exact::<LruCache<u64, u64>>("LruCache", Role::Answer, run);
    let smallest: Exact = |run| exact::<SmallestLru<u64, u64>>("SmallestLru", Role::Answer, run);
    [ours, smallest].into_iter().chain(peers::EXACT_DEFAULTS).collect()
}

async fn one_thread(bench: &Bench) -> anyhow::Result<()> {
    let hits = |entries: u64| SingleLoop::new(entries, Keys::uniform(entries), 1 << 14);
    let zipf =
        |capacity: u64, keys: u64, calls| SingleLoop::new(capacity, Keys::zipf(keys, 0.9), calls);
    let scenarios = [
        ("hit-4k", "every get a hit", exact_lrus(), hits(4_096)),
        ("hit-64k", "every get a hit", exact_lrus(), hits(65_536)),
        ("hit-1m", "every get a hit", exact_lrus(), hits(1_000_000)),
        ("zipf-4k", "get, insert on a miss", exact_lrus(), zipf(4_096, 65_536, 1 << 14)),
        ("zipf-1m", "get, insert on a miss", exact_lrus(), zipf(1_000_000, 10_000_000, 1 << 16)),
        (
            "defaults-4k",
            "the same with default hashers",
            with_their_defaults(),
            zipf(4_096, 65_536, 1 << 14),
        ),
    ];
    for (name, what, lrus, run) in scenarios {
        let about = format!(
            "{what}; one thread, u64 keys and values, capacity {}, {}",
            run.capacity,
            run.keys.describe()
        );
        // Thirty turnovers warm the large cache for nothing: its rounds are few and long.
        let rounds = (run.capacity > 100_000).then(|| bench.pick(2, 6, 12));
        let scenario = Scenario { rounds, ..Scenario::new(name, about, "LruCache") };
        let load = Saturation { slices: bench.pick(9, 41, 101), ..Saturation::default() };
        let described =
            format!("one thread, median of {} slices of {} calls", load.slices, run.calls);
        let run = SingleLoop { seed: bench.seed(), expected: Arc::default(), ..run };
        let subjects = lrus.into_iter().map(|lru| lru(run.clone())).collect();
        bench.in_process_for(scenario, described, load, subjects).await?;
    }
    Ok(())
}

/// A reader's exact LRU beside two of ours.
pub(super) async fn beside_ours<C: Cache<u64, u64> + 'static>(
    bench: Bench,
    make: fn(u64) -> C,
) -> anyhow::Result<()> {
    let run = SingleLoop::new(4_096, Keys::zipf(65_536, 0.9), 1 << 14);
    let run = SingleLoop { seed: bench.seed(), ..run };
    let about = format!(
        "get, insert on a miss; one thread, u64 keys and values, capacity {}, {}",
        run.capacity,
        run.keys.describe()
    );
    let load = Saturation { slices: 15, ..Saturation::default() };
    let described = format!("one thread, median of {} slices of {} calls", load.slices, run.calls);
    let subjects = vec![
        exact::<SmallestLru<u64, u64>>("SmallestLru", Role::Answer, run.clone()),
        exact::<LruCache<u64, u64>>("LruCache", Role::Answer, run.clone()),
        made_by(YOURS, Role::Answer, run, move |capacity| Yours(make(capacity))),
    ];
    let scenario = Scenario::new(SCENARIO, about, "SmallestLru");
    bench.in_process_for(scenario, described, load, subjects).await
}

// ---- many threads

const SHARED_CAPACITY: u64 = 100_000;
const SHARED_KEYS: u64 = 1_000_000;

fn shared_caches(run: &SharedLoop) -> Vec<LoopSubject> {
    let mut subjects = vec![
        shared::<ReadShared<u64, u64, S3Fifo>>("ReadShared, S3-FIFO", Role::Answer, run.clone()),
        shared::<ReadShared<u64, u64, Clock>>("ReadShared, CLOCK", Role::Answer, run.clone()),
        shared::<Sharded<u64, u64, LruCache<u64, u64>>>("Sharded LRU", Role::Answer, run.clone()),
    ];
    subjects.extend(peers::shared_peers(run));
    subjects
}

async fn many_threads(bench: &Bench) -> anyhow::Result<()> {
    let keys = Keys::zipf(SHARED_KEYS, 0.99);
    let about = format!(
        "get, insert on a miss; u64 keys and values, capacity {SHARED_CAPACITY}, {}",
        keys.describe()
    );
    // More threads than cores says nothing about scaling; it says what waiting for a lock costs.
    for (name, threads) in [("shared-1", 1), ("shared-2", 2), ("shared-4", 4)] {
        let rounds = Some(bench.pick(4, 6, 12));
        let scenario = Scenario::new(name, about.clone(), "ReadShared, S3-FIFO");
        let scenario = Scenario { rounds, ..scenario };
        let slices = bench.pick(5, 9, 41);
        let load = Saturation { slices, ..Saturation::default() }.threads(threads);
        let run =
            SharedLoop { capacity: SHARED_CAPACITY, keys, calls: 1 << 17, seed: bench.seed() };
        let described = format!(
            "{threads} threads at once, median of {slices} slices of {} calls each",
            run.calls
        );
        bench.in_process_for(scenario, described, load, shared_caches(&run)).await?;
    }
    Ok(())
}

/// Prints what an entry of ours takes. For the peers, whose memory only an allocator can count:
/// `cargo bench -p bench-lru-cache --features peers --bench memory`.
fn memory_of_ours() {
    let entries = 1_000_000;
    let mut cache: LruCache<u64, u64> = Made::make(entries);
    (0..entries).for_each(|key| cache.put(key));
    let filled = cache.bytes() as f64 / entries as f64;
    (entries..11 * entries).for_each(|key| cache.put(key));
    let churned = cache.bytes() as f64 / entries as f64;
    println!("memory per u64 -> u64 entry of LruCache at one million:");
    println!("  filled {filled:.1} bytes, after ten rounds of churn {churned:.1} bytes\n");
}

/// The hits that the first exact LRU counted, which all others must count too.
type Expected = Arc<OnceLock<u64>>;
