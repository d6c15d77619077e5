//! What an entry costs.

use lru_cache::{Cache, LruCache};

use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "lru-cache",
        name: "memory-per-entry",
        asks: "The cache holds a million entries of eight bytes each, key and value. How much \
               memory is that, and how much after a week?",
        explanation: "A map of boxed list nodes takes 16 bytes of payload, two pointers, the \
            allocator's rounding and a map bucket with the key or a pointer to it: about 70 bytes. \
            Links of four bytes in one dense vector make it 24, and an index of slots adds five \
            bytes a bucket, of which a power of two is needed. The week matters because removals \
            leave tombstones: a table that is more than half full when they have eaten its spare \
            room doubles. Ours is laid out afresh in the same memory instead.",
        run: |stage| Box::pin(run(stage)),
    }
}

const ENTRIES: u64 = 1_000_000;

async fn run(stage: Stage) -> anyhow::Result<()> {
    stage.scene("LruCache<u64, u64> for a million entries");
    let mut cache = LruCache::new(ENTRIES as usize);
    let made = cache.bytes();
    (0..ENTRIES).for_each(|key| _ = cache.insert(key, key));
    let filled = cache.bytes();
    let each = filled as f64 / ENTRIES as f64;
    let payload = 2 * size_of::<u64>();
    stage.expect(
        "at most 36 bytes an entry",
        each <= 36.0,
        format!("{each:.1}, {payload} are data"),
    );
    stage.expect("all of it from the start", made == filled, format!("{made} bytes"));
    let rounds = stage.pick(10, 100);
    stage.load(format!("{rounds} million inserts into the full cache, each of which evicts"));
    (ENTRIES..(rounds + 1) * ENTRIES).for_each(|key| _ = cache.insert(key, key));
    stage.expect(
        "churn changes nothing",
        cache.bytes() == filled,
        format!("{} bytes", cache.bytes()),
    );
    stage.load("half a million removals and inserts in turn");
    let newest = (rounds + 1) * ENTRIES;
    for key in newest..newest + ENTRIES / 2 {
        cache.remove(&(key - ENTRIES));
        cache.insert(key, key);
    }
    let same = cache.bytes() == filled && cache.len() as u64 == ENTRIES;
    stage.expect("neither do removals", same, format!("{} bytes", cache.bytes()));
    let whole = cache.check();
    stage.expect("list and index are whole", whole.is_ok(), format!("{whole:?}"));
    stage
        .because("slots of four bytes instead of pointers, and tombstones are swept, not outgrown");
    Ok(())
}
