//! A nightly export walks through a hot cache.

use lru_cache::sim::run::PolicyName;

use super::{hit_percent, requests};
use measure::harness::Keys;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "lru-cache",
        name: "scan",
        asks: "The cache works well. Then somebody exports the whole table once through it. What \
               happens to the hit ratio, and what would you change?",
        explanation: "LRU believes that a row read once is the most valuable of all, so a scan as \
            long as the cache replaces everything that was popular. Scan-resistant policies let a \
            newcomer in on probation: S3-FIFO in a small queue, W-TinyLFU in a window and past a \
            filter, SLRU and ARC in the segment for keys seen once. What was popular stays, and \
            the scan pushes out itself. S3-FIFO pays most of the three: a popular key that comes \
            in during the scan has little time in its small queue for a second use.",
        run: |stage| Box::pin(run(stage)),
    }
}

const CAPACITY: u64 = 2_000;
const PRODUCTS: u64 = 20_000;
/// Keys of the export, which nobody else asks for.
const EXPORTED: u64 = 1 << 32;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let turns = stage.pick(20, 100);
    let mut rng = fastrand::Rng::with_seed(stage.seed());
    let popular = Keys::zipf(PRODUCTS, 0.9);
    stage.scene(format!("a cache of {CAPACITY} entries, simulated; {}", popular.describe()));
    let quiet: Vec<u64> = (0..turns * 2 * CAPACITY).map(|_| popular.pick(&mut rng)).collect();
    let without = requests(quiet.iter().copied());
    stage.load("first without, then with an export of twice the cache after every 4000 requests");
    let mut exported = EXPORTED;
    let mut with = Vec::new();
    for burst in quiet.chunks(2 * CAPACITY as usize) {
        with.extend(requests(burst.iter().copied()));
        with.extend(requests(exported..exported + 2 * CAPACITY));
        exported += 2 * CAPACITY;
    }
    // Exported rows are never hits, so hits per popular request can be compared directly.
    let lost = |policy| {
        let before = hit_percent(&stage, policy, CAPACITY, &without);
        let after = hit_percent(&stage, policy, CAPACITY, &with) * with.len() as f64;
        let after = after / without.len() as f64;
        stage.observe(
            policy.name(),
            format!("popular keys: {before:.2} % before, {after:.2} % with"),
        );
        before - after
    };
    let lru = lost(PolicyName::Lru);
    stage.expect("LRU loses more than five points", lru > 5.0, format!("{lru:.2} points"));
    let small_queue = lost(PolicyName::S3Fifo);
    stage.expect("S3-FIFO loses less", small_queue < lru, format!("{small_queue:.2} points"));
    for policy in [PolicyName::Arc, PolicyName::WTinyLfu] {
        let resistant = lost(policy);
        let promise = format!("{} loses less than half of that", policy.name());
        stage.expect(promise, resistant < lru / 2.0, format!("{resistant:.2} points"));
    }
    stage.because("what was read once starts on probation, so a scan throws out the scan");
    Ok(())
}
