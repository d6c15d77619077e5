//! Where a key's slot is: a hash index that never moves an entry and never leaves a tombstone.
//!
//! The problem: a full LRU replaces one key by another on every miss, for ever. In an open-addressed
//! table each removal leaves a tombstone, tombstones fill the table, and sooner or later one unlucky
//! insert rehashes a million entries or doubles the memory.
//!
//! The idea (from F14, <https://engineering.fb.com/2019/04/25/developer-tools/f14/>): the table is an
//! array of *chunks* of one cache line, each with room for twelve slots and a one-byte tag for each.
//! A key that finds its chunk full goes to the next one, and every full chunk it went past counts it.
//! A search stops at a chunk that nobody went past; a removal walks the same path and uncounts. So
//! removing leaves the table exactly as if the key had never been in, and the size is fixed for ever.
//!
//! What it costs: a search reads one cache line, nearly always one. At [`ENTRIES_PER_CHUNK`] an entry
//! takes eight bytes here.

/// How many slots a chunk has room for: twelve tags, a four-byte count and twelve four-byte slots
/// fill a cache line.
const LANES: usize = 12;

/// How full chunks are on average when the index holds what it was sized for. Fuller saves memory
/// and sends more keys past their chunk: at 8 of 12 about one key in eighty, at 10 one in fourteen.
const ENTRIES_PER_CHUNK: usize = 8;

/// The tag of a lane that holds nothing.
const FREE: u8 = 0;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Chunk {
    /// The tags of lanes 0 to 7, a byte each.
    low_tags: u64,
    /// The tags of lanes 8 to 11.
    high_tags: u32,
    /// How many keys found this chunk full and live in a later one.
    went_past: u32,
    slots: [u32; LANES],
}

/// A set of lanes: bit 8j stands for lane j, bit 8j + 1 for lane 8 + j.
#[derive(Clone, Copy)]
struct Lanes(u64);

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit >> 3 | (bit & 1) << 3)
    }
}

const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;

/// The lowest bit of every byte that is zero. (Bit tricks instead of vector instructions, which
/// cannot be named in safe code; measured, they cost half a nanosecond.)
#[inline]
fn zero_bytes(word: u64) -> u64 {
    const LOW_SEVEN: u64 = 0x7f * EVERY_BYTE;
    !(((word & LOW_SEVEN) + LOW_SEVEN) | word) >> 7 & EVERY_BYTE
}

impl Chunk {
    const EMPTY: Chunk = Chunk { low_tags: 0, high_tags: 0, went_past: 0, slots: [0; LANES] };

    /// The lanes with this tag.
    #[inline]
    fn lanes_with(&self, tag: u8) -> Lanes {
        let pattern = u64::from(tag) * EVERY_BYTE;
        let high = u64::from(self.high_tags ^ pattern as u32) | 0xffff_ffff << 32;
        Lanes(zero_bytes(self.low_tags ^ pattern) | zero_bytes(high) << 1)
    }

    #[inline]
    fn lane_of(&self, hash: u64, slot: u32) -> Option<usize> {
        self.lanes_with(tag_of(hash)).find(|&lane| self.slots[lane] == slot)
    }

    fn tag(&self, lane: usize) -> u8 {
        if lane < 8 {
            (self.low_tags >> (8 * lane)) as u8
        } else {
            (self.high_tags >> (8 * (lane - 8))) as u8
        }
    }

    #[inline]
    fn set_tag(&mut self, lane: usize, tag: u8) {
        if lane < 8 {
            let shift = 8 * lane;
            self.low_tags = self.low_tags & !(0xff << shift) | u64::from(tag) << shift;
        } else {
            let shift = 8 * (lane - 8);
            self.high_tags = self.high_tags & !(0xff << shift) | u32::from(tag) << shift;
        }
    }
}

/// A set of slots, found by the hash of what the slot holds. The keys live with the caller.
#[derive(Clone)]
pub struct Index {
    chunks: Vec<Chunk>,
    len: usize,
}

impl Index {
    /// An index for `entries` slots. It does not grow by itself: see [`Index::room`].
    pub fn with_room_for(entries: usize) -> Self {
        let chunks = entries.div_ceil(ENTRIES_PER_CHUNK).max(1);
        Self { chunks: vec![Chunk::EMPTY; chunks], len: 0 }
    }

    /// How many slots it was sized for.
    pub fn room(&self) -> usize {
        self.chunks.len() * ENTRIES_PER_CHUNK
    }

