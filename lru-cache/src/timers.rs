//! A million timers, each set, cancelled and fired in constant time.
//!
//! A hierarchical timing wheel (Varghese and Lauck, 1987). Level 0 has a slot for each of the next 64
//! milliseconds, level 1 one for each of the next 64 stretches of 64 ms, and so on: a timer is put in
//! the level at which its time first differs from now, and moves a level down each time its stretch
//! begins. A timer moves at most once per level, so the cost is O(1) amortised, where a heap would
//! pay O(log n) for every entry that is replaced long before its time.

use crate::lists::Lists;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// 64^8 ms are 8,900 years. A later time is put at the end of that.
const LEVELS: usize = 8;
const SPAN_MS: u64 = 1 << (BITS * LEVELS as u32);

/// A timer that is set.
pub type TimerId = u32;

/// Timers, each with a key for the one who set it.
pub struct Timers<K> {
    /// One queue per level and slot.
    slots: Lists,
    /// Which slots of a level hold anything, as bits.
    occupied: [u64; LEVELS],
    timers: Vec<Option<(u64, K)>>,
    free: Vec<TimerId>,
    now_ms: u64,
}

impl<K> Timers<K> {
    /// No timers, at this time.
    pub fn starting_at(now_ms: u64) -> Self {
        Self {
            slots: Lists::default(),
            occupied: [0; LEVELS],
            timers: Vec::new(),
            free: Vec::new(),
            now_ms,
        }
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.timers.len() - self.free.len()
    }

    /// True when none is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets a timer. One in the past fires at the next [`Timers::fire`]. O(1).
    pub fn set(&mut self, due_ms: u64, key: K) -> TimerId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.timers.push(None);
            self.timers.len() as TimerId - 1
        });
        self.timers[id as usize] = Some((due_ms, key));
        self.place(id, due_ms);
        id
    }

    /// Cancels a timer that is set, and returns its key. O(1).
    pub fn cancel(&mut self, id: TimerId) -> K {
        let queue = self.slots.list_of(id);
        self.slots.remove(id);
        if self.slots.len(queue) == 0 {
            self.occupied[queue / SLOTS] &= !(1 << (queue % SLOTS));
        }
        self.free.push(id);
        self.timers[id as usize].take().expect("only a timer that is set is cancelled").1
    }

    /// The next timer that is due by `now_ms`, cancelled, with its key. Call until `None`.
    pub fn fire(&mut self, now_ms: u64) -> Option<(TimerId, K)> {
        loop {
            let Some((level, slot, begins_ms)) = self.next_occupied() else {
                self.now_ms = self.now_ms.max(now_ms);
                return None;
            };
            if begins_ms > now_ms {
                self.now_ms = self.now_ms.max(now_ms);
                return None;
            }
            self.now_ms = self.now_ms.max(begins_ms);
            let queue = level * SLOTS + slot;
            if level == 0 {
                let id = self.slots.oldest(queue).expect("an occupied slot holds a timer");
                return Some((id, self.cancel(id)));
            }
            // A stretch begins: all its timers move down, before any lower level is looked at.
            self.occupied[level] &= !(1 << slot);
            while let Some(id) = self.slots.pop_oldest(queue) {
                let due_ms = self.timers[id as usize].as_ref().map_or(0, |(due_ms, _)| *due_ms);
                self.place(id, due_ms);
            }
        }
    }

    fn place(&mut self, id: TimerId, due_ms: u64) {
        // A due time in the past goes where the present is; one beyond the wheel to its far end.
        let due_ms = due_ms.clamp(self.now_ms, self.now_ms.saturating_add(SPAN_MS / 2));
        let differs = (self.now_ms ^ due_ms) | (SLOTS as u64 - 1);
        let level = ((u64::BITS - 1 - differs.leading_zeros()) / BITS) as usize;
        let level = level.min(LEVELS - 1);
        let slot = (due_ms >> (BITS * level as u32)) as usize % SLOTS;
        self.slots.push(level * SLOTS + slot, id, 0);
        self.occupied[level] |= 1 << slot;
    }

    /// The first slot that holds anything: level, slot, and when its stretch begins.
    fn next_occupied(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let width = BITS * level as u32;
        let current = (self.now_ms >> width) as usize % SLOTS;
        let ahead = self.occupied[level].rotate_right(current as u32).trailing_zeros() as usize;
        let slot = (current + ahead) % SLOTS;
        let stretch = (self.now_ms >> width) + ahead as u64;
        Some((level, slot, stretch << width))
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;

    /// Against a sorted list: every timer fires, none early, none twice, at the first look after
    /// its time.
    #[test]
    fn every_timer_fires_at_the_first_look_after_its_time() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let start = random.u64(0..1 << 40);
            let (mut timers, mut expected, mut now) = (Timers::starting_at(start), vec![], start);
            for key in 0..300u64 {
                let bits = random.u32(0..34);
                let due = now + random.u64(0..1 << bits);
                expected.push((due, key, timers.set(due, key)));
                if random.bool() {
                    let bits = random.u32(0..30);
                    now += random.u64(0..1 << bits);
                }
                if random.u8(..) < 30 {
                    let (_, key, id) = expected.swap_remove(random.usize(0..expected.len()));
                    assert_eq!(timers.cancel(id), key);
                }
                let mut due_now: Vec<u64> =
                    std::iter::from_fn(|| timers.fire(now)).map(|(_, key)| key).collect();
                due_now.sort_unstable();
                let mut due: Vec<u64> = expected
                    .extract_if(.., |(due, ..)| *due <= now)
                    .map(|(_, key, _)| key)
                    .collect();
                due.sort_unstable();
                assert_eq!(due_now, due);
                assert_eq!(timers.len(), expected.len());
            }
        }
    }
}
