//! The contract: what every inventory in this crate promises, and the words it promises it in.
//!
//! Stock of a [`Sku`] is *available*, *held* for a reservation, or *sold*. A [`Reservation`]
//! holds several SKUs at once, or none of them, until its deadline; it ends exactly once, as
//! confirmed, cancelled or expired. Everything else in the crate is an *answer*: an
//! implementation of this trait that keeps the same promises at another price.
//!
//! Invariants, recomputed by [`Inventory::audit`]:
//! - I1: nothing is ever negative.
//! - I2: everything received and not taken away again is available, held or sold.
//! - I3: a reservation has one terminal state, and never leaves it.
//! - I4: held is the sum of the holds that have not ended, sold the sum of those confirmed.
//! - I5: the same key gives the same result, with one effect.
//! - I6: no hold is of use after its deadline, whether or not a sweeper ran.

use std::future::Future;

use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::Audit;
use crate::order::{Key, Order, ReservationId, Restock, Sku};

/// The stock of one SKU, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Item {
    /// Which.
    #[schema(value_type = String)]
    pub sku: Sku,
    /// In the warehouse: available or held.
    pub on_hand: u64,
    /// Free to be reserved.
    pub available: u64,
    /// Promised to reservations that have not ended.
    pub held: u64,
    /// Gone for good.
    pub sold: u64,
    /// Grows with every change of the numbers above: the ETag over HTTP.
    pub version: u64,
}

/// How a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The stock is promised until the deadline.
    Held,
    /// Sold.
    Confirmed,
    /// Given back by the customer.
    Cancelled,
    /// Given back by the clock.
    Expired,
}

impl State {
    /// Every state, as stored: the index is the number in the database.
    pub const ALL: [Self; 4] = [Self::Held, Self::Confirmed, Self::Cancelled, Self::Expired];

    /// As text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    pub(crate) fn code(self) -> i16 {
        self as i16
    }

    pub(crate) fn from_code(code: i16) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

/// A promise of stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Chosen by the answer before the first attempt, so that a lost reply can be looked up.
    pub id: ReservationId,
    /// How it stands. A hold past its deadline reads as expired, swept or not.
    pub state: State,
    /// What was asked for.
    pub order: Order,
    /// When it was granted, on the store's clock.
    pub granted_at_ms: u64,
    /// The first moment at which it can no longer be confirmed.
    pub expires_at_ms: u64,
}

impl Reservation {
    /// As it was when granted: what a repeat of the same request gets, byte for byte.
    #[must_use]
    pub fn as_granted(self) -> Self {
        let expires_at_ms = self.granted_at_ms + self.order.ttl_ms;
        Self { state: State::Held, expires_at_ms, ..self }
    }
}

/// What [`Inventory::reserve`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The reservation as it was granted.
    pub reservation: Reservation,
    /// Whether the key had been used: nothing was taken this time.
    pub replayed: bool,
}

