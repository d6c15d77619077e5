//! The hash table under every cache here: entries never move, and removing leaves nothing behind.
//!
//! The problem: a full cache replaces one key by another on every miss, for ever. In the usual
//! open-addressed table each removal leaves a tombstone, tombstones fill the table, and sooner or
//! later one unlucky insert rehashes a million entries or doubles the memory.
//!
//! The idea (after F14, <https://engineering.fb.com/2019/04/25/developer-tools/f14/>): cells come in
//! chunks of seven. A chunk has a *head*, one 64-bit word: seven one-byte tags, and the count of keys
//! that found the chunk full and live further on. A search compares seven tags in a few instructions
//! and stops at the first chunk that nobody went past. A removal clears a tag and uncounts along the
//! same path, so the table is again as if the key had never been in, and its size is fixed for ever.
//!
//! Because entries never move, a cell's number is a pointer: the LRU's links are cell numbers and
//! need no second array. And because the number is never zero, `Option<T>` costs nothing for a `T`
//! that contains one: an LRU entry of two numbers is 24 bytes, its share of the table 35.
//!
//! What it gives up: the table does not grow; its owner makes a larger one.

use std::num::NonZeroU32;

/// Where an entry is. Cell zero is never used, so that an optional cell is four bytes too.
pub type Cell = NonZeroU32;

/// Tags in a head: one byte of eight is the count.
const LANES: usize = 7;

/// How many entries a chunk holds on average when the table holds what it was made for. Fuller saves
/// memory and sends more keys past their chunk: at 5 of 7 one in twenty.
const ENTRIES_PER_CHUNK: usize = 5;

/// The tag of an empty cell.
const FREE: u64 = 0;

const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;
const TOP_OF_TAGS: u64 = 0x0080_8080_8080_8080;
const COUNT_SHIFT: u32 = 56;

/// The count stays here once it gets here, because what went past can no longer be told. Searches
/// then go on for one chunk more than they need to.
const COUNT_MAX: u64 = 255;

/// A fixed-size hash table of `T`. Hashes and comparisons are the caller's.
#[derive(Clone, Debug)]
pub struct Table<T> {
    heads: Vec<u64>,
    cells: Vec<Option<T>>,
    len: usize,
}

impl<T> Table<T> {
    /// A table for `entries` entries, all memory allocated now.
    pub fn with_room_for(entries: usize) -> Self {
        let chunks = entries.div_ceil(ENTRIES_PER_CHUNK).max(1);
        assert!(chunks * LANES < u32::MAX as usize, "cells are numbered with 32 bits");
        let cells = std::iter::repeat_with(|| None).take(chunks * LANES + 1).collect();
        Self { heads: vec![0; chunks], cells, len: 0 }
    }

    /// How many entries it was made for, rounded up to a whole chunk.
    pub fn room(&self) -> usize {
        self.heads.len() * ENTRIES_PER_CHUNK
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes it occupies, which only [`Table::with_room_for`] decides.
    pub fn bytes(&self) -> usize {
        self.heads.capacity() * size_of::<u64>() + self.cells.capacity() * size_of::<Option<T>>()
    }

    /// The entry in a cell that is known to be filled.
    #[inline]
    pub fn at(&self, cell: Cell) -> &T {
        self.cells[cell.get() as usize].as_ref().expect("the cell is filled")
    }

    /// As [`Table::at`], to change it. What the hash was made of must not change.
    #[inline]
    pub fn at_mut(&mut self, cell: Cell) -> &mut T {
        self.cells[cell.get() as usize].as_mut().expect("the cell is filled")
    }

    /// The cell under `hash` whose entry `is_it`. It is asked for every entry whose tag agrees,
    /// which is the right one and a wrong one now and then.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<Cell> {
        let tags = tag_of(hash) * EVERY_BYTE;
        let home = self.home(hash);
        let mut at = home;
        loop {
            let head = self.heads[at];
            let mut lanes = zero_tags(head ^ tags);
            while lanes != 0 {
                let cell = cell_number(at, lane_of(lanes));
                if self.cells[cell].as_ref().is_some_and(&mut is_it) {
                    return Cell::new(cell as u32);
                }
                lanes &= lanes - 1;
            }
            if head >> COUNT_SHIFT == 0 {
                return None;
            }
            at = self.after(at);
            // Only reached when every chunk has been gone past, which takes a hostile hash.
            if at == home {
                return None;
            }
        }
    }

    /// Puts an entry in that is not in yet, and returns its cell.
    ///
    /// # Panics
    /// When [`Table::room`] is used up: the owner forgot to make room.
    #[inline]
    pub fn insert(&mut self, hash: u64, entry: T) -> Cell {
        assert!(self.len < self.room(), "the table was made for {} entries", self.room());
        self.len += 1;
        let mut at = self.home(hash);
        loop {
            let head = &mut self.heads[at];
            let free = zero_tags(*head ^ FREE);
            if free != 0 {
                let lane = lane_of(free);
                *head |= tag_of(hash) << (8 * lane);
                let cell = cell_number(at, lane);
                self.cells[cell] = Some(entry);
                return Cell::new(cell as u32).expect("cell zero is never used");
            }
            if *head >> COUNT_SHIFT < COUNT_MAX {
                *head += 1 << COUNT_SHIFT;
            }
            at = self.after(at);
        }
    }

