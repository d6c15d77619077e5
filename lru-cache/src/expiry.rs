//! Forgetting by time: after the write, after the last use, or as each entry says.
//!
//! Around any [`Cache`]. A read looks at the entry's deadline, so an expired value is never served,
//! even if nothing else happens; a timer per entry ([`Timers`]) takes it out at the next write, so an
//! expired entry does not hold its place for ever. A read never moves a timer: when the timer fires
//! and the entry was used since, it is set again, which makes expiry after access O(1) amortised.
//!
//! What it gives up: 24 bytes per entry and a second copy of the key, in the timer.

use std::{borrow::Borrow, hash::BuildHasher, hash::Hash};

use foldhash::fast::FixedState;

use crate::{
    cache::{Cache, Cause, Departure},
    clock::Clock,
    timers::{TimerId, Timers},
};

const NEVER: u64 = u64::MAX;

/// How long entries live that do not say so themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lifetime {
    /// Counted from the write.
    pub after_write_ms: Option<u64>,
    /// Counted from the last read or write.
    pub after_access_ms: Option<u64>,
    /// By up to this share, in percent, a lifetime after write is shortened, each write by another
    /// amount. Without it, entries written together expire together and are reloaded together. It
    /// only ever shortens: nobody gets a value older than allowed.
    pub jitter_percent: u8,
}

/// A value and its deadlines.
#[derive(Clone, Debug)]
pub struct Timed<V> {
    value: V,
    /// Set by the write.
    written_until_ms: u64,
    /// Moved by every use.
    idle_until_ms: u64,
    timer: Option<TimerId>,
}

impl<V> Timed<V> {
    /// The value, for a weigher.
    pub fn value(&self) -> &V {
        &self.value
    }

    fn deadline_ms(&self) -> u64 {
        self.written_until_ms.min(self.idle_until_ms)
    }
}

/// A cache whose entries also expire.
///
/// ```
/// use lru_cache::{Cache, Expiring, Lifetime, LruCache, clock::ManualClock};
///
/// let clock = ManualClock::default();
/// let lifetime = Lifetime { after_write_ms: Some(1_000), ..Lifetime::default() };
/// let mut cache = Expiring::new(LruCache::new(100), lifetime, clock.clone());
/// cache.insert("a", 1);
/// clock.advance_ms(999);
/// assert_eq!(cache.get("a"), Some(&1));
/// clock.advance_ms(1);
/// assert_eq!(cache.get("a"), None);
/// ```
pub struct Expiring<K, C, T> {
    cache: C,
    timers: Timers<K>,
    lifetime: Lifetime,
    clock: T,
    writes: u64,
}

impl<K: Hash + Eq + Clone, C, T: Clock> Expiring<K, C, T> {
    /// Wraps an empty cache.
    pub fn new(cache: C, lifetime: Lifetime, clock: T) -> Self {
        let timers = Timers::starting_at(clock.now_ms());
        Self { cache, timers, lifetime, clock, writes: 0 }
    }

    /// As [`Cache::insert_with`], for an entry with a lifetime of its own; `None` is for ever. The
    /// lifetime after access applies all the same.
    pub fn insert_for<V>(
        &mut self,
        key: K,
        value: V,
        lifetime_ms: Option<u64>,
        mut leave: impl FnMut(Departure<K, V>),
    ) where
        C: Cache<K, Timed<V>>,
    {
        let now_ms = self.clock.now_ms();
        // First what is dead: the living should not be evicted in its place.
        self.expire(&mut leave);
        let until = |lifetime_ms: Option<u64>| {
            lifetime_ms.map_or(NEVER, |lifetime_ms| now_ms.saturating_add(lifetime_ms))
        };
        let mut timed = Timed {
            value,
            written_until_ms: until(lifetime_ms),
            idle_until_ms: until(self.lifetime.after_access_ms),
            timer: None,
        };
        if timed.deadline_ms() != NEVER {
            timed.timer = Some(self.timers.set(timed.deadline_ms(), key.clone()));
        }
        let Self { cache, timers, .. } = self;
        cache.insert_with(key, timed, |Departure { key, value: timed, cause }| {
            // An entry that was already dead did not fall victim to anybody.
            let cause = if timed.deadline_ms() <= now_ms { Cause::Expired } else { cause };
            leave(Departure { key, value: cancelled(timers, timed), cause });
        });
    }

