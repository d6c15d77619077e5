//! Caches with the mistakes that people make, and the promise that each one breaks.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, sync::Mutex};

use lru_cache::{
    Cache, Cause, Departure, Expiring, Lifetime, LruCache, OnError, Sharded,
    clock::{Clock, ManualClock},
    conformance::{self, Fixture, expiry, loading, shared},
    expiry::Timed,
    shared::{Leaving, Listener, SharedCache},
};
use testkit::Suite;

use super::{ByValue, by_value, weight_of};

/// What is wrong with an otherwise right LRU.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    HitDoesNotRenew,
    WriteDoesNotRenew,
    PeekRenews,
    EvictsTheNewest,
    HoldsOneTooMany,
    HoldsOneTooFew,
    RoundsCapacityUp,
    LosesTheReplacedValue,
    KeepsTheStaleValueOfARefusedWrite,
    EvictsOnReplacement,
    TellsTwice,
    KeepsWhatWasRemoved,
    RemovesTheWrongKey,
    MiscountsWeight,
    IgnoresWeights,
    RefusesNewcomersWhenFull,
}

use Mistake as M;

/// An LRU whose list is a vector, oldest first: small enough to plant one mistake at a time.
struct Wrong {
    entries: Vec<(u64, u64)>,
    capacity: u64,
    weighted: bool,
    mistake: Mistake,
    /// Peeks have shared access, and one mistake is that they change something.
    peeked: Mutex<Vec<u64>>,
}

impl Wrong {
    fn weight_of(&self, value: u64) -> u64 {
        if self.weighted { weight_of(value) } else { 1 }
    }

    fn bound(&self) -> u64 {
        match self.mistake {
            M::HoldsOneTooMany => self.capacity + 1,
            M::HoldsOneTooFew => self.capacity.saturating_sub(1),
            M::RoundsCapacityUp => self.capacity.next_power_of_two(),
            _ => self.capacity,
        }
    }

    fn held(&self) -> u64 {
        let weight = |&(_, value): &(u64, u64)| match self.mistake {
            M::IgnoresWeights => 1,
            _ => self.weight_of(value),
        };
        self.entries.iter().map(weight).sum()
    }

    fn position(&self, key: u64) -> Option<usize> {
        self.entries.iter().position(|&(held, _)| held == key)
    }

    fn settle_peeks(&mut self) {
        let peeked = std::mem::take(self.peeked.get_mut().unwrap());
        for key in peeked {
            if let Some(at) = self.position(key) {
                let entry = self.entries.remove(at);
                self.entries.push(entry);
            }
        }
    }
}

fn number<Q: Hash + Eq + ?Sized>(key: &Q, keys: impl IntoIterator<Item = u64>) -> Option<u64>
where
    u64: Borrow<Q>,
{
    keys.into_iter().find(|held| Borrow::<Q>::borrow(held) == key)
}

