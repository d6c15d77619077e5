//! Several queues over one set of slots, each slot in at most one of them.
//!
//! Every policy is made of queues: one for FIFO, two for SLRU, three for W-TinyLFU. The links live in
//! one vector indexed by slot, so moving an entry between queues writes a few numbers and allocates
//! nothing. Each queue knows its length and its weight, because policies share capacity by weight.

use crate::{
    policy::Slot,
    sync::{AtomicU8, Ordering::Relaxed},
};

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
    list: u32,
    weight: u64,
}

#[derive(Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
    len: usize,
    weight: u64,
}

const NO_ENDS: Ends = Ends { newest: NIL, oldest: NIL, len: 0, weight: 0 };
const UNLINKED: Link = Link { newer: NIL, older: NIL, list: NIL, weight: 0 };

/// Queues, numbered from zero.
#[derive(Default)]
pub struct Lists {
    links: Vec<Link>,
    ends: Vec<Ends>,
}

impl Lists {
    /// Appends `slot` to the new end of `list`.
    pub fn push(&mut self, list: usize, slot: Slot, weight: u64) {
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, UNLINKED);
        }
        if self.ends.len() <= list {
            self.ends.resize(list + 1, NO_ENDS);
        }
        let ends = &mut self.ends[list];
        let older = std::mem::replace(&mut ends.newest, slot);
        ends.len += 1;
        ends.weight += weight;
        if older == NIL {
            ends.oldest = slot;
        } else {
            self.links[older as usize].newer = slot;
        }
        debug_assert_eq!(self.links[slot as usize].list, NIL, "slot {slot} is in a list already");
        self.links[slot as usize] = Link { newer: NIL, older, list: list as u32, weight };
    }

    /// Takes `slot` out of the list it is in, and returns its weight.
    pub fn remove(&mut self, slot: Slot) -> u64 {
        let link = std::mem::replace(&mut self.links[slot as usize], UNLINKED);
        let ends = &mut self.ends[link.list as usize];
        ends.len -= 1;
        ends.weight -= link.weight;
        match link.newer {
            NIL => ends.newest = link.older,
            newer => self.links[newer as usize].older = link.older,
        }
        match link.older {
            NIL => ends.oldest = link.newer,
            older => self.links[older as usize].newer = link.newer,
        }
        link.weight
    }

    /// Moves `slot` to the new end of `list`.
    pub fn renew(&mut self, list: usize, slot: Slot) {
        let weight = self.remove(slot);
        self.push(list, slot, weight);
    }

    /// Takes the oldest slot out of `list`.
    pub fn pop_oldest(&mut self, list: usize) -> Option<Slot> {
        let oldest = self.oldest(list)?;
        self.remove(oldest);
        Some(oldest)
    }

    /// The slot that has been in `list` longest.
    pub fn oldest(&self, list: usize) -> Option<Slot> {
        self.ends.get(list).map(|ends| ends.oldest).filter(|&slot| slot != NIL)
    }

    /// The neighbour towards the new end.
    pub fn newer(&self, slot: Slot) -> Option<Slot> {
        Some(self.links[slot as usize].newer).filter(|&newer| newer != NIL)
    }

    /// The list `slot` is in.
    pub fn list_of(&self, slot: Slot) -> usize {
        self.links[slot as usize].list as usize
    }

    /// How many slots are in `list`.
    pub fn len(&self, list: usize) -> usize {
        self.ends.get(list).map_or(0, |ends| ends.len)
    }

    /// The sum of the weights in `list`.
    pub fn weight(&self, list: usize) -> u64 {
        self.ends.get(list).map_or(0, |ends| ends.weight)
    }

    /// Walks every list both ways.
    ///
    /// # Errors
    /// The first inconsistency, or a total other than `resident`.
    pub fn check(&self, resident: usize) -> Result<(), String> {
        let mut total = 0;
        for (list, ends) in self.ends.iter().enumerate() {
            let (mut slot, mut older, mut len, mut weight) = (ends.oldest, NIL, 0, 0);
            while slot != NIL && len <= ends.len {
                let link = &self.links[slot as usize];
                if link.list as usize != list || link.older != older {
                    return Err(format!("slot {slot} is linked wrongly in list {list}"));
                }
                len += 1;
                weight += link.weight;
                older = slot;
                slot = link.newer;
            }
            if (len, weight, older) != (ends.len, ends.weight, ends.newest) {
                return Err(format!("list {list} holds {len}, says {}", ends.len));
            }
            total += len;
        }
        let linked = self.links.iter().filter(|link| link.list != NIL).count();
        if total != resident || linked != resident {
            return Err(format!("{resident} resident, {total} in lists, {linked} linked"));
        }
        Ok(())
    }
}

/// A small value per slot.
#[derive(Default)]
pub struct PerSlot<T>(Vec<T>);

impl<T: Default> PerSlot<T> {
    /// The value of `slot`, if it has ever been asked for by [`PerSlot::at`].
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.0.get(slot as usize)
    }

    /// The value of `slot`, to read or change.
    #[inline]
    pub fn at(&mut self, slot: Slot) -> &mut T {
        if self.0.len() <= slot as usize {
            self.0.resize_with(slot as usize + 1, T::default);
        }
        &mut self.0[slot as usize]
    }
}

/// A small counter per slot that many threads may raise while they share a lock for reading.
#[derive(Default)]
pub struct Uses(PerSlot<AtomicU8>);

impl Uses {
    /// Raises the counter of `slot` by one, up to `most`. Once it is there nothing is written, so
    /// the cache line of a popular entry stays shared between cores: test before set.
    ///
    /// Two threads may read the same number and lose a use between them. The counter is a hint; an
    /// atomic addition would make every hit a write.
    #[inline]
    pub fn raise(&self, slot: Slot, most: u8) {
        if let Some(counter) = self.0.get(slot) {
            let uses = counter.load(Relaxed);
            if uses < most {
                counter.store(uses + 1, Relaxed);
            }
        }
    }

    /// The counter of `slot`, to change with exclusive access.
    #[inline]
    pub fn at(&mut self, slot: Slot) -> &mut u8 {
        self.0.at(slot).get_mut()
    }
}
