//! How a cache is measured: fill it, warm it, then slices of fresh keys, each slice timed as a whole.

use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lru_cache::policy::LazyPromotion;
use lru_cache::shared::shards_for;
use lru_cache::{Cache, LruCache, ReadShared, Sharded, SmallestLru};

use super::Expected;
use measure::harness::{Keys, Percentiles, Saturated, Saturation, median};
use measure::{LoopSubject, Role};

/// What every value is, so that a cache that mixes values up is found.
pub(super) fn value_of(key: u64) -> u64 {
    !key
}

/// A cache that one thread owns.
pub(super) trait Own {
    fn read(&mut self, key: u64) -> Option<u64>;
    fn put(&mut self, key: u64);
    fn entries(&self) -> usize;
}

/// One that is made like all others of its kind.
pub(super) trait Made: Own {
    fn make(capacity: u64) -> Self;
}

/// A reader's cache, known by the contract alone.
pub(super) struct Yours<C>(pub(super) C);

impl<C: Cache<u64, u64>> Own for Yours<C> {
    #[inline]
    fn read(&mut self, key: u64) -> Option<u64> {
        self.0.get(&key).copied()
    }

    #[inline]
    fn put(&mut self, key: u64) {
        self.0.insert_with(key, value_of(key), |departure| {
            std::hint::black_box(departure);
        });
    }

    fn entries(&self) -> usize {
        self.0.len()
    }
}

/// A cache that threads share.
pub(super) trait Share: Send + Sync {
    fn make(capacity: u64) -> Self;
    fn read(&self, key: u64) -> Option<u64>;
    fn put(&self, key: u64);
    /// How many entries are in, after whatever the cache puts off has been done, and how many it
    /// says may be.
    fn entries_of(&self) -> (u64, u64);
}

/// A cache that one thread owns: how it is made, and how it is written to.
macro_rules! own {
    ([$($generic:tt)*] $cache:ty, $insert:ident, |$capacity:ident| $make:expr) => {
        impl<$($generic)*> $crate::compare::subjects::Made for $cache {
            fn make($capacity: u64) -> Self {
                $make
            }
        }

        impl<$($generic)*> $crate::compare::subjects::Own for $cache {
            #[inline]
            fn read(&mut self, key: u64) -> Option<u64> {
                self.get(&key).copied()
            }

            #[inline]
            fn put(&mut self, key: u64) {
                let value = $crate::compare::subjects::value_of(key);
                std::hint::black_box(self.$insert(key, value));
            }

            fn entries(&self) -> usize {
                self.len()
            }
        }
    };
}

/// A cache that threads share: how it is made, and how many entries it has of how many.
macro_rules! share {
    (
        [$($generic:tt)*] $cache:ty,
        |$capacity:ident| $make:expr,
        |$cached:ident| $entries:expr
    ) => {
        impl<$($generic)*> $crate::compare::subjects::Share for $cache {
            fn make($capacity: u64) -> Self {
                $make
            }

            #[inline]
            fn read(&self, key: u64) -> Option<u64> {
                self.get(&key)
            }

            #[inline]
            fn put(&self, key: u64) {
                self.insert(key, $crate::compare::subjects::value_of(key));
            }

            fn entries_of(&self) -> (u64, u64) {
                let $cached = self;
                $entries
            }
        }
    };
}

#[cfg(feature = "peers")]
pub(super) use {own, share};

own!([] LruCache<u64, u64>, insert, |capacity| LruCache::new(capacity as usize));
own!([] SmallestLru<u64, u64>, insert, |capacity| SmallestLru::new(capacity as usize));
share!(
    [P: LazyPromotion + Send + Sync] ReadShared<u64, u64, P>,
    |capacity| ReadShared::new(capacity),
    |cache| (cache.len() as u64, cache.capacity())
);
share!(
    [] Sharded<u64, u64, LruCache<u64, u64>>,
    |capacity| Sharded::new(capacity, shards_for(capacity), |share| LruCache::new(share as usize)),
    |cache| (cache.len() as u64, cache.capacity())
);