/// An inventory. Cheap to share: every method takes `&self`, and every method is one atomic step.
///
/// # Errors
/// Every method may return [`Error::Unavailable`] (the store did not answer; repeat it, with the
/// same key where there is one) and [`Error::Busy`] (nothing was done; repeat it later).
pub trait Inventory: Send + Sync + 'static {
    /// Starts to keep stock of `sku`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    fn create(&self, sku: Sku, on_hand: u64) -> impl Future<Output = Result<Item, Error>> + Send;

    /// The stock now. Holds past their deadline do not count, whether or not a sweeper ran.
    ///
    /// # Errors
    /// [`Error::UnknownSku`].
    fn item(&self, sku: &Sku) -> impl Future<Output = Result<Item, Error>> + Send;

    /// Adds stock. With a key, a repeat adds nothing and returns the stock as it is.
    ///
    /// # Errors
    /// [`Error::UnknownSku`]; [`Error::KeyReused`]; [`Error::Invalid`] beyond
    /// [`STOCK_MAX`](crate::order::STOCK_MAX).
    fn restock(
        &self,
        sku: &Sku,
        restock: Restock,
    ) -> impl Future<Output = Result<Item, Error>> + Send;

    /// Sets what is in the warehouse, after a count. `expected` is the version the caller looked
    /// at: the optimistic lock of whoever edits, carried through to the database.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody changed the item since; [`Error::BelowHeld`] when the
    /// promises made exceed `on_hand`; [`Error::UnknownSku`]; [`Error::Invalid`].
    fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<Item, Error>> + Send;

    /// Holds every line of `order` until its time to live is over, or nothing.
    ///
    /// Checked in this order: the key, then the lines in SKU order, so the same request gets the
    /// same error from every answer. Repeating a request with its key returns the reservation as
    /// granted. A refusal is not remembered: a repeat may succeed.
    ///
    /// # Errors
    /// [`Error::SoldOut`], [`Error::UnknownSku`], [`Error::KeyReused`].
    ///
    /// # Cost
    /// The point of this crate: see the comparison.
    fn reserve(&self, order: Order) -> impl Future<Output = Result<Grant, Error>> + Send;

    /// The reservation now.
    ///
    /// # Errors
    /// [`Error::UnknownReservation`].
    fn reservation(
        &self,
        id: ReservationId,
    ) -> impl Future<Output = Result<Reservation, Error>> + Send;

    /// Turns the hold into a sale. A repeat returns the same.
    ///
    /// # Errors
    /// [`Error::Expired`] from the deadline on, [`Error::Ended`] when it was cancelled,
    /// [`Error::UnknownReservation`].
    fn confirm(&self, id: ReservationId)
    -> impl Future<Output = Result<Reservation, Error>> + Send;

    /// Gives the stock back. A repeat returns the same.
    ///
    /// # Errors
    /// [`Error::Expired`] from the deadline on, [`Error::Ended`] when it was confirmed,
    /// [`Error::UnknownReservation`].
    fn cancel(&self, id: ReservationId) -> impl Future<Output = Result<Reservation, Error>> + Send;

    /// Moves the deadline to `ttl_ms` from now.
    ///
    /// # Errors
    /// [`Error::Expired`], [`Error::Ended`], [`Error::UnknownReservation`], [`Error::Invalid`].
    fn extend(
        &self,
        id: ReservationId,
        ttl_ms: u64,
    ) -> impl Future<Output = Result<Reservation, Error>> + Send;

    /// Gives back the stock of at most `limit` holds whose deadline has passed; how many there
    /// were. Housekeeping only: nothing a caller can see depends on it, except that refusing
    /// gets slower when it never runs.
    fn expire_due(&self, limit: u32) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Recomputes every invariant from one snapshot and says what drifted.
    fn audit(&self) -> impl Future<Output = Result<Audit, Error>> + Send;
}

/// What can go wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong and will stay wrong: fix `field`.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault, as a JSON pointer without its leading slash (`lines/0/quantity`).
        field: String,
        /// What is wrong with it, as a sentence that starts with the field's name.
        reason: String,
    },
    /// No such SKU: create it, or fix the request.
    #[error("no item {0}")]
    UnknownSku(Sku),
    /// No such reservation.
    #[error("no reservation {0}")]
    UnknownReservation(ReservationId),
    /// The SKU is there already.
    #[error("item {0} exists")]
    Exists(Sku),
    /// Not enough is left: tell the customer. Nothing was held.
    #[error("{sku}: {requested} were asked for, {available} are available")]
    SoldOut {
        /// The first line that could not be met, in SKU order.
        sku: Sku,
        /// What it asked for.
        requested: u64,
        /// What there is.
        available: u64,
    },
    /// The item changed since it was read: read it again and decide again.
    #[error("{sku} is at version {current} now")]
    Conflict {
        /// Which.
        sku: Sku,
        /// Its version now.
        current: u64,
    },
    /// Fewer would be on hand than are promised: cancel reservations first.
    #[error("{held} of {sku} are held")]
    BelowHeld {
        /// Which.
        sku: Sku,
        /// How many are promised.
        held: u64,
    },
    /// The deadline has passed: reserve again.
    #[error("reservation {0} has expired")]
    Expired(ReservationId),
    /// The reservation had ended in another way.
    #[error("reservation {id} is {} already", state.as_str())]
    Ended {
        /// Which.
        id: ReservationId,
        /// How it ended.
        state: State,
    },
    /// The key belongs to another request: a mistake in the client.
    #[error("the key {0} was used with another request")]
    KeyReused(Key),
    /// Too many want the same at once. Nothing was done; repeat it after a pause. Never to be
    /// told to a customer as "sold out".
    #[error("{what}: try again in {retry_after_ms} ms")]
    Busy {
        /// Which bound was reached.
        what: String,
        /// When.
        retry_after_ms: u64,
    },
    /// The store did not answer. It may have done what it was asked: repeat it with the same key.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The client's own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable { what: source.to_string(), source: Some(Box::new(source)) }
    }

    /// A store that holds what this program cannot have written.
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Unavailable {
            what: format!("the stored data is damaged: {}", what.into()),
            source: None,
        }
    }
}
