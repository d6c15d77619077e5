//! In process: the answer for one server, and the share every server falls back to when the
//! shared store is down.
//!
//! The keys are spread over shards, each a small table under its own lock, so that two threads
//! rarely meet. All limits of a policy live in the same shard, because "all or nothing" needs one
//! lock around them.

use std::hash::BuildHasher;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::slots::{Full, Slots};
use super::{Opinion, decide};
use crate::algorithm::Micros;
use crate::algorithm::concurrency::Concurrency;
use crate::algorithm::fixed_window::FixedWindow;
use crate::algorithm::gcra::Gcra;
use crate::algorithm::leaky_bucket::LeakyBucket;
use crate::algorithm::leaky_queue::LeakyQueue;
use crate::algorithm::sliding_counter::SlidingCounter;
use crate::algorithm::sliding_log::SlidingLog;
use crate::algorithm::token_bucket::TokenBucket;
use crate::clock::{Clock, Monotonic};
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Store};
use crate::policy::{AnyAlgorithm, Policy};

/// Callers tracked per policy unless told otherwise. At the bound, new callers are refused with
/// [`Error::Full`] until a tracked one settles; callers already tracked notice nothing.
pub const KEYS_MAX_DEFAULT: usize = 1_000_000;
/// Locks per policy. Enough that a handful of cores rarely wait for each other.
const SHARDS_MAX: usize = 64;
/// Below this many keys per shard a shard is too uneven to be bounded fairly.
const KEYS_PER_SHARD_MIN: usize = 64;

/// The in-process store.
#[derive(Debug)]
pub struct Memory<C = Monotonic> {
    clock: Arc<C>,
    keys_max: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Arc::new(Monotonic::default()), KEYS_MAX_DEFAULT)
    }
}

impl<C: Clock> Memory<C> {
    /// A store that tracks at most `keys_max` callers per policy, on `clock`.
    pub fn new(clock: Arc<C>, keys_max: usize) -> Self {
        Self { clock, keys_max }
    }
}

impl<C: Clock> Store for Memory<C> {
    type Limiter = MemoryLimiter<C>;