    /// Takes an entry out. `hash` is the one it was inserted with; nothing is compared.
    #[inline]
    pub fn remove(&mut self, hash: u64, cell: Cell) -> T {
        let (chunk, lane) = chunk_and_lane(cell);
        self.heads[chunk] &= !(0xff << (8 * lane));
        self.len -= 1;
        let mut at = self.home(hash);
        while at != chunk {
            let head = &mut self.heads[at];
            if *head >> COUNT_SHIFT < COUNT_MAX {
                *head -= 1 << COUNT_SHIFT;
            }
            at = self.after(at);
        }
        self.cells[cell.get() as usize].take().expect("the cell is filled")
    }

    /// Every entry, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.cells.iter().flatten()
    }

    /// The chunk a hash starts at: its upper half, scaled to the number of chunks. A multiplication
    /// instead of a mask lets a table have any size, not only a power of two.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.heads.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.heads.len() { 0 } else { at + 1 }
    }

    /// Walks everything: each entry is where a search for its hash passes, and the counts add up.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self, hash_of: impl Fn(&T) -> u64) -> Result<(), String> {
        let mut went_past = vec![0u64; self.heads.len()];
        let mut len = 0;
        for (number, entry) in (0u32..).zip(&self.cells) {
            let Some(cell) = Cell::new(number) else { continue };
            let (chunk, lane) = chunk_and_lane(cell);
            let tag = self.heads.get(chunk).map_or(0, |head| head >> (8 * lane) & 0xff);
            let expected = entry.as_ref().map_or(FREE, |entry| tag_of(hash_of(entry)));
            if tag != expected {
                return Err(format!("cell {cell} has tag {tag}, its entry wants {expected}"));
            }
            if let Some(entry) = entry {
                len += 1;
                let mut passing = self.home(hash_of(entry));
                while passing != chunk {
                    went_past[passing] += 1;
                    passing = self.after(passing);
                }
            }
        }
        if len != self.len {
            return Err(format!("the table says {} entries and holds {len}", self.len));
        }
        for (chunk, (head, counted)) in self.heads.iter().zip(went_past).enumerate() {
            let says = head >> COUNT_SHIFT;
            if says != counted && says != COUNT_MAX {
                return Err(format!("{counted} keys went past chunk {chunk}, it says {says}"));
            }
        }
        Ok(())
    }
}

/// Eight bits of the hash that do not choose the chunk, never [`FREE`].
#[inline]
fn tag_of(hash: u64) -> u64 {
    (hash & 0xff).max(1)
}

/// The top bit of every tag that is zero. (Hacker's Delight, 6-1: bit tricks instead of vector
/// instructions, which safe code cannot name.)
///
/// Trap: a tag of one right above a zero tag is reported too. That is why a search compares keys
/// anyway, and why an insertion takes the lowest lane, which is always right.
#[inline]
fn zero_tags(head: u64) -> u64 {
    head.wrapping_sub(EVERY_BYTE) & !head & TOP_OF_TAGS
}

#[inline]
fn lane_of(lanes: u64) -> usize {
    (lanes.trailing_zeros() >> 3) as usize
}

#[inline]
fn cell_number(chunk: usize, lane: usize) -> usize {
    chunk * LANES + lane + 1
}

#[inline]
fn chunk_and_lane(cell: Cell) -> (usize, usize) {
    let number = cell.get() as usize - 1;
    (number / LANES, number % LANES)
}

#[cfg(test)]
mod tests {
    use super::Table;

    /// Hashes that all start at one chunk: the worst case, and the one where counts go wrong first.
    #[test]
    fn colliding_keys_leave_nothing_behind() {
        let mut table = Table::with_room_for(60);
        for round in 0..50u64 {
            let mut cells = Vec::new();
            for key in 0..60u64 {
                cells.push(table.insert(key, key));
            }
            table.check(|&key| key).unwrap();
            for (key, cell) in cells.into_iter().enumerate().rev() {
                let key = key as u64;
                assert_eq!(table.find(key, |&at| at == key), Some(cell), "round {round}");
                assert_eq!(table.remove(key, cell), key);
                assert_eq!(table.find(key, |&at| at == key), None);
            }
            table.check(|&key| key).unwrap();
            assert!(table.heads.iter().all(|&head| head == 0), "a trace is left");
        }
    }

    #[test]
    fn a_count_that_saturates_keeps_every_key_findable() {
        let mut table = Table::with_room_for(1000);
        let cells: Vec<_> = (0..1000u64).map(|key| table.insert(0, key)).collect();
        table.check(|_| 0).unwrap();
        for key in (0..1000u64).step_by(3) {
            table.remove(0, cells[key as usize]);
        }
        for key in 0..1000u64 {
            let expected = (key % 3 != 0).then(|| cells[key as usize]);
            assert_eq!(table.find(0, |&at| at == key), expected);
        }
        assert_eq!(table.find(1, |_| false), None, "a search for what is not in ends");
        table.check(|_| 0).unwrap();
    }
}
