//! The smallest whole suite: how a system's `tests/conformance.rs` looks.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use testkit::{Promise, Seed, Suite, Verdict, ensure};

trait Counter: Send + Sync + 'static {
    fn add(&self, by: u64) -> u64;
}

fn promises<C: Counter>() -> Vec<Promise<C>> {
    testkit::promises! { C;
        adds_up => "The total after each addition is the sum of all so far.",
        loses_nothing.on_many_threads() => "Additions of several threads are all counted.",
    }
}

async fn adds_up<C: Counter>(counter: Arc<C>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let mut sum = 0;
    for _ in 0..100 {
        let by = rng.u64(1..1_000);
        sum += by;
        let total = counter.add(by);
        ensure!(total == sum, "after adding {by} the total is {total}, the sum is {sum}");
    }
    Ok(())
}

async fn loses_nothing<C: Counter>(counter: Arc<C>) -> Verdict {
    let adders: Vec<_> = (0..4)
        .map(|_| {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    counter.add(1);
                }
            })
        })
        .collect();
    futures::future::try_join_all(adders).await.expect("adders do not panic");
    let total = counter.add(0);
    ensure!(total == 4_000, "4 x 1000 were added, {total} were counted");
    Ok(())
}

#[derive(Default)]
struct Atomic(AtomicU64);

impl Counter for Atomic {
    fn add(&self, by: u64) -> u64 {
        self.0.fetch_add(by, SeqCst) + by
    }
}

/// The bug: returns the total before the addition.
#[derive(Default)]
struct ReturnsTheOldTotal(AtomicU64);

impl Counter for ReturnsTheOldTotal {
    fn add(&self, by: u64) -> u64 {
        self.0.fetch_add(by, SeqCst)
    }
}

/// The bug: reads, then writes. At first it dawdles in between until somebody else has written,
/// so that the lost update is certain and not only likely.
#[derive(Default)]
struct ReadsThenWrites(AtomicU64);

impl Counter for ReadsThenWrites {
    fn add(&self, by: u64) -> u64 {
        let read = self.0.load(SeqCst);
        let mut patience = if read < 50 { 10_000 } else { 0 };
        while patience > 0 && self.0.load(SeqCst) == read {
            std::thread::yield_now();
            patience -= 1;
        }
        self.0.store(read + by, SeqCst);
        read + by
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("atomic", promises, || async { Atomic::default() });
    suite.wrong("returns_the_old_total", "adds_up", promises, || async {
        ReturnsTheOldTotal::default()
    });
    suite.wrong("reads_then_writes", "loses_nothing", promises, || async {
        ReadsThenWrites::default()
    });
    suite.run()
}
