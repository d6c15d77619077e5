//! What a cache that forgets by time promises, on a clock that the suite moves.

use std::sync::Arc;

use testkit::{Promise, Verdict, ensure, promise};

use crate::{
    cache::{Cache, Cause},
    clock::ManualClock,
    expiry::Lifetime,
};

/// How the suite reaches the answer under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Cache: Cache<u64, u64>;

    /// A fresh cache of this many entries.
    fn cache(&self, capacity: u64, lifetime: Lifetime, clock: ManualClock) -> Self::Cache;

    /// Puts an entry in that lives this long.
    fn insert_for(&self, cache: &mut Self::Cache, key: u64, value: u64, lifetime_ms: Option<u64>);
}

/// The promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(F, lives_as_long_as_promised, "An entry is served up to its time, not at it."),
        promise!(F, a_use_postpones_only_idleness, "Reading prolongs life after access only."),
        promise!(F, a_write_starts_a_new_life, "A second write counts from the second write."),
        promise!(F, an_entry_may_say_how_long, "An entry's own lifetime replaces the general one."),
        promise!(F, the_dead_make_room, "A dead entry leaves before any living one is evicted."),
        promise!(F, jitter_only_shortens, "Jitter spreads lifetimes and prolongs none."),
    ]
}

fn after_write(lifetime_ms: u64) -> Lifetime {
    Lifetime { after_write_ms: Some(lifetime_ms), ..Lifetime::default() }
}

async fn lives_as_long_as_promised<F: Fixture>(fixture: Arc<F>) -> Verdict {
    for lifetime_ms in [1, 63, 64, 1_000, 86_400_000, 1 << 41] {
        let clock = ManualClock::default();
        let mut cache = fixture.cache(10, after_write(lifetime_ms), clock.clone());
        clock.advance_ms(12_345);
        cache.insert(1, 10);
        clock.advance_ms(lifetime_ms - 1);
        ensure!(cache.get(&1) == Some(&10), "dead before {lifetime_ms} ms were over");
        clock.advance_ms(1);
        ensure!(cache.peek(&1).is_none(), "seen after {lifetime_ms} ms");
        ensure!(cache.get(&1).is_none(), "served after {lifetime_ms} ms");
        ensure!(cache.remove(&1).is_none(), "handed out by remove after {lifetime_ms} ms");
    }
    Ok(())
}

async fn a_use_postpones_only_idleness<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let clock = ManualClock::default();
    let lifetime =
        Lifetime { after_write_ms: Some(1_000), after_access_ms: Some(100), jitter_percent: 0 };
    let mut cache = fixture.cache(10, lifetime, clock.clone());
    cache.insert(1, 10);
    cache.insert(2, 20);
    for _ in 0..11 {
        clock.advance_ms(90);
        ensure!(
            cache.get(&1) == Some(&10),
            "used every 90 ms, dead with 100 ms of idleness allowed"
        );
        // Maintenance in between must not count as a use, nor take the entry out.
        cache.insert(3, 30);
    }
    ensure!(cache.get(&2).is_none(), "idle for 990 ms and served with 100 ms allowed");
    clock.advance_ms(10);
    ensure!(cache.get(&1).is_none(), "uses prolonged the life after write of 1,000 ms");
    Ok(())
}

async fn a_write_starts_a_new_life<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let clock = ManualClock::default();
    let mut cache = fixture.cache(10, after_write(100), clock.clone());
    cache.insert(1, 10);
    clock.advance_ms(80);
    cache.insert(1, 11);
    clock.advance_ms(80);
    // The first write's timer is due; it must not take the second write's value.
    cache.insert(2, 20);
    ensure!(cache.get(&1) == Some(&11), "the second write died with the first one's time");
    clock.advance_ms(20);
    ensure!(cache.get(&1).is_none(), "the second write outlived its own time");
    Ok(())
}

async fn an_entry_may_say_how_long<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let clock = ManualClock::default();
    let mut cache = fixture.cache(10, after_write(100), clock.clone());
    fixture.insert_for(&mut cache, 1, 10, Some(20));
    fixture.insert_for(&mut cache, 2, 20, Some(5_000));
    fixture.insert_for(&mut cache, 3, 30, None);
    clock.advance_ms(20);
    ensure!(cache.get(&1).is_none(), "an entry for 20 ms was served after 20 ms");
    clock.advance_ms(4_979);
    ensure!(cache.get(&2) == Some(&20), "an entry for 5,000 ms is gone after 4,999");
    clock.advance_ms(1 << 50);
    ensure!(cache.get(&3) == Some(&30), "an entry for ever is gone");
    Ok(())
}

async fn the_dead_make_room<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let clock = ManualClock::default();
    let mut cache = fixture.cache(20, Lifetime::default(), clock.clone());
    for key in 0..10 {
        fixture.insert_for(&mut cache, key, key, None);
    }
    for key in 10..20 {
        fixture.insert_for(&mut cache, key, key, Some(50));
    }
    clock.advance_ms(50);
    let mut expired = 0;
    for key in 20..30 {
        cache.insert_with(key, key, |departure| {
            expired += usize::from(departure.cause == Cause::Expired && departure.key >= 10);
        });
    }
    ensure!(expired == 10, "{expired} of 10 dead entries left as expired");
    for key in (0..10).chain(20..30) {
        ensure!(cache.peek(&key).is_some(), "{key} was alive and had to leave for a dead one");
    }
    cache.check().map_err(testkit::Broken::because)
}

async fn jitter_only_shortens<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let clock = ManualClock::default();
    let lifetime = Lifetime { jitter_percent: 20, ..after_write(1_000) };
    let mut cache = fixture.cache(1_000, lifetime, clock.clone());
    (0..1_000).for_each(|key| _ = cache.insert(key, key));
    let alive = |cache: &F::Cache| (0..1_000).filter(|key| cache.peek(key).is_some()).count();
    clock.advance_ms(799);
    let early = alive(&cache);
    ensure!(early == 1_000, "{early} of 1,000 live at 799 ms, 20 percent jitter ends at 800");
    clock.advance_ms(101);
    let halfway = alive(&cache);
    ensure!((350..650).contains(&halfway), "{halfway} of 1,000 live halfway: not spread");
    clock.advance_ms(100);
    let late = alive(&cache);
    ensure!(late == 0, "{late} outlived the 1,000 ms they were promised at most");
    Ok(())
}
