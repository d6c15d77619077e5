//! Why sharding costs hit ratio.

use foldhash::fast::FixedState;
use lru_cache::{LruCache, Sharded};

use measure::harness::Keys;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "lru-cache",
        name: "sharding",
        asks: "You split the cache into 64 shards so that threads do not wait for each other. What \
               did you pay?",
        explanation: "Keys do not spread evenly, so some shards evict while others have room. A \
            working set that just fits pays for it, and the smaller the shards the more. Skewed \
            traffic over far more keys than fit hardly pays, because the keys at the edge are worth \
            little either way. So shard by capacity, not only by cores. What must not happen is \
            that the total is rounded up per shard: that hides the cost by being a larger cache \
            than was asked for.",
        run: |stage| Box::pin(run(stage)),
    }
}

const SHARDS: usize = 64;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let requests = stage.pick(1_000_000, 10_000_000);
    stage.scene("Sharded<LruCache>, one thread; the same requests to one shard and to 64");
    let lost = |entries_a_shard: u64, keys: fn(u64) -> Keys| {
        let capacity = entries_a_shard * SHARDS as u64;
        let keys = keys(capacity);
        stage.load(format!("{requests} requests, {}, capacity {capacity}", keys.describe()));
        let one = hits(capacity, 1, keys, requests, stage.seed());
        let many = hits(capacity, SHARDS, keys, requests, stage.seed());
        let percent = |hits: u64| 100.0 * hits as f64 / requests as f64;
        let (one, many) = (percent(one), percent(many));
        stage.observe("one shard", format!("{one:.2} % hits"));
        stage.observe(format!("{SHARDS} of {entries_a_shard}"), format!("{many:.2} % hits"));
        one - many
    };
    // A working set that just fits: what evicts here is only the unevenness of shards.
    let tiny = lost(16, Keys::uniform);
    let usual = lost(1_024, Keys::uniform);
    let skewed = lost(16, |capacity| Keys::zipf(10 * capacity, 0.9));
    let costs = tiny > 2.0 * usual.max(0.0);
    stage.expect("tiny shards cost hits", costs, format!("{tiny:.2} points"));
    let fades = usual < 2.5;
    stage.expect("shards of a thousand cost little", fades, format!("{usual:.2} points"));
    let spread = skewed < 1.0;
    stage.expect("skewed traffic pays less than one", spread, format!("{skewed:.2} points"));
    let odd = Sharded::new(1_000, SHARDS, |share| LruCache::<u64, u64>::new(share as usize));
    let exact = odd.capacity() == 1_000;
    stage.expect("64 shards of 1000 hold 1000, not 1024", exact, odd.capacity());
    stage.because("a shard that is overfull evicts although another shard has room");
    Ok(())
}

fn hits(capacity: u64, shards: usize, keys: Keys, requests: u64, seed: u64) -> u64 {
    // The keys of this question always fall into the same shards. Which ones those are decides the
    // third figure: hot keys may meet in a shard of sixteen.
    let hasher = FixedState::default();
    let cache =
        Sharded::with_hasher(capacity, shards, hasher, |share| LruCache::new(share as usize));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut hits = 0;
    for _ in 0..requests {
        let key = keys.pick(&mut rng);
        if cache.get(&key).is_some() {
            hits += 1;
        } else {
            cache.insert(key, key);
        }
    }
    hits
}
