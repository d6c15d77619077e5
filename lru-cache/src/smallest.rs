//! The smallest LRU an interviewer accepts: a hash map from key to slot, and a list through the
//! slots in order of use.
//!
//! Both operations are O(1) because the map answers *where* and the list answers *who is oldest*,
//! and the list is doubly linked so that an entry can be taken out of the middle. Slots are indices
//! into a vector: the same structure as with pointers, without `unsafe` and without reference
//! counts.
//!
//! What it gives up: the key is stored twice, the standard hasher is slow, and every link is eight
//! bytes. [`crate::lru`] is the same idea with these three removed.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use crate::cache::{Cache, Cause, Departure};

struct Node<K, V> {
    key: K,
    value: V,
    newer: usize,
    older: usize,
}

/// An exact LRU in about sixty lines.
///
/// ```
/// use lru_cache::{Cache, SmallestLru};
///
/// let mut cache = SmallestLru::new(2);
/// cache.insert("a", 1);
/// cache.insert("b", 2);
/// cache.get("a"); // now "b" is the one used least recently
/// assert_eq!(cache.insert("c", 3).unwrap().key, "b");
/// ```
pub struct SmallestLru<K, V> {
    slot_of: HashMap<K, usize>,
    nodes: Vec<Node<K, V>>,
    /// The list is a ring: from the newest node through `older` back to the newest. A ring has no
    /// ends, so no link is ever missing and no branch asks whether it is.
    newest: usize,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> SmallestLru<K, V> {
    /// A cache for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { slot_of: HashMap::new(), nodes: Vec::new(), newest: 0, capacity }
    }

    /// Makes `slot` the newest: out of its place in the ring, and in again before the newest.
    fn touch(&mut self, slot: usize) {
        if slot != self.newest {
            self.unlink(slot);
            self.link_before_newest(slot);
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: usize) {
        let (newer, older) = (self.nodes[slot].newer, self.nodes[slot].older);
        self.nodes[newer].older = older;
        self.nodes[older].newer = newer;
    }

    fn link_before_newest(&mut self, slot: usize) {
        let newest = self.newest;
        let oldest = self.nodes[newest].newer;
        self.nodes[slot].older = newest;
        self.nodes[slot].newer = oldest;
        self.nodes[oldest].older = slot;
        self.nodes[newest].newer = slot;
    }
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> for SmallestLru<K, V> {
    fn name(&self) -> &'static str {
        "smallest"
    }

    fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_mut(key).map(|value| &*value)
    }

    fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = *self.slot_of.get(key)?;
        self.touch(slot);
        Some(&mut self.nodes[slot].value)
    }

    fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.slot_of.get(key).map(|&slot| &self.nodes[slot].value)
    }

    fn peek_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.slot_of.get(key).map(|&slot| &mut self.nodes[slot].value)
    }

    fn insert_with(&mut self, key: K, value: V, mut leave: impl FnMut(Departure<K, V>)) {
        if self.capacity == 0 {
            return leave(Departure { key, value, cause: Cause::TooHeavy });
        }
        if let Some(&slot) = self.slot_of.get(&key) {
            let value = std::mem::replace(&mut self.nodes[slot].value, value);
            self.touch(slot);
            return leave(Departure { key, value, cause: Cause::Replaced });
        }
        let slot = self.nodes.len();
        if slot < self.capacity {
            self.slot_of.insert(key.clone(), slot);
            self.nodes.push(Node { key, value, newer: slot, older: slot });
            if slot > 0 {
                self.link_before_newest(slot);
            }
            self.newest = slot;
            return;
        }
        // Full: the oldest entry's node becomes the new entry's node. In a ring the oldest sits
        // right before the newest, so it already is where the new entry belongs.
        let oldest = self.nodes[self.newest].newer;
        self.slot_of.insert(key.clone(), oldest);
        let node = &mut self.nodes[oldest];
        let key = std::mem::replace(&mut node.key, key);
        let value = std::mem::replace(&mut node.value, value);
        self.newest = oldest;
        self.slot_of.remove(&key);
        leave(Departure { key, value, cause: Cause::Evicted });
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let slot = self.slot_of.remove(key)?;
        if self.newest == slot {
            self.newest = self.nodes[slot].older;
        }
        self.unlink(slot);
        // The last node moves into the hole, so that the vector stays dense: whoever pointed at it
        // has to be told.
        let node = self.nodes.swap_remove(slot);
        let last = self.nodes.len();
        if slot != last {
            let (newer, older) = (self.nodes[slot].newer, self.nodes[slot].older);
            // A ring of one points at itself.
            self.nodes[if newer == last { slot } else { newer }].older = slot;
            self.nodes[if older == last { slot } else { older }].newer = slot;
            if self.newest == last {
                self.newest = slot;
            }
            let moved = self.slot_of.get_mut(self.nodes[slot].key.borrow());
            *moved.expect("every node is in the map") = slot;
        }
        Some((node.key, node.value))
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn weight(&self) -> u64 {
        self.nodes.len() as u64
    }

    fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    fn check(&self) -> Result<(), String> {
        if self.slot_of.len() != self.nodes.len() {
            return Err(format!("{} keys, {} nodes", self.slot_of.len(), self.nodes.len()));
        }
        let mut slot = self.newest;
        for step in 0..self.nodes.len() {
            let older = self.nodes[slot].older;
            if self.nodes[older].newer != slot {
                return Err(format!("slot {slot} and its older neighbour {older} disagree"));
            }
            if self.slot_of.get(&self.nodes[slot].key) != Some(&slot) {
                return Err(format!("slot {slot} is not where the map says"));
            }
            if older == self.newest && step + 1 != self.nodes.len() {
                return Err(format!("the ring closes after {} nodes", step + 1));
            }
            slot = older;
        }
        Ok(())
    }
}
