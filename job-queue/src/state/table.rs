//! Messages by number, those sent together lying together.
//!
//! Numbers grow, and a queue is mostly emptied in the order in which it was filled. A hash table by
//! number scatters neighbours over all of its memory: with a million messages every look at one
//! waits for memory several times. Here sixty-four consecutive numbers share a *page*, found by
//! hash, and a page's messages lie side by side, so that the next message is one the processor has
//! fetched already.
//!
//! A page holds only what was put into it, not a place for every number: the numbers are those of
//! all queues of a store, and a quiet queue has few of each sixty-four.
//!
//! Trade-off: what is taken out leaves a hole. Pages that are three quarters holes are packed, so
//! that a message that stays for days does not keep the room of its neighbours.

use hashbrown::HashMap;

use crate::message::Seq;

/// Numbers in a page: as many as there are bits in its map.
const PAGE: u64 = 64;
/// Pages of fewer places are not packed: there is nothing to gain.
const PACK_MIN: usize = 8;

#[derive(Debug)]
pub(super) struct Table<T> {
    pages: HashMap<u64, Page<T>, foldhash::fast::RandomState>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// Which of the page's numbers have a place, full or a hole. The place is the number of bits
    /// below.
    known: u64,
    places: Vec<Option<T>>,
    full: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: HashMap::default(), len: 0 }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&T> {
        let page = self.pages.get(&(seq.0 / PAGE))?;
        page.places[page.place(seq)?].as_ref()
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut T> {
        let page = self.pages.get_mut(&(seq.0 / PAGE))?;
        let place = page.place(seq)?;
        page.places[place].as_mut()
    }

    /// Puts in what was not there.
    pub(super) fn insert(&mut self, seq: Seq, value: T) {
        let page = self.pages.entry(seq.0 / PAGE).or_default();
        let (bit, place) = (bit(seq), page.rank(seq));
        if page.known & bit == 0 {
            page.known |= bit;
            page.places.insert(place, Some(value)); // nearly always at the end
        } else {
            page.places[place] = Some(value);
        }
        page.full += 1;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, seq: Seq) -> Option<T> {
        let number = seq.0 / PAGE;
        let page = self.pages.get_mut(&number)?;
        let place = page.place(seq)?;
        let removed = page.places[place].take()?;
        page.full -= 1;
        self.len -= 1;
        if page.full == 0 {
            self.pages.remove(&number);
        } else if page.places.len() >= PACK_MIN && page.full * 4 <= page.places.len() {
            page.pack();
        }
        Some(removed)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.pages.values().flat_map(|page| page.places.iter().flatten())
    }

    #[cfg(test)]
    fn places(&self) -> usize {
        self.pages.values().map(|page| page.places.len()).sum()
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { known: 0, places: Vec::new(), full: 0 }
    }
}

impl<T> Page<T> {
    fn rank(&self, seq: Seq) -> usize {
        (self.known & (bit(seq) - 1)).count_ones() as usize
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        (self.known & bit(seq) != 0).then(|| self.rank(seq))
    }

    /// Gives up the holes.
    fn pack(&mut self) {
        let mut known = 0;
        let mut left = self.known;
        let mut packed = Vec::with_capacity(self.full);
        for place in self.places.drain(..) {
            let lowest = left & left.wrapping_neg();
            left ^= lowest;
            if place.is_some() {
                known |= lowest;
                packed.push(place);
            }
        }
        (self.known, self.places) = (known, packed);
    }
}

fn bit(seq: Seq) -> u64 {
    1 << (seq.0 % PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((0..200_u64, any::<bool>()), 1..600)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (n, (number, put)) in steps.into_iter().enumerate() {
                let seq = Seq(number);
                if put && !model.contains_key(&seq) {
                    table.insert(seq, n);
                    model.insert(seq, n);
                } else if !put {
                    prop_assert_eq!(table.remove(seq), model.remove(&seq));
                }
                prop_assert_eq!(table.get_mut(seq).copied(), model.get(&seq).copied());
                prop_assert_eq!(table.len(), model.len());
            }
            for number in 0..200 {
                prop_assert_eq!(table.get(Seq(number)), model.get(&Seq(number)));
            }
            let mut values: Vec<_> = table.values().copied().collect();
            values.sort_unstable();
            let mut expected: Vec<_> = model.values().copied().collect();
            expected.sort_unstable();
            prop_assert_eq!(values, expected);
        }
    }

    #[test]
    fn a_message_that_stays_does_not_keep_the_room_of_those_that_left() {
        let mut table = Table::default();
        for number in 0..64_000 {
            table.insert(Seq(number), number);
        }
        for number in (0..64_000).filter(|number| number % 64 != 17) {
            table.remove(Seq(number));
        }
        assert_eq!(table.len(), 1_000);
        assert!(table.places() <= 8_000, "{} places for a thousand", table.places());
        assert_eq!(table.get(Seq(64 + 17)), Some(&(64 + 17)));
    }
}
