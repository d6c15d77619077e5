//! The life of a reservation as one pure function: what an action does, given the state, the
//! deadline and the time.
//!
//! Every answer asks this function under its own lock, so the table below is the same for all of
//! them. The deadline itself is outside the hold: at `expires_at_ms` it is too late.
//!
//! | | held | held, overdue | confirmed | cancelled | expired |
//! |---|---|---|---|---|---|
//! | confirm | confirmed | `Expired` | same again | `Ended` | `Expired` |
//! | cancel | cancelled | `Expired` | `Ended` | same again | `Expired` |
//! | extend | held | `Expired` | `Ended` | `Ended` | `Expired` |

use crate::inventory::{Error, Reservation, State};

/// What a caller may do with a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sell.
    Confirm,
    /// Give back.
    Cancel,
    /// Hold for this long from now.
    Extend {
        /// The new time to live.
        ttl_ms: u64,
    },
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has been done before: change nothing, return the reservation.
    Same,
    /// Write this state; the held stock is sold or given back accordingly.
    End(State),
    /// Write this deadline.
    Until(u64),
}

/// What `action` does to `reservation` at `now_ms`.
///
/// # Errors
/// [`Error::Expired`] and [`Error::Ended`], by the table of this module.
pub fn decide(reservation: &Reservation, action: Action, now_ms: u64) -> Result<Step, Error> {
    let id = reservation.id;
    match (seen(reservation.state, reservation.expires_at_ms, now_ms), action) {
        (State::Held, Action::Confirm) => Ok(Step::End(State::Confirmed)),
        (State::Held, Action::Cancel) => Ok(Step::End(State::Cancelled)),
        (State::Held, Action::Extend { ttl_ms }) => Ok(Step::Until(now_ms + ttl_ms)),
        (State::Confirmed, Action::Confirm) | (State::Cancelled, Action::Cancel) => Ok(Step::Same),
        (State::Expired, _) => Err(Error::Expired(id)),
        (state @ (State::Confirmed | State::Cancelled), _) => Err(Error::Ended { id, state }),
    }
}

/// The state a caller sees: a hold past its deadline is expired, whether or not anybody has
/// written that down.
pub fn seen(state: State, expires_at_ms: u64, now_ms: u64) -> State {
    match state {
        State::Held if expires_at_ms <= now_ms => State::Expired,
        state => state,
    }
}

/// What [`Reservation`]s look like from outside at `now_ms`.
pub(crate) fn as_seen(reservation: Reservation, now_ms: u64) -> Reservation {
    let state = seen(reservation.state, reservation.expires_at_ms, now_ms);
    Reservation { state, ..reservation }
}

/// The reservation after `step`.
pub(crate) fn stepped(mut reservation: Reservation, step: Step) -> Reservation {
    match step {
        Step::Same => {}
        Step::End(state) => reservation.state = state,
        Step::Until(expires_at_ms) => reservation.expires_at_ms = expires_at_ms,
    }
    reservation
}
