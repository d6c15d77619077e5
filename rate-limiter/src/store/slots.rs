//! The table of callers behind the in-process answer: bounded, and it never forgets a caller that
//! is being limited.
//!
//! A slot is a 64-bit fingerprint of the key and the algorithm's state; the key itself is not
//! kept. Eviction removes *settled* callers only, those whose state equals that of a caller never
//! seen. An LRU cache in this place is a hole: flooding it with made-up keys evicts the denied
//! ones and gives them a full bucket back.
//!
//! The slots are one array, ordered by fingerprint. A fingerprint's home is its proportion of the
//! array, so a look-up reads one or two neighbouring cache lines, and growing is one pass from
//! front to back. With the hash table of a library each look-up reads its metadata first: one
//! more cache miss, which at a hundred thousand callers is a third of the price of a check.
//! Source: O. Amble and D. Knuth, "Ordered hash tables", The Computer Journal 17(2), 1974.
//!
//! Trade-off: two callers with the same fingerprint share a bucket. With a million callers in the
//! table the chance that a new one meets such a twin is 5e-14, once in centuries at a thousand new
//! callers per second; the fingerprint's seed is random per process, so nobody can look for one.

use super::Opinion;
use crate::algorithm::{Algorithm, Micros, Wait};

/// Slots looked at for a settled caller whenever a new caller comes: two for every one that is
/// added keep the table from growing beyond about twice its live callers, without ever stopping
/// to sweep it.
const SWEEP_SLOTS: usize = 2;
/// Slots looked at before a new caller is refused because the table is full.
const SWEEP_SLOTS_WHEN_FULL: usize = 64;
/// The table grows when seven eighths of it are taken, by a third: it is never emptier than about
/// two thirds afterwards.
const FILL: (usize, usize) = (7, 8);
const GROWTH: (usize, usize) = (4, 3);
/// Slots behind the last home, to begin with, for runs that reach over the end. Doubled where
/// that is not enough, so that even the worst fingerprints cost time and not memory.
const TAIL: usize = 32;

/// One caller of one limit. The fingerprint [`EMPTY`] marks a free slot.
#[derive(Debug, Default)]
struct Slot<S> {
    fingerprint: u64,
    state: S,
}

const EMPTY: u64 = 0;

/// All callers of one limit in one shard.
#[derive(Debug)]
pub(super) struct Slots<A: Algorithm> {
    algorithm: A,
    /// `homes` slots and behind them the tail.
    slots: Box<[Slot<A::State>]>,
    homes: usize,
    len: usize,
    slots_max: usize,
    cursor: usize,
}

/// No slot is free, and none of the callers looked at has settled.
#[derive(Debug)]
pub(super) struct Full;

impl<A: Algorithm> Slots<A> {
    pub(super) fn new(algorithm: A, slots_max: usize) -> Self {
        Self { algorithm, slots: free_slots(TAIL), homes: 0, len: 0, slots_max, cursor: 0 }
    }

    /// Charges `cost` if the limit allows it: one look-up.
    pub(super) fn check(
        &mut self,
        fingerprint: u64,
        now: Micros,
        cost: u32,
    ) -> Result<Opinion, Full> {
        let Ok(at) = self.find(fingerprint) else {
            return self.check_new(fingerprint, now, cost);
        };
        let state = &mut self.slots[at].state;
        let wait = self.algorithm.wait(state, now, cost);
        let mut delay_us = 0;
        if wait == Wait::Now {
            delay_us = self.algorithm.delay(state, now);
            if cost > 0 {
                self.algorithm.charge(state, now, cost);
            }
        }
        Ok(Opinion { wait, quota: self.algorithm.quota(state, now), delay_us })
    }