/// What one thread counted.
#[derive(Default)]
struct Counts {
    hits: u64,
    wrong: u64,
}

impl Counts {
    /// One request. Returns whether it was a hit.
    #[inline]
    fn note(&mut self, key: u64, read: Option<u64>) -> bool {
        let Some(value) = read else { return false };
        self.hits += 1;
        self.wrong += u64::from(value != value_of(key));
        true
    }
}

/// Popular keys must not be neighbours in memory, or in a hash that keeps order.
fn spread(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Turns slices into what the tables are made of; a call's time is a mean over a slice.
fn saturated(took: &[Duration], calls_a_slice: u64) -> Saturated {
    let per_s: Vec<f64> = took.iter().map(|t| calls_a_slice as f64 / t.as_secs_f64()).collect();
    let mut means_ns: Vec<u64> =
        took.iter().map(|t| (t.as_nanos() as f64 / calls_a_slice as f64).round() as u64).collect();
    means_ns.sort_unstable();
    let at = |quantile: f64| means_ns[((means_ns.len() - 1) as f64 * quantile).round() as usize];
    let batch_means = Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
    };
    let calls = calls_a_slice * took.len() as u64;
    Saturated { per_s: median(&per_s), slices_per_s: per_s, batch_means, calls }
}

// ---- one thread

/// A run of an exact LRU.
#[derive(Clone)]
pub(super) struct SingleLoop {
    pub(super) capacity: u64,
    pub(super) keys: Keys,
    /// Calls in a slice.
    pub(super) calls: u64,
    pub(super) seed: u64,
    pub(super) expected: Expected,
}

impl SingleLoop {
    pub(super) fn new(capacity: u64, keys: Keys, calls: u64) -> Self {
        Self { capacity, keys, calls, seed: 0, expected: Expected::default() }
    }

    fn run<C: Own>(&self, mut cache: C, load: Saturation) -> (Saturated, Result<f64, String>) {
        let mut rng = Rng::with_seed(self.seed);
        let mut fresh = vec![0; self.calls as usize];
        (0..self.capacity).for_each(|key| cache.put(spread(key)));
        let mut counts = Counts::default();
        let mut took = Vec::with_capacity(load.slices);
        let warm_up = (2 * self.capacity / self.calls).max(1) as usize;
        for slice in 0..warm_up + load.slices {
            fresh.fill_with(|| spread(self.keys.pick(&mut rng)));
            if slice == warm_up {
                counts = Counts { hits: 0, ..counts };
            }
            let began = Instant::now();
            for &key in &fresh {
                if !counts.note(key, cache.read(key)) {
                    cache.put(key);
                }
            }
            if slice >= warm_up {
                took.push(began.elapsed());
            }
        }
        let measured = saturated(&took, self.calls);
        let checked = self.check(&cache, &counts, &measured);
        (measured, checked)
    }

    fn check<C: Own>(
        &self,
        cache: &C,
        counts: &Counts,
        measured: &Saturated,
    ) -> Result<f64, String> {
        let Counts { hits, wrong } = *counts;
        let expected = *self.expected.get_or_init(|| hits);
        if wrong > 0 || cache.entries() as u64 != self.capacity || hits != expected {
            return Err(format!(
                "{wrong} wrong values, {} of {} entries, {hits} hits where an exact LRU has \
                 {expected}",
                cache.entries(),
                self.capacity
            ));
        }
        Ok(hits as f64 / measured.calls as f64)
    }
}

/// An exact LRU as a subject.
pub(super) fn exact<C: Made + 'static>(name: &str, role: Role, run: SingleLoop) -> LoopSubject {
    made_by(name, role, run, C::make)
}

/// The same with a way to make it.
pub(super) fn made_by<C: Own + 'static>(
    name: &str,
    role: Role,
    run: SingleLoop,
    make: impl Fn(u64) -> C + Send + Sync + 'static,
) -> LoopSubject {
    LoopSubject::cache(name, role, move |load| run.run(make(run.capacity), load))
}

