//! The contract: what every cache here promises, whatever it decides to throw out.
//!
//! A cache is a map with a bound. The bound is a total *weight*; with [`UnitWeight`], the default,
//! it is a number of entries. The promises, each of them a test in the conformance suite:
//!
//! * the total weight never exceeds the capacity when a call returns;
//! * a value read is the value last written under that key, or nothing;
//! * every entry that goes in comes out exactly once: it is still in, or it was handed to the
//!   caller as a [`Departure`] with the cause;
//! * an entry heavier than the whole cache is refused, and takes an older value of its key with it
//!   (a stale value would be worse than a miss).

use std::{borrow::Borrow, hash::Hash};

/// Why an entry left. The cause decides what a listener does: an evicted dirty page is written
/// back, a replaced one is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The policy chose it, to make room.
    Evicted,
    /// Its time was up.
    Expired,
    /// A newer value was written under the same key.
    Replaced,
    /// Somebody removed it.
    Removed,
    /// It never came in: it is heavier than the whole cache.
    TooHeavy,
}

/// An entry on its way out. Dropping it is up to the receiver, so that a slow `Drop` runs where the
/// receiver chooses: outside any lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure<K, V> {
    /// The key it was stored under.
    pub key: K,
    /// The value.
    pub value: V,
    /// Why it left.
    pub cause: Cause,
}

/// What an entry costs. Asked once, when the entry goes in: a weigher whose answer changes with
/// time could otherwise make the total drift.
pub trait Weigher<K, V> {
    /// How the weight is kept beside the entry; a zero-sized type when all weights are one.
    type Weight: Copy + Into<u64>;

    /// The weight of an entry. Zero counts as one, otherwise weightless entries would be unbounded.
    fn weigh(&self, key: &K, value: &V) -> Self::Weight;
}

/// Every entry weighs one: the capacity is a number of entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitWeight;

/// The weight one, in no bytes.
#[derive(Clone, Copy, Debug)]
pub struct One;

impl From<One> for u64 {
    fn from(_: One) -> u64 {
        1
    }
}

impl<K, V> Weigher<K, V> for UnitWeight {
    type Weight = One;

    #[inline]
    fn weigh(&self, _: &K, _: &V) -> One {
        One
    }
}

/// A weight that is at least one.
#[derive(Clone, Copy, Debug)]
pub struct AtLeastOne(u32);

impl AtLeastOne {
    /// `weight`, or one.
    pub fn new(weight: u32) -> Self {
        Self(weight.max(1))
    }
}

impl From<AtLeastOne> for u64 {
    fn from(weight: AtLeastOne) -> u64 {
        u64::from(weight.0)
    }
}

/// Weighs with a function, for example the size in bytes.
#[derive(Clone, Copy, Debug)]
pub struct WeighBy<F>(pub F);

impl<K, V, F: Fn(&K, &V) -> u32> Weigher<K, V> for WeighBy<F> {
    type Weight = AtLeastOne;

    #[inline]
    fn weigh(&self, key: &K, value: &V) -> AtLeastOne {
        AtLeastOne::new((self.0)(key, value))
    }
}

/// A bounded map that decides by itself what to forget.
pub trait Cache<K: Hash + Eq, V> {
    /// The name this answer goes by on the command line and in tables.
    fn name(&self) -> &'static str;

    /// The value under `key`, counted as a use. O(1).
    fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// As [`get`](Cache::get), to change the value in place. Its weight stays what it was.
    fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// The value under `key`, without telling the policy. O(1).
    fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// As [`peek`](Cache::peek), to change the value in place.
    fn peek_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Puts an entry in and hands every entry that had to leave for it to `leave`, oldest decision
    /// first. With [`UnitWeight`] at most one leaves. O(1), or O(departures) with weights.
    fn insert_with(&mut self, key: K, value: V, leave: impl FnMut(Departure<K, V>));

    /// Puts an entry in and returns what left for it. With weights several entries may leave: this
    /// returns the last and drops the others, [`insert_with`](Cache::insert_with) shows them all.
    fn insert(&mut self, key: K, value: V) -> Option<Departure<K, V>> {
        let mut last = None;
        self.insert_with(key, value, |departure| last = Some(departure));
        last
    }

    /// Takes an entry out. O(1).
    fn remove<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// How many entries are in.
    fn len(&self) -> usize;

    /// True when nothing is in.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The total weight of what is in; never above [`capacity`](Cache::capacity).
    fn weight(&self) -> u64;

    /// The bound, exactly as it was asked for.
    fn capacity(&self) -> u64;

    /// Walks the whole structure and says what is inconsistent. For tests; O(n).
    ///
    /// # Errors
    /// The first broken invariant, in words.
    fn check(&self) -> Result<(), String>;
}
