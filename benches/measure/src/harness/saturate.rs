//! In-process saturation: operations of nanoseconds, called in a tight loop by real threads.
//!
//! Use it for caches, limiters and pure cores. Reading the clock costs about as much as the
//! operation, so the clock is read once per batch, and the latencies are means of batches (a
//! median of them is honest, a tail is not: a single slow call drowns in its batch).

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::run::Percentiles;

/// How an in-process loop runs.
#[derive(Debug, Clone, Copy)]
pub struct Saturation {
    /// Threads, each with its own worker.
    pub threads: usize,
    /// Calls between two readings of the clock.
    pub batch: u32,
    /// Slices of time; the result is the median slice, so one hiccup does not decide it.
    pub slices: usize,
    /// Length of a slice.
    pub slice: Duration,
}

impl Default for Saturation {
    fn default() -> Saturation {
        Saturation { threads: 1, batch: 64, slices: 9, slice: Duration::from_millis(50) }
    }
}

/// What an in-process loop measured.
#[derive(Debug, Clone)]
pub struct Saturated {
    /// Calls a second over all threads: the median slice.
    pub per_s: f64,
    /// Calls a second in every slice, in order.
    pub slices_per_s: Vec<f64>,
    /// Nanoseconds a call took, as means of batches.
    pub batch_means: Percentiles,
    /// Calls in total.
    pub calls: u64,
}

impl Saturation {
    /// With this many threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Saturation {
        Saturation { threads, ..self }
    }

    /// Runs `worker(thread)`'s closure until the slices are full. The closure gets the number of
    /// the call in its thread; its result is kept alive, so that the compiler cannot remove the
    /// work. One slice more than asked for runs first, as warm-up, and is not counted.
    ///
    /// Blocks the calling thread: from async code call it inside `spawn_blocking`.
    pub fn run<W, R>(&self, worker: impl Fn(usize) -> W + Sync) -> Saturated
    where
        W: FnMut(u64) -> R,
    {
        let (start, stop) = (Barrier::new(self.threads), AtomicBool::new(false));
        let threads: Vec<Vec<Slice>> = std::thread::scope(|scope| {
            let spawn = |thread| {
                let (worker, start, stop) = (&worker, &start, &stop);
                scope.spawn(move || {
                    let mut call = worker(thread);
                    start.wait();
                    let slices = self.drive(&mut call, stop);
                    // The first to finish ends the run for all: later slices of the others would
                    // be measured with fewer threads.
                    stop.store(true, Ordering::Relaxed);
                    slices
                })
            };
            let handles: Vec<_> = (0..self.threads).map(spawn).collect();
            let joined = handles.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|slices| slices.expect("a worker that panics ends the run")).collect()
        });
        self.merge(&threads)
    }

    fn drive<R>(&self, call: &mut impl FnMut(u64) -> R, stop: &AtomicBool) -> Vec<Slice> {
        let mut n = 0;
        let mut slices = Vec::with_capacity(self.slices);
        for slice in 0..=self.slices {
            let mut current = Slice::default();
            let began = Instant::now();
            let mut last = began;
            while last.duration_since(began) < self.slice {
                for _ in 0..self.batch {
                    black_box(call(black_box(n)));
                    n += 1;
                }
                let now = Instant::now();
                let took_ns = now.duration_since(last).as_nanos() as u64;
                current.means.saturating_record(took_ns * PICO / u64::from(self.batch));
                current.calls += u64::from(self.batch);
                last = now;
            }
            current.took = last.duration_since(began);
            if slice > 0 {
                slices.push(current);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        slices
    }

    fn merge(&self, threads: &[Vec<Slice>]) -> Saturated {
        let full = threads.iter().map(Vec::len).min().unwrap_or(0);
        let mut means = picoseconds();
        let mut calls = 0;
        let mut slices_per_s = vec![0.0; full];
        for thread in threads {
            for (slice, total) in thread.iter().zip(&mut slices_per_s) {
                means.add(&slice.means).expect("all histograms have the same bounds");
                calls += slice.calls;
                *total += slice.calls as f64 / slice.took.as_secs_f64();
            }
        }
        let in_ns = |quantile: f64| means.value_at_quantile(quantile).div_ceil(PICO);
        let batch_means = Percentiles {
            p50: in_ns(0.5),
            p90: in_ns(0.9),
            p95: in_ns(0.95),
            p99: in_ns(0.99),
            p999: in_ns(0.999),
            max: in_ns(1.0),
        };
        let per_s = super::stats::median(&slices_per_s);
        Saturated { per_s, slices_per_s, batch_means, calls }
    }
}

/// Batch means are kept in picoseconds, so that 3.4 ns and 3.6 ns do not look the same.
const PICO: u64 = 1000;

fn picoseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1_000_000_000_000, 3).expect("constant bounds that are valid")
}

struct Slice {
    calls: u64,
    took: Duration,
    means: Histogram<u64>,
}

impl Default for Slice {
    fn default() -> Slice {
        Slice { calls: 0, took: Duration::ZERO, means: picoseconds() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_call_is_counted_and_every_thread_gets_its_own_worker() {
        let (calls, workers) = (AtomicU64::new(0), AtomicU64::new(0));
        let slice = Duration::from_millis(2);
        let saturation = Saturation { threads: 2, batch: 10, slices: 3, slice };
        let measured = saturation.run(|_thread| {
            workers.fetch_add(1, Ordering::Relaxed);
            |_n| calls.fetch_add(1, Ordering::Relaxed)
        });
        assert_eq!(workers.load(Ordering::Relaxed), 2);
        // The warm-up slice and unmatched slices are called but not counted.
        assert!(measured.calls > 0 && measured.calls < calls.load(Ordering::Relaxed));
        assert!(measured.per_s > 0.0 && !measured.slices_per_s.is_empty());
    }
}