    /// How many slots it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes it occupies, which only [`Index::with_room_for`] decides.
    pub fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
    }

    /// The chunk a hash starts at: its upper half, scaled to the number of chunks. A multiplication
    /// instead of a mask lets the table have any size, not only a power of two.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.chunks.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.chunks.len() { 0 } else { at + 1 }
    }

    /// The slot under `hash` for which `is_it` says yes. `is_it` is asked for every slot whose tag
    /// agrees, which is the right one and one wrong one in thirty.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let mut at = self.home(hash);
        // The bound only matters when every chunk has been gone past, which takes a hostile hash.
        for _ in 0..self.chunks.len() {
            let chunk = &self.chunks[at];
            for lane in chunk.lanes_with(tag) {
                if is_it(chunk.slots[lane]) {
                    return Some(chunk.slots[lane]);
                }
            }
            if chunk.went_past == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Adds a slot that is not in yet.
    ///
    /// # Panics
    /// When more than [`Index::room`] slots are in: the owner forgot to make room.
    #[inline]
    pub fn insert(&mut self, hash: u64, slot: u32) {
        assert!(self.len < self.room(), "the index is sized for {} slots", self.room());
        self.len += 1;
        let mut at = self.home(hash);
        loop {
            let chunk = &mut self.chunks[at];
            if let Some(lane) = chunk.lanes_with(FREE).next() {
                chunk.set_tag(lane, tag_of(hash));
                chunk.slots[lane] = slot;
                return;
            }
            chunk.went_past += 1;
            at = self.after(at);
        }
    }

    /// Takes a slot out that is in. Slots are compared, not keys: nothing of the owner is read.
    #[inline]
    pub fn remove(&mut self, hash: u64, slot: u32) {
        self.len -= 1;
        let mut at = self.home(hash);
        loop {
            let chunk = &mut self.chunks[at];
            if let Some(lane) = chunk.lane_of(hash, slot) {
                chunk.set_tag(lane, FREE);
                return;
            }
            assert!(chunk.went_past > 0, "slot {slot} is not in the index under this hash");
            chunk.went_past -= 1;
            at = self.after(at);
        }
    }

    /// Writes `to` where `from` was, for an entry that moved.
    pub fn relabel(&mut self, hash: u64, from: u32, to: u32) {
        let mut at = self.home(hash);
        loop {
            let chunk = &mut self.chunks[at];
            if let Some(lane) = chunk.lane_of(hash, from) {
                chunk.slots[lane] = to;
                return;
            }
            assert!(chunk.went_past > 0, "slot {from} is not in the index under this hash");
            at = self.after(at);
        }
    }

    /// Walks everything: each slot is where a search for its hash passes, and the counts add up.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self, hash_of: impl Fn(u32) -> u64) -> Result<(), String> {
        let mut went_past = vec![0u32; self.chunks.len()];
        let mut len = 0;
        for (at, chunk) in self.chunks.iter().enumerate() {
            for lane in (0..LANES).filter(|&lane| chunk.tag(lane) != FREE) {
                let (slot, hash) = (chunk.slots[lane], hash_of(chunk.slots[lane]));
                if chunk.tag(lane) != tag_of(hash) {
                    return Err(format!("slot {slot} carries another key's tag"));
                }
                let mut passing = self.home(hash);
                while passing != at {
                    went_past[passing] += 1;
                    passing = self.after(passing);
                }
                len += 1;
            }
        }
        if len != self.len {
            return Err(format!("the index says {} slots and holds {len}", self.len));
        }
        let wrong = (0..self.chunks.len()).find(|&at| self.chunks[at].went_past != went_past[at]);
        match wrong {
            Some(at) => Err(format!("chunk {at} miscounts the keys that went past it")),
            None => Ok(()),
        }
    }
}

/// Eight bits of the hash that do not choose the chunk, never [`FREE`].
#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Index};

    fn is_untouched(chunk: &Chunk) -> bool {
        (chunk.low_tags, chunk.high_tags, chunk.went_past) == (0, 0, 0)
    }

    /// Hashes that all start at one chunk: the worst case, and the one where counts go wrong first.
    #[test]
    fn colliding_keys_leave_nothing_behind() {
        let mut index = Index::with_room_for(64);
        for round in 0..50 {
            for slot in 0..60u32 {
                index.insert(u64::from(slot), slot);
            }
            index.check(u64::from).unwrap();
            for slot in (0..60u32).rev() {
                assert_eq!(index.find(u64::from(slot), |at| at == slot), Some(slot), "{round}");
                index.remove(u64::from(slot), slot);
                assert_eq!(index.find(u64::from(slot), |at| at == slot), None);
            }
            index.check(u64::from).unwrap();
            assert!(index.chunks.iter().all(is_untouched), "a trace is left");
        }
    }
}
