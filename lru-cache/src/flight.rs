//! One load of one key, and everybody who waits for it: the state machine, without locks.
//!
//! ```text
//!              join                       land(value)
//!   (no flight) ──► flying, led by one ──────────────► landed: every waiter gets the value
//!                      ▲          │
//!                      │          │ the leader failed, panicked or was cancelled
//!                      │          ▼
//!                      └── the longest waiting one leads;    nobody waits: the flight is over
//! ```
//!
//! Leadership is handed to *one named* waiter, it is never up for grabs: so a dead leader causes
//! exactly one new load, and a waiter that is promoted and then dropped before it noticed still knows
//! that it has something to hand on.

use std::{collections::VecDeque, task::Waker};

/// One participant of one flight.
pub type Ticket = u64;

/// A load in progress.
#[derive(Debug)]
pub struct Flight<R> {
    leader: Option<Ticket>,
    /// Who waits, in order of arrival, and how to wake them.
    waiting: VecDeque<(Ticket, Option<Waker>)>,
    landed: Option<R>,
    next: Ticket,
}

/// What a participant finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat<R> {
    /// Load, then [`Flight::land`] or [`Flight::leave`].
    Lead,
    /// Wait to be woken.
    Wait,
    /// It is over, this is the result.
    Landed(R),
}

impl<R: Clone> Flight<R> {
    /// A flight whose first participant, with the ticket returned, leads.
    pub fn take_off() -> (Self, Ticket) {
        (Self { leader: Some(0), waiting: VecDeque::new(), landed: None, next: 1 }, 0)
    }

    /// One more participant, who waits.
    pub fn join(&mut self) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back((ticket, None));
        ticket
    }

    /// What `ticket` is to do now. If that is to wait, `waker` will be woken when it changes.
    pub fn seat(&mut self, ticket: Ticket, waker: &Waker) -> Seat<R> {
        if let Some(result) = &self.landed {
            return Seat::Landed(result.clone());
        }
        if self.leader == Some(ticket) {
            return Seat::Lead;
        }
        // Tickets are handed out in order and leave from anywhere, so the queue stays sorted.
        if let Ok(at) = self.waiting.binary_search_by_key(&ticket, |&(ticket, _)| ticket) {
            self.waiting[at].1 = Some(waker.clone());
        }
        Seat::Wait
    }

    /// The result is known: everybody can go. Wake those returned, outside any lock.
    #[must_use = "the waiters sleep until they are woken"]
    pub fn land(&mut self, result: R) -> Vec<Waker> {
        if self.landed.is_none() {
            self.landed = Some(result);
        }
        self.leader = None;
        self.waiting.drain(..).filter_map(|(_, waker)| waker).collect()
    }

    /// The result, if it landed.
    pub fn landed(&self) -> Option<&R> {
        self.landed.as_ref()
    }

    /// `ticket` goes away. If it led, the one who waited longest leads from now on.
    pub fn leave(&mut self, ticket: Ticket) -> Left {
        if let Ok(at) = self.waiting.binary_search_by_key(&ticket, |&(ticket, _)| ticket) {
            self.waiting.remove(at);
        }
        if self.leader != Some(ticket) {
            return Left::Quietly;
        }
        match self.waiting.pop_front() {
            Some((successor, waker)) => {
                self.leader = Some(successor);
                Left::HandedOver(waker)
            }
            None => {
                self.leader = None;
                Left::Empty
            }
        }
    }
}

/// What it meant that a participant went away.
#[derive(Debug)]
pub enum Left {
    /// Nothing: somebody else leads, or it has landed.
    Quietly,
    /// Another participant leads now. Wake it, outside any lock; without a waker it has not slept
    /// yet and will see for itself.
    HandedOver(Option<Waker>),
    /// Nobody is left. The flight is over and must not be joined any more.
    Empty,
}