// ---- many threads

/// A run of a shared cache.
#[derive(Clone)]
pub(super) struct SharedLoop {
    pub(super) capacity: u64,
    pub(super) keys: Keys,
    /// Calls of each thread in a slice.
    pub(super) calls: u64,
    pub(super) seed: u64,
}

impl SharedLoop {
    fn run<C: Share>(&self, load: Saturation) -> (Saturated, Result<f64, String>) {
        let cache = C::make(self.capacity);
        self.warm_up(&cache);
        let (start, end) = (Barrier::new(load.threads), Barrier::new(load.threads));
        // The wall time of a slice runs from the first start to the last end.
        let spans = Mutex::new(vec![None::<(Instant, Instant)>; load.slices + 1]);
        let counts: Vec<Counts> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..load.threads)
                .map(|thread| {
                    let (cache, start, end, spans) = (&cache, &start, &end, &spans);
                    scope.spawn(move || self.drive(cache, thread, start, end, spans))
                })
                .collect();
            threads.into_iter().map(|t| t.join().expect("a worker's panic ends the run")).collect()
        });
        let spans = spans.into_inner().unwrap_or_else(|e| e.into_inner());
        // The first slice is warm-up.
        let took: Vec<_> =
            spans.into_iter().skip(1).flatten().map(|(from, to)| to - from).collect();
        let measured = saturated(&took, self.calls * load.threads as u64);
        let checked = self.check(&cache, &counts, &measured);
        (measured, checked)
    }

    fn warm_up(&self, cache: &impl Share) {
        let mut rng = Rng::with_seed(!self.seed);
        for _ in 0..20 * self.capacity {
            let key = spread(self.keys.pick(&mut rng));
            if cache.read(key).is_none() {
                cache.put(key);
            }
        }
    }

    fn drive(
        &self,
        cache: &impl Share,
        thread: usize,
        start: &Barrier,
        end: &Barrier,
        spans: &Mutex<Vec<Option<(Instant, Instant)>>>,
    ) -> Counts {
        let mut rng = Rng::with_seed(self.seed ^ ((thread as u64 + 1) << 32));
        let mut fresh = vec![0; self.calls as usize];
        let mut counts = Counts::default();
        let slices = spans.lock().unwrap_or_else(|e| e.into_inner()).len();
        for slice in 0..slices {
            fresh.fill_with(|| spread(self.keys.pick(&mut rng)));
            if slice == 1 {
                counts.hits = 0;
            }
            start.wait();
            let began = Instant::now();
            for &key in &fresh {
                if !counts.note(key, cache.read(key)) {
                    cache.put(key);
                }
            }
            let ended = Instant::now();
            {
                let mut spans = spans.lock().unwrap_or_else(|e| e.into_inner());
                let (from, to) = spans[slice].unwrap_or((began, ended));
                spans[slice] = Some((from.min(began), to.max(ended)));
            }
            // Nobody draws keys while others are still being measured.
            end.wait();
        }
        counts
    }

    fn check(
        &self,
        cache: &impl Share,
        counts: &[Counts],
        measured: &Saturated,
    ) -> Result<f64, String> {
        let hits: u64 = counts.iter().map(|c| c.hits).sum();
        let wrong: u64 = counts.iter().map(|c| c.wrong).sum();
        let (entries, capacity) = cache.entries_of();
        if wrong > 0 || hits == 0 || entries == 0 || entries > capacity {
            return Err(format!(
                "{wrong} wrong values, {hits} hits, {entries} of {capacity} entries"
            ));
        }
        Ok(hits as f64 / measured.calls as f64)
    }
}

/// A shared cache as a subject.
pub(super) fn shared<C: Share + 'static>(name: &str, role: Role, run: SharedLoop) -> LoopSubject {
    LoopSubject::cache(name, role, move |load| run.run::<C>(load))
}