    #[cold]
    fn check_new(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Result<Opinion, Full> {
        let mut state = self.algorithm.fresh(now);
        let wait = self.algorithm.wait(&state, now, cost);
        let charged = wait == Wait::Now && cost > 0;
        if charged {
            self.make_room(now)?;
            self.algorithm.charge(&mut state, now, cost);
        }
        let quota = self.algorithm.quota(&state, now);
        if charged {
            self.insert(fingerprint, state);
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
        match self.find(fingerprint) {
            Ok(at) => opinion(&self.slots[at].state),
            Err(_) => opinion(&self.algorithm.fresh(now)),
        }
    }

    /// Whether a charge to this caller is sure to find a slot.
    pub(super) fn has_room(&mut self, fingerprint: u64, now: Micros) -> Result<(), Full> {
        match self.find(fingerprint) {
            Ok(_) => Ok(()),
            Err(_) => self.make_room(now),
        }
    }

    /// Gives `cost` back. A caller that is not here has nothing to be given.
    pub(super) fn refund(&mut self, fingerprint: u64, now: Micros, cost: u32) -> Opinion {
        if let Ok(at) = self.find(fingerprint) {
            self.algorithm.refund(&mut self.slots[at].state, now, cost);
        }
        Opinion { wait: Wait::Now, delay_us: 0, ..self.ask(fingerprint, now, 0) }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes the table has allocated; what a state holds on the heap is not in it.
    pub(super) fn allocated_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.slots)
    }

    fn make_room(&mut self, now: Micros) -> Result<(), Full> {
        self.sweep(now, SWEEP_SLOTS);
        if self.len >= self.slots_max {
            self.sweep(now, SWEEP_SLOTS_WHEN_FULL);
        }
        if self.len < self.slots_max { Ok(()) } else { Err(Full) }
    }

    fn sweep(&mut self, now: Micros, slots: usize) {
        for _ in 0..slots.min(self.slots.len()) {
            self.cursor = if self.cursor + 1 < self.slots.len() { self.cursor + 1 } else { 0 };
            let slot = &self.slots[self.cursor];
            if slot.fingerprint != EMPTY && self.algorithm.settles_after(&slot.state, now) == 0 {
                self.remove(self.cursor);
            }
        }
    }
}

/// The ordered array.
impl<A: Algorithm> Slots<A> {
    /// Where the fingerprint is, or where it would be put.
    #[inline]
    fn find(&self, fingerprint: u64) -> Result<usize, usize> {
        debug_assert_ne!(fingerprint, EMPTY);
        let home = home(fingerprint, self.homes);
        for (at, slot) in self.slots.iter().enumerate().skip(home) {
            if slot.fingerprint == fingerprint {
                return Ok(at);
            }
            if slot.fingerprint == EMPTY || slot.fingerprint > fingerprint {
                return Err(at);
            }
        }
        Err(self.slots.len())
    }

    fn insert(&mut self, fingerprint: u64, state: A::State) {
        if (self.len + 1) * FILL.1 > self.homes * FILL.0 {
            let homes = (self.homes * GROWTH.0 / GROWTH.1).max(self.homes + 8);
            self.rebuild(homes, self.slots.len() - self.homes);
        }
        let mut slot = Slot { fingerprint, state };
        while !self.shift_in(&mut slot) {
            self.rebuild(self.homes, 2 * (self.slots.len() - self.homes));
        }
        self.len += 1;
    }

    /// Puts `slot` in its place and moves the run behind it by one. False, and nothing changed,
    /// when the run ends at the end of the array.
    fn shift_in(&mut self, slot: &mut Slot<A::State>) -> bool {
        let (Ok(at) | Err(at)) = self.find(slot.fingerprint);
        let free = self.slots[at..].iter().position(|slot| slot.fingerprint == EMPTY);
        let Some(free) = free.map(|distance| at + distance) else { return false };
        self.slots[at..=free].rotate_right(1);
        self.slots[at] = std::mem::take(slot);
        true
    }

    /// Frees a slot and moves back the part of the run behind it that is not at home.
    fn remove(&mut self, at: usize) {
        let homes = self.homes;
        let at_home = |(at, slot): &(usize, &Slot<A::State>)| {
            slot.fingerprint == EMPTY || home(slot.fingerprint, homes) == *at
        };
        let end = self.slots.iter().enumerate().skip(at + 1).find(at_home);
        let end = end.map_or(self.slots.len(), |(end, _)| end);
        self.slots[at] = Slot::default();
        self.slots[at..end].rotate_left(1);
        self.len -= 1;
    }