    /// Takes out what is dead. Every insert does this first; call it when nothing is inserted.
    pub fn expire<V>(&mut self, mut leave: impl FnMut(Departure<K, V>))
    where
        C: Cache<K, Timed<V>>,
    {
        let now_ms = self.clock.now_ms();
        while let Some((_, key)) = self.timers.fire(now_ms) {
            let deadline_ms = self.cache.peek(&key).map_or(0, Timed::deadline_ms);
            if deadline_ms > now_ms {
                // Used since the timer was set. `peek` first: expiring must not count as a use.
                let timer = self.timers.set(deadline_ms, key.clone());
                self.cache.peek_mut(&key).expect("it was there a line above").timer = Some(timer);
            } else if let Some((key, timed)) = self.cache.remove(&key) {
                leave(Departure { key, value: timed.value, cause: Cause::Expired });
            }
        }
    }

    /// How long the entry under `key` has to live: `None` if there is none, `Some(None)` for ever.
    pub fn remaining_ms<V, Q>(&self, key: &Q) -> Option<Option<u64>>
    where
        C: Cache<K, Timed<V>>,
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now_ms = self.clock.now_ms();
        let deadline_ms = self.cache.peek(key)?.deadline_ms();
        (deadline_ms > now_ms).then(|| (deadline_ms != NEVER).then(|| deadline_ms - now_ms))
    }

    /// The lifetime after write for the next entry, shortened by jitter. The shortening is a hash
    /// of key and write number: spread like a random number, and the same in every run of a test.
    fn jittered(&mut self, key: &K) -> Option<u64> {
        let lifetime_ms = self.lifetime.after_write_ms?;
        let most =
            u128::from(lifetime_ms) * u128::from(self.lifetime.jitter_percent.min(100)) / 100;
        self.writes += 1;
        let random = FixedState::with_seed(self.writes).hash_one(key);
        let shorter = (most * u128::from(random)) >> u64::BITS;
        Some(lifetime_ms - shorter as u64)
    }
}

/// The bare value, its timer cancelled.
fn cancelled<K, V>(timers: &mut Timers<K>, timed: Timed<V>) -> V {
    if let Some(timer) = timed.timer {
        timers.cancel(timer);
    }
    timed.value
}

impl<K: Hash + Eq + Clone, V, C: Cache<K, Timed<V>>, T: Clock> Cache<K, V> for Expiring<K, C, T> {
    fn name(&self) -> &'static str {
        self.cache.name()
    }

    fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let now_ms = self.clock.now_ms();
        if self.cache.peek(key)?.deadline_ms() <= now_ms {
            // Left where it is: a read has nobody to tell. The next write takes it out.
            return None;
        }
        let timed = self.cache.get_mut(key)?;
        if let Some(after_access_ms) = self.lifetime.after_access_ms {
            timed.idle_until_ms = now_ms.saturating_add(after_access_ms);
        }
        Some(&mut timed.value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let now_ms = self.clock.now_ms();
        self.cache.peek(key).filter(|timed| timed.deadline_ms() > now_ms).map(Timed::value)
    }

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let now_ms = self.clock.now_ms();
        let timed = self.cache.peek_mut(key)?;
        (timed.deadline_ms() > now_ms).then_some(&mut timed.value)
    }

    fn insert_with(&mut self, key: K, value: V, leave: impl FnMut(Departure<K, V>)) {
        let lifetime_ms = self.jittered(&key);
        self.insert_for(key, value, lifetime_ms, leave);
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let (key, timed) = self.cache.remove(key)?;
        let alive = timed.deadline_ms() > self.clock.now_ms();
        let value = cancelled(&mut self.timers, timed);
        alive.then_some((key, value))
    }

    /// Dead entries that no write has taken out yet are counted.
    fn len(&self) -> usize {
        self.cache.len()
    }

    fn weight(&self) -> u64 {
        self.cache.weight()
    }

    fn capacity(&self) -> u64 {
        self.cache.capacity()
    }

    fn check(&self) -> Result<(), String> {
        if self.timers.len() > self.cache.len() {
            return Err(format!("{} timers, {} entries", self.timers.len(), self.cache.len()));
        }
        self.cache.check()
    }
}