impl Cache<u64, u64> for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&u64>
    where
        u64: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut u64>
    where
        u64: Borrow<Q>,
    {
        self.settle_peeks();
        let key = number(key, self.entries.iter().map(|&(key, _)| key))?;
        let at = self.position(key)?;
        if self.mistake == M::HitDoesNotRenew {
            return Some(&mut self.entries[at].1);
        }
        let entry = self.entries.remove(at);
        self.entries.push(entry);
        self.entries.last_mut().map(|(_, value)| value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&u64>
    where
        u64: Borrow<Q>,
    {
        let key = number(key, self.entries.iter().map(|&(key, _)| key))?;
        if self.mistake == M::PeekRenews {
            self.peeked.lock().unwrap().push(key);
        }
        self.position(key).map(|at| &self.entries[at].1)
    }

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut u64>
    where
        u64: Borrow<Q>,
    {
        let key = number(key, self.entries.iter().map(|&(key, _)| key))?;
        let at = self.position(key)?;
        Some(&mut self.entries[at].1)
    }

    fn insert_with(&mut self, key: u64, value: u64, mut leave: impl FnMut(Departure<u64, u64>)) {
        self.settle_peeks();
        if self.weight_of(value) > self.bound() && self.mistake != M::IgnoresWeights {
            if self.mistake != M::KeepsTheStaleValueOfARefusedWrite
                && let Some(at) = self.position(key)
            {
                let (key, value) = self.entries.remove(at);
                leave(Departure { key, value, cause: Cause::Replaced });
            }
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        let found = self.position(key);
        if found.is_none()
            && self.mistake == M::RefusesNewcomersWhenFull
            && self.held() >= self.bound()
        {
            return leave(Departure { key, value, cause: Cause::Evicted });
        }
        match found {
            Some(at) if self.mistake == M::WriteDoesNotRenew => {
                let old = std::mem::replace(&mut self.entries[at].1, value);
                leave(Departure { key, value: old, cause: Cause::Replaced });
            }
            Some(at) => {
                let (_, old) = self.entries.remove(at);
                if self.mistake != M::LosesTheReplacedValue {
                    leave(Departure { key, value: old, cause: Cause::Replaced });
                }
                if self.mistake == M::TellsTwice {
                    leave(Departure { key, value: old, cause: Cause::Replaced });
                }
                if self.mistake == M::EvictsOnReplacement && !self.entries.is_empty() {
                    let (key, value) = self.entries.remove(0);
                    leave(Departure { key, value, cause: Cause::Evicted });
                }
                self.entries.push((key, value));
            }
            None => self.entries.push((key, value)),
        }
        while self.held() > self.bound() {
            let at = match self.mistake {
                M::EvictsTheNewest if self.entries.len() > 1 => self.entries.len() - 2,
                _ => 0,
            };
            let (key, value) = self.entries.remove(at);
            leave(Departure { key, value, cause: Cause::Evicted });
        }
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(u64, u64)>
    where
        u64: Borrow<Q>,
    {
        let key = number(key, self.entries.iter().map(|&(key, _)| key))?;
        let at = self.position(key)?;
        match self.mistake {
            M::KeepsWhatWasRemoved => Some(self.entries[at]),
            M::RemovesTheWrongKey => {
                let removed = self.entries[at];
                self.entries.remove((at + 1) % self.entries.len());
                Some(removed)
            }
            _ => Some(self.entries.remove(at)),
        }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn weight(&self) -> u64 {
        self.held() + u64::from(self.mistake == M::MiscountsWeight && self.entries.len() > 5)
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

struct Mistaken(Mistake);

impl Fixture for Mistaken {
    type Cache = Wrong;

    fn cache(&self, capacity: u64) -> Wrong {
        let weighted = self.weight_of(1) != 1;
        Wrong { entries: vec![], capacity, weighted, mistake: self.0, peeked: Mutex::default() }
    }

    fn weight_of(&self, value: u64) -> u64 {
        let by_weight = matches!(self.0, M::IgnoresWeights | M::KeepsTheStaleValueOfARefusedWrite);
        if by_weight { weight_of(value) } else { 1 }
    }
}

/// A right cache whose check is told that it is heavier than it says: what a drift looks like.
struct Drifts;

impl Fixture for Drifts {
    type Cache = LruCache<u64, u64, ByValue>;

    fn cache(&self, capacity: u64) -> Self::Cache {
        LruCache::weighted(capacity, by_value())
    }

    fn weight_of(&self, value: u64) -> u64 {
        weight_of(value) + u64::from(value > 100)
    }
}

/// Looks at the clock on writes only, as if nobody read in between.
struct ServesTheDead(LruCache<u64, (u64, u64)>, Option<u64>, ManualClock);

impl Cache<u64, u64> for ServesTheDead {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&u64>
    where
        u64: Borrow<Q>,
    {
        self.0.get(key).map(|(value, _)| value)
    }

    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut u64>
    where
        u64: Borrow<Q>,
    {
        self.0.get_mut(key).map(|(value, _)| value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&u64>
    where
        u64: Borrow<Q>,
    {
        self.0.peek(key).map(|(value, _)| value)
    }

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut u64>
    where
        u64: Borrow<Q>,
    {
        self.0.peek_mut(key).map(|(value, _)| value)
    }

    fn insert_with(&mut self, key: u64, value: u64, mut leave: impl FnMut(Departure<u64, u64>)) {
        let now = self.2.now_ms();
        let until = self.1.map_or(u64::MAX, |lifetime| now + lifetime);
        let dead: Vec<u64> =
            self.0.iter().filter(|(_, (_, until))| *until <= now).map(|(&key, _)| key).collect();
        for key in dead {
            if let Some((key, (value, _))) = self.0.remove(&key) {
                leave(Departure { key, value, cause: Cause::Expired });
            }
        }
        self.0.insert(key, (value, until));
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(u64, u64)>
    where
        u64: Borrow<Q>,
    {
        self.0.remove(key).map(|(key, (value, _))| (key, value))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn weight(&self) -> u64 {
        self.0.weight()
    }

    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

struct ServesTheDeadFixture;

impl expiry::Fixture for ServesTheDeadFixture {
    type Cache = ServesTheDead;

    fn cache(&self, capacity: u64, lifetime: Lifetime, clock: ManualClock) -> ServesTheDead {
        ServesTheDead(LruCache::new(capacity as usize), lifetime.after_write_ms, clock)
    }

    fn insert_for(&self, cache: &mut ServesTheDead, key: u64, value: u64, _: Option<u64>) {
        cache.insert(key, value);
    }
}

/// A right cache, set up wrongly.
#[derive(Clone, Copy)]
enum TimeMistake {
    EveryReadProlongs,
    JitterProlongs,
    OneLifetimeForAll,
    NobodyExpires,
}

struct MistimedFixture(TimeMistake);

impl expiry::Fixture for MistimedFixture {
    type Cache = Expiring<u64, LruCache<u64, Timed<u64>>, ManualClock>;

    fn cache(&self, capacity: u64, given: Lifetime, clock: ManualClock) -> Self::Cache {
        let lifetime = match self.0 {
            TimeMistake::EveryReadProlongs => {
                let after_access_ms = given.after_write_ms.max(given.after_access_ms);
                Lifetime { after_write_ms: None, after_access_ms, ..given }
            }
            TimeMistake::JitterProlongs => Lifetime {
                after_write_ms: given.after_write_ms.map(|lifetime| lifetime * 11 / 10),
                ..given
            },
            TimeMistake::OneLifetimeForAll => given,
            TimeMistake::NobodyExpires => Lifetime::default(),
        };
        Expiring::new(LruCache::new(capacity as usize), lifetime, clock)
    }

    fn insert_for(&self, cache: &mut Self::Cache, key: u64, value: u64, lifetime_ms: Option<u64>) {
        match self.0 {
            TimeMistake::OneLifetimeForAll => _ = cache.insert(key, value),
            _ => cache.insert_for(key, value, lifetime_ms, |_| {}),
        }
    }
}

/// One mutex around everything, and the listener is called while it is held.
struct TellsUnderTheLock {
    cache: Mutex<LruCache<u64, u64>>,
    listener: Listener<u64, u64>,
}

impl SharedCache<u64, u64> for TellsUnderTheLock {
    fn get(&self, key: &u64) -> Option<u64> {
        self.cache.lock().unwrap().get(key).copied()
    }

    fn insert_quietly(&self, key: u64, value: u64) -> Leaving<u64, u64> {
        let mut cache = self.cache.lock().unwrap();
        cache.insert_with(key, value, |departure| (self.listener)(&departure));
        Leaving::default()
    }

    fn remove(&self, key: &u64) -> Option<(u64, u64)> {
        self.cache.lock().unwrap().remove(key)
    }

    fn tell(&self, _: Leaving<u64, u64>) {}
}

struct TellsUnderTheLockFixture;

impl shared::Fixture for TellsUnderTheLockFixture {
    type Cache = TellsUnderTheLock;

    fn cache(&self, capacity: u64, listener: Listener<u64, u64>) -> TellsUnderTheLock {
        TellsUnderTheLock { cache: Mutex::new(LruCache::new(capacity as usize)), listener }
    }
}

/// Every shard rounds its share up.
struct RoundsSharesUp;

impl shared::Fixture for RoundsSharesUp {
    type Cache = Sharded<u64, u64, LruCache<u64, u64>>;

    fn cache(&self, capacity: u64, listener: Listener<u64, u64>) -> Self::Cache {
        let each = capacity.div_ceil(4);
        Sharded::new(capacity, 4, |_| LruCache::new(each as usize)).with_listener(listener)
    }
}

/// What is wrong with a loading cache.
#[derive(Clone, Copy, PartialEq)]
enum LoadMistake {
    EverybodyLoads,
    CachesErrors,
    OverwritesNewerValues,
    WaitsForADeadLeader,
}

/// Single flight with one `tokio::sync::Mutex` per key, as it is often sketched.
struct WrongLoading {
    values: Mutex<HashMap<u64, Result<u64, String>>>,
    gate: tokio::sync::Semaphore,
    mistake: LoadMistake,
}

impl loading::Subject for WrongLoading {
    async fn get_or_load(&self, key: u64, load: loading::Load) -> Result<u64, String> {
        if self.mistake != LoadMistake::EverybodyLoads {
            let permit = self.gate.acquire().await.map_err(|closed| closed.to_string())?;
            if let Some(result) = self.values.lock().unwrap().get(&key).cloned() {
                return result;
            }
            if self.mistake == LoadMistake::WaitsForADeadLeader {
                // Given back by hand at the end, and a cancelled or panicked load has no end.
                permit.forget();
            }
            let result = load.await;
            if result.is_ok() || self.mistake == LoadMistake::CachesErrors {
                self.values.lock().unwrap().insert(key, result.clone());
            }
            if self.mistake == LoadMistake::WaitsForADeadLeader {
                self.gate.add_permits(1);
            }
            return result;
        }
        let result = load.await;
        self.values.lock().unwrap().insert(key, result.clone());
        result
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.values.lock().unwrap().get(&key).and_then(|result| result.clone().ok())
    }

    fn insert(&self, key: u64, value: u64) {
        self.values.lock().unwrap().insert(key, Ok(value));
    }

    fn invalidate(&self, key: u64) {
        self.values.lock().unwrap().remove(&key);
    }
}

struct Loads(LoadMistake);

impl loading::Fixture for Loads {
    type Subject = WrongLoading;

    fn subject(&self, _: OnError) -> WrongLoading {
        let gate = tokio::sync::Semaphore::new(1);
        WrongLoading { values: Mutex::default(), gate, mistake: self.0 }
    }
}

pub(crate) fn add_to(suite: &mut Suite) {
    let mistakes = [
        ("hit_does_not_renew", M::HitDoesNotRenew, "a_hit_renews"),
        ("write_does_not_renew", M::WriteDoesNotRenew, "a_write_renews"),
        ("peek_renews", M::PeekRenews, "a_peek_does_not_renew"),
        ("peek_changes_victims", M::PeekRenews, "peeking_changes_nothing"),
        ("evicts_the_newest", M::EvictsTheNewest, "evicts_the_least_recently_used"),
        ("holds_one_too_many", M::HoldsOneTooMany, "never_exceeds_its_capacity"),
        ("holds_one_too_few", M::HoldsOneTooFew, "holds_exactly_its_capacity"),
        ("rounds_capacity_up", M::RoundsCapacityUp, "never_exceeds_its_capacity"),
        ("loses_the_replaced_value", M::LosesTheReplacedValue, "every_entry_leaves_exactly_once"),
        (
            "stale_after_refusal",
            M::KeepsTheStaleValueOfARefusedWrite,
            "too_heavy_takes_the_old_value_along",
        ),
        ("evicts_on_replacement", M::EvictsOnReplacement, "evicts_no_more_than_it_must"),
        ("tells_twice", M::TellsTwice, "replacing_hands_out_the_old_value"),
        ("keeps_what_was_removed", M::KeepsWhatWasRemoved, "a_removed_key_is_gone"),
        ("removes_the_wrong_key", M::RemovesTheWrongKey, "a_removed_key_is_gone"),
        ("miscounts_weight", M::MiscountsWeight, "never_exceeds_its_capacity"),
        ("ignores_weights", M::IgnoresWeights, "never_exceeds_its_capacity"),
        ("refuses_newcomers", M::RefusesNewcomersWhenFull, "what_was_just_put_in_is_in"),
    ];
    for (name, mistake, caught_by) in mistakes {
        let make = move || async move { Mistaken(mistake) };
        suite.wrong(name, caught_by, conformance::lru_promises, make);
    }
    add_wrong_times(suite);
    add_wrong_sharing(suite);
}

fn add_wrong_times(suite: &mut Suite) {
    suite.wrong("weight_drifts", "never_exceeds_its_capacity", conformance::promises, || async {
        Drifts
    });
    suite.wrong("serves_the_dead", "lives_as_long_as_promised", expiry::promises, || async {
        ServesTheDeadFixture
    });
    suite.wrong("every_read_prolongs", "lives_as_long_as_promised", expiry::promises, || async {
        MistimedFixture(TimeMistake::EveryReadProlongs)
    });
    suite.wrong("jitter_prolongs", "jitter_only_shortens", expiry::promises, || async {
        MistimedFixture(TimeMistake::JitterProlongs)
    });
    suite.wrong("one_lifetime_for_all", "an_entry_may_say_how_long", expiry::promises, || async {
        MistimedFixture(TimeMistake::OneLifetimeForAll)
    });
    suite.wrong("nobody_expires", "a_write_starts_a_new_life", expiry::promises, || async {
        MistimedFixture(TimeMistake::NobodyExpires)
    });
}

fn add_wrong_sharing(suite: &mut Suite) {
    suite.wrong(
        "tells_under_the_lock",
        "a_listener_may_use_the_cache",
        shared::promises,
        || async { TellsUnderTheLockFixture },
    );
    suite.wrong("rounds_shares_up", "the_total_capacity_is_exact", shared::promises, || async {
        RoundsSharesUp
    });
    suite.wrong(
        "everybody_loads",
        "ten_thousand_waiters_cause_one_load",
        loading::promises,
        || async { Loads(LoadMistake::EverybodyLoads) },
    );
    suite.wrong("caches_errors", "an_error_is_not_cached", loading::promises, || async {
        Loads(LoadMistake::CachesErrors)
    });
    suite.wrong(
        "overwrites_newer_values",
        "an_insert_during_a_load_wins",
        loading::promises,
        || async { Loads(LoadMistake::OverwritesNewerValues) },
    );
    suite.wrong(
        "waits_for_a_dead_leader",
        "a_cancelled_leader_has_one_successor",
        loading::promises,
        || async { Loads(LoadMistake::WaitsForADeadLeader) },
    );
}