    /// Moves all callers to an array of another size. They come in order, so each goes to its
    /// home or behind the one before it; a last run that is longer than the tail lengthens it.
    #[cold]
    fn rebuild(&mut self, homes: usize, tail: usize) {
        let old = std::mem::take(&mut self.slots).into_iter();
        let mut slots = Vec::with_capacity(homes + tail);
        for slot in old.filter(|slot| slot.fingerprint != EMPTY) {
            let home = home(slot.fingerprint, homes);
            while slots.len() < home {
                slots.push(Slot::default());
            }
            slots.push(slot);
        }
        let len = slots.len().max(homes + tail);
        slots.resize_with(len, Slot::default);
        (self.slots, self.homes) = (slots.into_boxed_slice(), homes);
    }
}

/// Where a fingerprint belongs: at its proportion of the homes.
#[inline]
fn home(fingerprint: u64, homes: usize) -> usize {
    // Below `homes`, so it fits.
    ((u128::from(fingerprint) * homes as u128) >> 64) as usize
}

fn free_slots<S: Default>(slots: usize) -> Box<[Slot<S>]> {
    std::iter::repeat_with(Slot::default).take(slots).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::algorithm::gcra::Gcra;
    use crate::algorithm::rate::Rate;

    /// Ordered, counted, nobody in front of their home, nobody behind a gap they could be in.
    fn check_structure(slots: &Slots<Gcra>) {
        let taken: Vec<_> =
            slots.slots.iter().enumerate().filter(|(_, slot)| slot.fingerprint != EMPTY).collect();
        assert_eq!(taken.len(), slots.len);
        assert!(taken.is_sorted_by(|(_, a), (_, b)| a.fingerprint < b.fingerprint));
        for &(at, slot) in &taken {
            let home = home(slot.fingerprint, slots.homes);
            assert!(home <= at);
            assert!(slots.slots[home..at].iter().all(|slot| slot.fingerprint != EMPTY));
        }
    }

    #[test]
    fn any_history_of_callers_leaves_the_array_ordered_and_everybody_findable() {
        let mut rng = fastrand::Rng::with_seed(7);
        // A narrow range of fingerprints makes long runs, the wide one ordinary ones, and the
        // last runs over the end of the array.
        for range in [1..400, 1..u64::MAX, u64::MAX - 3_000..u64::MAX] {
            let mut slots = Slots::new(Gcra::new(Rate::new(1, 1_000), 5), 10_000);
            let mut expected = HashSet::new();
            for step in 0..2_000 {
                let fingerprint = rng.u64(range.clone());
                match slots.find(fingerprint) {
                    Ok(at) if rng.bool() => {
                        slots.remove(at);
                        expected.remove(&fingerprint);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        slots.insert(
                            fingerprint,
                            Gcra::new(Rate::new(1, 1_000), 5).fresh(Micros(1)),
                        );
                        expected.insert(fingerprint);
                    }
                }
                if step % 50 == 0 {
                    check_structure(&slots);
                }
            }
            assert_eq!(slots.len(), expected.len());
            assert!(expected.iter().all(|&fingerprint| slots.find(fingerprint).is_ok()));
        }
    }

    #[test]
    fn settled_callers_make_room_and_limited_ones_never_do() {
        let gcra = Gcra::new(Rate::new(1, 1_000), 5);
        let mut slots = Slots::new(gcra, 100);
        for fingerprint in 1..=100_u64 {
            slots.check(fingerprint << 56, Micros(1_000_000), 5).expect("room");
        }
        assert!(slots.check(200 << 56, Micros(1_000_000), 1).is_err(), "nobody has settled yet");
        assert!(slots.check(200 << 56, Micros(1_005_000), 1).is_ok(), "everybody has");
    }
}
