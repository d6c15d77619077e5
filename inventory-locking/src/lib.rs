//! # An inventory that never oversells
//!
//! *"Explain optimistic and pessimistic locking and when to use each; demonstrate them on
//! product inventory."* The answer in ten sentences:
//!
//! 1. Stock is available, held or sold; a [`Reservation`] holds several SKUs at once, all or
//!    nothing, until its deadline ([`inventory`]).
//! 2. A cart is merged and sorted at the door, so that no SKU is checked twice against the same
//!    stock and no two carts can deadlock ([`order`]).
//! 3. A reservation ends exactly once: confirmed, cancelled or expired ([`lifecycle`]).
//! 4. Expiry is decided by one clock in one place; a hold past its deadline is worth nothing,
//!    whether or not a sweeper ran ([`ledger`]).
//!
//! Every answer keeps the same promises ([`conformance`]), and the counters are recomputed from
//! the ledger at any time ([`audit`]).

pub mod inventory;
pub mod order;
pub mod lifecycle;
pub mod audit;
pub mod ledger;
pub mod batch;
pub mod waiting;
pub mod slots;
pub mod backoff;
pub mod admission;
pub mod answer;
pub mod sweeper;
mod problems;
pub mod http;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use inventory::{Error, Grant, Inventory, Item, Reservation, State};
pub use order::{Key, Line, Lines, Order, ReservationId, Restock, Sku};
