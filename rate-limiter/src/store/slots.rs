//! The table of callers behind the in-process answer: bounded, and it never forgets a caller that
//! is being limited.
//!
//! A slot is a 64-bit fingerprint of the key and the algorithm's state; the key itself is not
//! kept. Eviction removes *settled* callers only, those whose state equals that of a caller never
//! seen. An LRU cache in this place is a hole: flooding it with made-up keys evicts the denied
//! ones and gives them a full bucket back.
//!
//! Trade-off: two callers with the same fingerprint share a bucket. With a million callers in the
//! table the chance that a new one meets such a twin is 5e-14, once in centuries at a thousand new
//! callers per second; the fingerprint's seed is random per process, so nobody can look for one.

use hashbrown::HashTable;

use super::Opinion;
use crate::algorithm::{Algorithm, Micros, Wait};

/// Slots looked at for a settled caller whenever a new caller comes: two for every one that is
/// added keep the table from growing beyond about twice its live callers, without ever stopping
/// to sweep it.
const SWEEP_SLOTS: usize = 2;
/// Slots looked at before a new caller is refused because the table is full.
const SWEEP_SLOTS_WHEN_FULL: usize = 64;

/// One caller of one limit.
#[derive(Debug)]
struct Slot<S> {
    fingerprint: u64,
    state: S,
}

/// All callers of one limit in one shard.
#[derive(Debug)]
pub(super) struct Slots<A: Algorithm> {
    algorithm: A,
    table: HashTable<Slot<A::State>>,
    slots_max: usize,
    cursor: usize,
}

/// No slot is free, and none of the callers looked at has settled.
#[derive(Debug)]
pub(super) struct Full;

impl<A: Algorithm> Slots<A> {
    pub(super) fn new(algorithm: A, slots_max: usize) -> Self {
        Self { algorithm, table: HashTable::new(), slots_max, cursor: 0 }
    }

    /// Charges `cost` if the limit allows it: one lookup.
    pub(super) fn check(
        &mut self,
        fingerprint: u64,
        now: Micros,
        cost: u32,
    ) -> Result<Opinion, Full> {
        let Some(slot) = self.table.find_mut(fingerprint, |slot| slot.fingerprint == fingerprint)
        else {
            return self.check_new(fingerprint, now, cost);
        };
        let wait = self.algorithm.wait(&slot.state, now, cost);
        let mut delay_us = 0;
        if wait == Wait::Now {
            delay_us = self.algorithm.delay(&slot.state, now);
        }
        if wait == Wait::Now && cost > 0 {
            self.algorithm.charge(&mut slot.state, now, cost);
        }
        Ok(Opinion { wait, quota: self.algorithm.quota(&slot.state, now), delay_us })
    }

    #[cold]
    fn check_new(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Result<Opinion, Full> {
        let mut state = self.algorithm.fresh(now);
        let wait = self.algorithm.wait(&state, now, cost);
        if wait == Wait::Now && cost > 0 {
            self.make_room(now)?;
            self.algorithm.charge(&mut state, now, cost);
        }
        let quota = self.algorithm.quota(&state, now);
        if wait == Wait::Now && cost > 0 {
            let slot = Slot { fingerprint, state };
            self.table.insert_unique(fingerprint, slot, |slot| slot.fingerprint);
        }
        Ok(Opinion { wait, quota, delay_us: 0 })
    }

    /// What the limit says about `cost`, changing nothing.
    pub(super) fn ask(&self, fingerprint: u64, now: Micros, cost: u32) -> Opinion {
        let opinion = |state: &A::State| Opinion {
            wait: self.algorithm.wait(state, now, cost),
            quota: self.algorithm.quota(state, now),
            delay_us: self.algorithm.delay(state, now),
        };
        match self.table.find(fingerprint, |slot| slot.fingerprint == fingerprint) {
            Some(slot) => opinion(&slot.state),
            None => opinion(&self.algorithm.fresh(now)),
        }
    }

    /// Whether a charge to this caller is sure to find a slot.
    pub(super) fn has_room(&mut self, fingerprint: u64, now: Micros) -> Result<(), Full> {
        match self.table.find(fingerprint, |slot| slot.fingerprint == fingerprint) {
            Some(_) => Ok(()),
            None => self.make_room(now),
        }
    }

    /// Gives `cost` back. A caller that is not here has nothing to be given.
    pub(super) fn refund(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Opinion {
        let found = self.table.find_mut(fingerprint, |slot| slot.fingerprint == fingerprint);
        if let Some(slot) = found {
            self.algorithm.refund(&mut slot.state, now, cost);
        }
        Opinion { wait: Wait::Now, delay_us: 0, ..self.ask(fingerprint, now, 0) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes the table has allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.table.allocation_size()
    }

    fn make_room(&mut self, now: Micros) -> Result<(), Full> {
        self.sweep(now, SWEEP_SLOTS);
        if self.table.len() >= self.slots_max {
            self.sweep(now, SWEEP_SLOTS_WHEN_FULL);
        }
        if self.table.len() < self.slots_max { Ok(()) } else { Err(Full) }
    }

    fn sweep(&mut self, now: Micros, slots: usize) {
        for _ in 0..slots.min(self.table.num_buckets()) {
            self.cursor =
                if self.cursor + 1 < self.table.num_buckets() { self.cursor + 1 } else { 0 };
            if let Ok(entry) = self.table.get_bucket_entry(self.cursor)
                && self.algorithm.settles_after(&entry.get().state, now) == 0
            {
                entry.remove();
            }
        }
    }
}