    fn limiter(&self, policy: Policy) -> MemoryLimiter<C> {
        MemoryLimiter::new(policy, Arc::clone(&self.clock), self.keys_max)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// One policy, enforced in process.
#[derive(Debug)]
pub struct MemoryLimiter<C = Monotonic> {
    policy: Policy,
    clock: Arc<C>,
    keys_max: usize,
    hasher: RandomState,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
}

/// The callers of a shard: one table per limit of the policy.
#[derive(Debug)]
struct Shard {
    limits: Box<[Table]>,
}

impl<C: Clock> MemoryLimiter<C> {
    /// Enforces `policy` on `clock` for at most `keys_max` callers.
    pub fn new(policy: Policy, clock: Arc<C>, keys_max: usize) -> Self {
        let shards = (keys_max / KEYS_PER_SHARD_MIN).clamp(1, SHARDS_MAX);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        let slots_max = keys_max.div_ceil(shards);
        let shard = |_| {
            let limits =
                policy.limits().iter().map(|limit| Table::new(limit.algorithm(), slots_max));
            CachePadded::new(Mutex::new(Shard { limits: limits.collect() }))
        };
        let shards = (0..shards).map(shard).collect();
        Self { policy, clock, keys_max, hasher: RandomState::default(), shards }
    }

    /// [`Limiter::check`] without the future: what a synchronous caller uses.
    ///
    /// # Errors
    /// [`Error::Full`] for a new caller when the table is full of callers being limited.
    pub fn check_now(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let (fingerprint, shard) = self.shard(key);
        let now = self.clock.now();
        let mut shard = shard.lock();
        let checked = match &mut *shard.limits {
            [only] => {
                only.check(fingerprint, now, cost).map(|opinion| decide([opinion].into_iter()))
            }
            _ => shard.check_all(fingerprint, now, cost),
        };
        checked.map_err(|Full| Error::Full { keys_max: self.keys_max })
    }

    /// Callers tracked now, over all limits.
    pub fn tracked(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().limits.iter().map(Table::len).sum::<usize>())
            .sum()
    }

    /// Bytes allocated for tracked callers, beyond the fixed size of the limiter.
    pub fn allocated_bytes(&self) -> usize {
        let bytes = |shard: &CachePadded<Mutex<Shard>>| -> usize {
            shard.lock().limits.iter().map(Table::allocated_bytes).sum()
        };
        self.shards.iter().map(bytes).sum()
    }

    fn shard(&self, key: Key<'_>) -> (u64, &Mutex<Shard>) {
        // Never zero, which marks a free slot.
        let fingerprint = self.hasher.hash_one(key.as_str()).max(1);
        // The low bits choose the shard; the high ones are the place in its array.
        let index = fingerprint as usize & (self.shards.len() - 1);
        (fingerprint, &self.shards[index])
    }
}

impl Shard {
    /// All or nothing: every limit is asked, and room is made, before the first one is charged.
    fn check_all(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Result<Decision, Full> {
        let asked = self.ask_all(fingerprint, now, cost);
        if !asked.allowed() || cost == 0 {
            return Ok(asked);
        }
        for limit in &mut self.limits {
            limit.has_room(fingerprint, now)?;
        }
        let mut charged = Vec::with_capacity(self.limits.len());
        for limit in &mut self.limits {
            charged.push(limit.check(fingerprint, now, cost)?);
        }
        Ok(decide(charged.into_iter()))
    }

    fn ask_all(&self, fingerprint: u64, now: Micros, cost: u32) -> Decision {
        decide(self.limits.iter().map(|limit| limit.ask(fingerprint, now, cost)))
    }
}

impl<C: Clock> Limiter for MemoryLimiter<C> {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.check_now(key, cost)
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        let (fingerprint, shard) = self.shard(key);
        Ok(shard.lock().ask_all(fingerprint, self.clock.now(), 1))
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        let (fingerprint, shard) = self.shard(key);
        let now = self.clock.now();
        let mut shard = shard.lock();
        let available = shard.limits.iter().map(|limit| limit.ask(fingerprint, now, 0));
        let available = available.map(|opinion| opinion.quota.remaining).min().unwrap_or(0);
        let granted = available.min(at_most);
        if granted == 0 {
            let decision = shard.ask_all(fingerprint, now, at_most.min(1));
            return Ok(Grant { granted, decision });
        }
        let decision = shard.check_all(fingerprint, now, granted);
        let decision = decision.map_err(|Full| Error::Full { keys_max: self.keys_max })?;
        Ok(Grant { granted, decision })
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let (fingerprint, shard) = self.shard(key);
        let now = self.clock.now();
        let mut shard = shard.lock();
        Ok(decide(shard.limits.iter_mut().map(|limit| limit.refund(fingerprint, now, cost))))
    }
}

/// The table of one limit, whichever its algorithm.
#[derive(Debug)]
enum Table {
    TokenBucket(Slots<TokenBucket>),
    Gcra(Slots<Gcra>),
    LeakyBucket(Slots<LeakyBucket>),
    LeakyQueue(Slots<LeakyQueue>),
    FixedWindow(Slots<FixedWindow>),
    SlidingLog(Slots<SlidingLog>),
    SlidingCounter(Slots<SlidingCounter>),
    Concurrency(Slots<Concurrency>),
}

/// Runs the same expression on the slots of any algorithm.
macro_rules! each {
    ($table:expr, $slots:ident => $body:expr) => {
        match $table {
            Table::TokenBucket($slots) => $body,
            Table::Gcra($slots) => $body,
            Table::LeakyBucket($slots) => $body,
            Table::LeakyQueue($slots) => $body,
            Table::FixedWindow($slots) => $body,
            Table::SlidingLog($slots) => $body,
            Table::SlidingCounter($slots) => $body,
            Table::Concurrency($slots) => $body,
        }
    };
}

impl Table {
    fn new(algorithm: AnyAlgorithm, slots_max: usize) -> Self {
        match algorithm {
            AnyAlgorithm::TokenBucket(a) => Self::TokenBucket(Slots::new(a, slots_max)),
            AnyAlgorithm::Gcra(a) => Self::Gcra(Slots::new(a, slots_max)),
            AnyAlgorithm::LeakyBucket(a) => Self::LeakyBucket(Slots::new(a, slots_max)),
            AnyAlgorithm::LeakyQueue(a) => Self::LeakyQueue(Slots::new(a, slots_max)),
            AnyAlgorithm::FixedWindow(a) => Self::FixedWindow(Slots::new(a, slots_max)),
            AnyAlgorithm::SlidingLog(a) => Self::SlidingLog(Slots::new(a, slots_max)),
            AnyAlgorithm::SlidingCounter(a) => Self::SlidingCounter(Slots::new(a, slots_max)),
            AnyAlgorithm::Concurrency(a) => Self::Concurrency(Slots::new(a, slots_max)),
        }
    }

    fn check(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Result<Opinion, Full> {
        each!(self, slots => slots.check(fingerprint, now, cost))
    }

    fn ask(&self, fingerprint: u64, now: Micros, cost: u32) -> Opinion {
        each!(self, slots => slots.ask(fingerprint, now, cost))
    }

    fn has_room(&mut self, fingerprint: u64, now: Micros) -> Result<(), Full> {
        each!(self, slots => slots.has_room(fingerprint, now))
    }

    fn refund(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Opinion {
        each!(self, slots => slots.refund(fingerprint, now, cost))
    }

    fn len(&self) -> usize {
        each!(self, slots => slots.len())
    }

    fn allocated_bytes(&self) -> usize {
        each!(self, slots => slots.allocated_bytes())
    }
}
