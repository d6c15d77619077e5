//! FIFO queues of slots: rings that are written at one end and read at the other.
//!
//! [`Lists`](crate::lists::Lists) can take a slot out of the middle of a queue and put it anywhere,
//! and pays with links all over memory. A policy that only ever takes the oldest reads and writes a
//! ring in order instead, which the processor fetches ahead by itself. Going round once more is a pop
//! and a push.
//!
//! An owner's removal leaves a hole, found through the position that each slot has noted, and skipped
//! when it comes up. Holes never outnumber what is in by more than 64: then the ring is
//! closed up, which costs less than the removals that made them. All operations are O(1) amortised.

use std::collections::VecDeque;

use crate::{lists::PerSlot, policy::Slot};

/// A ring is not closed up for fewer holes: without this a nearly empty one would do it all the time.
const HOLES_SPARED: usize = 64;

const HOLE: Slot = Slot::MAX;

/// A slot in a queue, and what its policy wants to know when it comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The slot.
    pub slot: Slot,
    /// The low half of its key's hash, for a ghost.
    pub hash: u32,
    /// Its weight.
    pub weight: u64,
}

#[derive(Default)]
struct Ring {
    waiting: VecDeque<Waiting>,
    /// How many have left at the old end, ever, in 32 bits that wrap round.
    left: u32,
    holes: usize,
    weight: u64,
}

/// Queues, numbered from zero, each slot in at most one of them.
#[derive(Default)]
pub struct Queues<const N: usize> {
    rings: Rings<N>,
    /// For each slot in a queue: how many had left or were before it when it came in.
    position: PerSlot<u32>,
}

struct Rings<const N: usize>([Ring; N]);

impl<const N: usize> Default for Rings<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Ring::default()))
    }
}

impl Ring {
    fn len(&self) -> usize {
        self.waiting.len() - self.holes
    }

    fn next_position(&self) -> u32 {
        self.left.wrapping_add(self.waiting.len() as u32)
    }
}

impl<const N: usize> Queues<N> {
    /// Appends to the new end of a queue.
    #[inline]
    pub fn push(&mut self, queue: usize, new: Waiting) {
        let ring = &mut self.rings.0[queue];
        *self.position.at(new.slot) = ring.next_position();
        ring.weight += new.weight;
        ring.waiting.push_back(new);
    }

    /// Takes the oldest out of a queue.
    #[inline]
    pub fn pop(&mut self, queue: usize) -> Option<Waiting> {
        let ring = &mut self.rings.0[queue];
        loop {
            let oldest = ring.waiting.pop_front()?;
            ring.left = ring.left.wrapping_add(1);
            if oldest.slot != HOLE {
                ring.weight -= oldest.weight;
                return Some(oldest);
            }
            ring.holes -= 1;
        }
    }

    /// Takes a slot out of the queue it is in.
    ///
    /// # Panics
    /// When it is in none.
    pub fn remove(&mut self, slot: Slot) {
        let position = *self.position.at(slot);
        let found = self.rings.0.iter_mut().position(|ring| {
            let at = position.wrapping_sub(ring.left) as usize;
            let Some(waiting) = ring.waiting.get_mut(at).filter(|at| at.slot == slot) else {
                return false;
            };
            ring.weight -= std::mem::replace(&mut waiting.weight, 0);
            waiting.slot = HOLE;
            ring.holes += 1;
            true
        });
        let queue = found.expect("a slot is removed from the queue it is in");
        let ring = &self.rings.0[queue];
        if ring.holes > ring.len() + HOLES_SPARED {
            self.close_up(queue);
        }
    }

    #[cold]
    fn close_up(&mut self, queue: usize) {
        let ring = &mut self.rings.0[queue];
        ring.waiting.retain(|waiting| waiting.slot != HOLE);
        ring.holes = 0;
        for (waiting, at) in ring.waiting.iter().zip(0..) {
            *self.position.at(waiting.slot) = ring.left.wrapping_add(at);
        }
    }

    /// How many slots are in a queue.
    pub fn len(&self, queue: usize) -> usize {
        self.rings.0[queue].len()
    }

    /// The sum of the weights in a queue.
    #[inline]
    pub fn weight(&self, queue: usize) -> u64 {
        self.rings.0[queue].weight
    }

    /// Walks every queue.
    ///
    /// # Errors
    /// The first inconsistency, or a total other than `resident`.
    pub fn check(&self, resident: usize) -> Result<(), String> {
        let total: usize = self.rings.0.iter().map(Ring::len).sum();
        if total != resident {
            return Err(format!("{resident} resident, {total} in queues"));
        }
        for (queue, ring) in self.rings.0.iter().enumerate() {
            let holes = ring.waiting.iter().filter(|waiting| waiting.slot == HOLE).count();
            let weight = ring.waiting.iter().map(|waiting| waiting.weight).sum::<u64>();
            if (holes, weight) != (ring.holes, ring.weight) || holes > ring.len() + HOLES_SPARED {
                return Err(format!("queue {queue} has {holes} holes, says {}", ring.holes));
            }
            for (waiting, at) in ring.waiting.iter().zip(0..) {
                let position = ring.left.wrapping_add(at);
                let noted = self.position.get(waiting.slot);
                if waiting.slot != HOLE && noted != Some(&position) {
                    return Err(format!("slot {} is not where it says", waiting.slot));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{HOLES_SPARED, Queues, Waiting};

    fn waiting(slot: u32) -> Waiting {
        Waiting { slot, hash: slot, weight: u64::from(slot) }
    }

    #[test]
    fn removals_from_the_middle_keep_the_order_and_do_not_pile_up() {
        let mut queues = Queues::<2>::default();
        (0..1_000).for_each(|slot| queues.push(slot as usize % 2, waiting(slot)));
        (0..1_000).filter(|slot| slot % 7 != 0).for_each(|slot| {
            queues.remove(slot);
            queues.check(queues.len(0) + queues.len(1)).unwrap();
        });
        let ring = &queues.rings.0[0];
        assert!(ring.waiting.len() <= 2 * ring.len() + HOLES_SPARED, "{}", ring.waiting.len());
        let out: Vec<u32> = std::iter::from_fn(|| queues.pop(0)).map(|out| out.slot).collect();
        let expected: Vec<u32> = (0..1_000).filter(|slot| slot % 14 == 0).collect();
        assert_eq!((out, queues.weight(0)), (expected, 0));
    }

    #[test]
    fn positions_wrap_round() {
        let mut queues = Queues::<1>::default();
        queues.rings.0[0].left = u32::MAX - 1;
        (0..5).for_each(|slot| queues.push(0, waiting(slot)));
        queues.remove(3);
        assert_eq!(queues.pop(0).map(|out| out.slot), Some(0));
        queues.check(3).unwrap();
        queues.remove(1);
        let out: Vec<u32> = std::iter::from_fn(|| queues.pop(0)).map(|out| out.slot).collect();
        assert_eq!(out, [2, 4]);
    }
}
