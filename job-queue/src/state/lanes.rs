//! Who is next: one lane per message group, taken in turn.
//!
//! A FIFO queue's lanes are *exclusive*: while one of its messages is leased a lane stays closed,
//! which is all that "in order, one batch in flight per group" takes. A standard queue's lanes are
//! open, and taking turns is what makes the queue fair between tenants. Messages without a group
//! share one lane.
//!
//! A lane is looked up by its group's name once, when a message enters; from then on the message
//! knows its number.
//!
//! Invariant: a lane stands in `turn` exactly once if it has a ready message and is open, so the
//! next message is found without passing by closed lanes: a hundred thousand blocked groups cost
//! nothing. A lane exists as long as a message knows it or it stands in the turn.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::message::{Content, Seq};

/// A lane of a queue, valid while a message is in it. Numbers of forgotten lanes are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneNumber(u32);

#[derive(Debug)]
pub(super) struct Lanes {
    exclusive: bool,
    numbers: HashMap<Arc<str>, LaneNumber, foldhash::fast::RandomState>,
    lanes: Vec<Lane>,
    unused: Vec<LaneNumber>,
    turn: VecDeque<LaneNumber>,
    ungrouped: Arc<str>,
    /// Reasons to wake a consumer since they were last taken.
    news: usize,
}

#[derive(Debug)]
struct Lane {
    name: Arc<str>,
    ready: Ready,
    leased: usize,
    /// Messages in the lane, wherever they stand.
    messages: usize,
    in_turn: bool,
}

/// Room that an empty lane keeps.
const KEPT: usize = 1_024;

/// A lane's ready messages in order. A message whose lease ran out returns to its old place, which
/// takes a tree; but most are taken as they came, and for those a queue will do.
#[derive(Debug, Default)]
struct Ready {
    came: VecDeque<Seq>,
    returned: BTreeSet<Seq>,
}

impl Ready {
    fn is_empty(&self) -> bool {
        self.came.is_empty() && self.returned.is_empty()
    }

    fn put(&mut self, seq: Seq) {
        if self.came.back().is_none_or(|&last| last < seq) {
            self.came.push_back(seq);
        } else {
            self.returned.insert(seq);
        }
    }

    fn take(&mut self) -> Option<Seq> {
        match (self.returned.first(), self.came.front()) {
            (Some(returned), Some(came)) if returned < came => self.returned.pop_first(),
            (Some(_), None) => self.returned.pop_first(),
            _ => {
                let taken = self.came.pop_front();
                // A backlog that is worked off gives its memory back.
                if self.came.is_empty() && self.came.capacity() > KEPT {
                    self.came = VecDeque::new();
                }
                taken
            }
        }
    }

    /// Cost: who leaves without being taken is past its retention or deleted after its lease, and
    /// so nearly always in the tree or at the front.
    fn remove(&mut self, seq: Seq) {
        if !self.returned.remove(&seq)
            && let Ok(at) = self.came.binary_search(&seq)
        {
            self.came.remove(at);
        }
    }
}

impl Lanes {
    pub(super) fn new(exclusive: bool) -> Self {
        Self {
            exclusive,
            numbers: HashMap::default(),
            lanes: Vec::new(),
            unused: Vec::new(),
            turn: VecDeque::new(),
            ungrouped: Arc::from(""),
            news: 0,
        }
    }

    pub(super) fn are_exclusive(&self) -> bool {
        self.exclusive
    }

    /// A message comes into its lane; it [leaves](Self::leave) when it is gone.
    pub(super) fn enter(&mut self, content: &Content) -> LaneNumber {
        let name = content.group.as_ref().unwrap_or(&self.ungrouped);
        let number = match self.numbers.get(name) {
            Some(&number) => number,
            None => {
                let lane = Lane {
                    name: Arc::clone(name),
                    ready: Ready::default(),
                    leased: 0,
                    messages: 0,
                    in_turn: false,
                };
                let number = match self.unused.pop() {
                    Some(number) => {
                        self.lanes[number.0 as usize] = lane;
                        number
                    }
                    None => {
                        self.lanes.push(lane);
                        LaneNumber(self.lanes.len() as u32 - 1)
                    }
                };
                self.numbers.insert(Arc::clone(name), number);
                number
            }
        };
        self.lane(number).messages += 1;
        number
    }

