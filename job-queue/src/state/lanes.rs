//! Who is next: one lane per message group, taken in turn.
//!
//! A FIFO queue's lanes are *exclusive*: while one of its messages is leased a lane stays closed,
//! which is all that "in order, one batch in flight per group" takes. A standard queue's lanes are
//! open, and taking turns is what makes the queue fair between tenants. Messages without a group
//! share one lane.
//!
//! Invariant: a lane stands in `turn` exactly once if it has a ready message and is open, so the
//! next message is found without passing by closed lanes: a hundred thousand blocked groups cost
//! nothing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::message::{Content, Seq};

#[derive(Debug)]
pub(super) struct Lanes {
    exclusive: bool,
    lanes: HashMap<Arc<str>, Lane, foldhash::fast::RandomState>,
    turn: VecDeque<Arc<str>>,
    ungrouped: Arc<str>,
    /// Reasons to wake a consumer since they were last taken.
    news: usize,
}

/// A tree and not a deque: a message whose lease ran out returns to its old place.
#[derive(Debug, Default)]
struct Lane {
    ready: BTreeSet<Seq>,
    leased: usize,
    in_turn: bool,
}

impl Lanes {
    pub(super) fn new(exclusive: bool) -> Self {
        let ungrouped = Arc::from("");
        Self { exclusive, lanes: HashMap::default(), turn: VecDeque::new(), ungrouped, news: 0 }
    }

    pub(super) fn are_exclusive(&self) -> bool {
        self.exclusive
    }

    pub(super) fn of(&self, content: &Content) -> Arc<str> {
        Arc::clone(content.group.as_ref().unwrap_or(&self.ungrouped))
    }

    /// A message is ready.
    pub(super) fn put(&mut self, name: &Arc<str>, seq: Seq) {
        self.lane(name).ready.insert(seq);
        if !self.exclusive {
            self.news += 1;
        }
        self.offer(name);
    }

    /// How many consumers have something to do that they had not when this was last asked: one
    /// for each message that became ready; of an exclusive lane, one for the lane.
    pub(super) fn take_news(&mut self) -> usize {
        std::mem::take(&mut self.news)
    }

    /// A ready message is gone. The lane keeps its place: whoever's turn it is finds it empty.
    pub(super) fn withdraw(&mut self, name: &Arc<str>, seq: Seq) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.ready.remove(&seq);
        }
    }

    /// One more of the lane's messages is leased.
    pub(super) fn lease(&mut self, name: &Arc<str>) {
        self.lane(name).leased += 1;
    }

    /// One less. The lane is offered by whoever puts the message back or removes it.
    pub(super) fn release(&mut self, name: &Arc<str>) {
        self.lane(name).leased -= 1;
    }

    pub(super) fn has_next(&self) -> bool {
        !self.turn.is_empty()
    }

    /// The lane whose turn it is. The caller takes from it and then [offers](Self::offer) it.
    pub(super) fn next(&mut self) -> Option<Arc<str>> {
        let name = self.turn.pop_front()?;
        self.lane(&name).in_turn = false;
        Some(name)
    }

    /// The lane's oldest ready message.
    pub(super) fn take(&mut self, name: &Arc<str>) -> Option<Seq> {
        self.lanes.get_mut(name)?.ready.pop_first()
    }

    /// Gives the lane a place in the turn if it deserves one, and forgets an empty one.
    pub(super) fn offer(&mut self, name: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let is_open = !self.exclusive || lane.leased == 0;
        if !lane.ready.is_empty() && is_open && !lane.in_turn {
            lane.in_turn = true;
            self.turn.push_back(Arc::clone(name));
            if self.exclusive {
                self.news += 1;
            }
        } else if lane.ready.is_empty() && lane.leased == 0 && !lane.in_turn {
            self.lanes.remove(name);
        }
    }

    #[cfg(test)]
    pub(super) fn has(&self, name: &Arc<str>, seq: Seq) -> bool {
        self.lanes.get(name).is_some_and(|lane| lane.ready.contains(&seq))
    }

    /// Panics unless every open lane with a ready message stands in the turn once.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for (name, lane) in &self.lanes {
            let times = self.turn.iter().filter(|other| *other == name).count();
            assert_eq!(times, usize::from(lane.in_turn), "lane {name:?}");
            let is_open = !self.exclusive || lane.leased == 0;
            assert!(
                !is_open || lane.ready.is_empty() || lane.in_turn,
                "lane {name:?} is forgotten"
            );
        }
    }

    fn lane(&mut self, name: &Arc<str>) -> &mut Lane {
        self.lanes.entry_ref(name).or_default()
    }
}
