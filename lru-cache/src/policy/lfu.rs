//! LFU: out goes what was used least often, ties by least recently.
//!
//! One list per frequency and the number of the lowest one in use make every step O(1) (Shah, Mitra
//! and Matani, 2010): a hit moves an entry one list up, a victim is the oldest of the lowest list.
//! Frequencies count while the entry is in; a key that returns starts again at one.
//! Cost: list surgery on every hit, and a list for every frequency in use.
//! Defeated by: change. Yesterday's favourites hold their counts and their seats until the cache is
//! replaced around them, which is why nobody runs plain LFU and [`super::wtinylfu`] ages its counts.

use super::{Policy, Slot};
use crate::lists::Lists;

/// Counting stops here, so that the vector of lists is bounded. Entries this popular compete by
/// recency.
const FREQUENCY_MAX: usize = 1 << 16;

/// Least frequently used.
#[derive(Default)]
pub struct Lfu {
    /// One list per frequency.
    by_frequency: Lists,
    /// No list below this one holds anything.
    lowest: usize,
}

impl Policy for Lfu {
    const NAME: &'static str = "lfu";

    fn new(_: u64) -> Self {
        Self::default()
    }

    fn hit(&mut self, slot: Slot) {
        let frequency = self.by_frequency.list_of(slot);
        self.by_frequency.renew((frequency + 1).min(FREQUENCY_MAX), slot);
    }

    fn victim(&mut self) -> Slot {
        // Hits only move entries up one list at a time, so this walk is paid for by earlier hits.
        loop {
            if let Some(victim) = self.by_frequency.pop_oldest(self.lowest) {
                return victim;
            }
            assert!(self.lowest <= FREQUENCY_MAX, "a victim is asked of a cache that holds some");
            self.lowest += 1;
        }
    }

    fn insert(&mut self, slot: Slot, _: u64, weight: u64) {
        self.by_frequency.push(1, slot, weight);
        self.lowest = 1;
    }

    fn remove(&mut self, slot: Slot) {
        self.by_frequency.remove(slot);
    }

    fn check(&self, resident: usize) -> Result<(), String> {
        if let Some(below) = (0..self.lowest).find(|&list| self.by_frequency.len(list) > 0) {
            return Err(format!("entries of frequency {below} below the lowest {}", self.lowest));
        }
        self.by_frequency.check(resident)
    }
}