    /// The message is gone from its lane, where it was neither ready nor leased any more.
    pub(super) fn leave(&mut self, number: LaneNumber) {
        let lane = self.lane(number);
        lane.messages -= 1;
        if lane.messages == 0 && !lane.in_turn {
            self.forget(number);
        }
    }

    /// A message is ready.
    pub(super) fn put(&mut self, number: LaneNumber, seq: Seq) {
        self.lane(number).ready.put(seq);
        if !self.exclusive {
            self.news += 1;
        }
        self.offer(number);
    }

    /// How many consumers have something to do that they had not when this was last asked: one
    /// for each message that became ready; of an exclusive lane, one for the lane.
    pub(super) fn take_news(&mut self) -> usize {
        std::mem::take(&mut self.news)
    }

    /// A ready message is gone. The lane keeps its place: whoever's turn it is finds it empty.
    pub(super) fn withdraw(&mut self, number: LaneNumber, seq: Seq) {
        self.lane(number).ready.remove(seq);
    }

    /// One more of the lane's messages is leased.
    pub(super) fn lease(&mut self, number: LaneNumber) {
        self.lane(number).leased += 1;
    }

    /// One less. The lane is offered by whoever puts the message back or removes it.
    pub(super) fn release(&mut self, number: LaneNumber) {
        self.lane(number).leased -= 1;
    }

    pub(super) fn has_next(&self) -> bool {
        !self.turn.is_empty()
    }

    /// The lane whose turn it is. The caller takes from it and then [offers](Self::offer) it.
    pub(super) fn next(&mut self) -> Option<LaneNumber> {
        let number = self.turn.pop_front()?;
        self.lane(number).in_turn = false;
        Some(number)
    }

    /// The lane's oldest ready message.
    pub(super) fn take(&mut self, number: LaneNumber) -> Option<Seq> {
        self.lane(number).ready.take()
    }

    /// Gives the lane a place in the turn if it deserves one, and forgets an empty one.
    pub(super) fn offer(&mut self, number: LaneNumber) {
        let exclusive = self.exclusive;
        let lane = self.lane(number);
        if lane.in_turn {
            return;
        }
        let is_open = !exclusive || lane.leased == 0;
        if !lane.ready.is_empty() && is_open {
            lane.in_turn = true;
            self.turn.push_back(number);
            self.news += usize::from(exclusive);
        } else if lane.messages == 0 {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: LaneNumber) {
        let name = std::mem::take(&mut self.lane(number).name);
        // Else it is forgotten already: its last message left while it was its turn.
        if self.numbers.get(&name) == Some(&number) {
            self.numbers.remove(&name);
            self.unused.push(number);
        }
    }

    #[cfg(test)]
    pub(super) fn has(&self, number: LaneNumber, seq: Seq) -> bool {
        let ready = &self.lanes[number.0 as usize].ready;
        ready.returned.contains(&seq) || ready.came.contains(&seq)
    }

    /// Panics unless every open lane with a ready message stands in the turn once, and every lane
    /// has one name.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.numbers.len() + self.unused.len(), self.lanes.len());
        for (name, number) in &self.numbers {
            let lane = &self.lanes[number.0 as usize];
            assert_eq!(*name, lane.name);
            assert!(lane.messages > 0 || lane.in_turn, "lane {name:?} is kept for nobody");
            let times = self.turn.iter().filter(|other| *other == number).count();
            assert_eq!(times, usize::from(lane.in_turn), "lane {name:?}");
            let is_open = !self.exclusive || lane.leased == 0;
            let is_remembered = !is_open || lane.ready.is_empty() || lane.in_turn;
            assert!(is_remembered, "lane {name:?} is forgotten");
        }
    }

    fn lane(&mut self, number: LaneNumber) -> &mut Lane {
        &mut self.lanes[number.0 as usize]
    }
}
