//! # An inventory that never oversells
//!
//! *"Explain optimistic and pessimistic locking and when to use each; demonstrate them on
//! product inventory."* The answer in ten sentences:
//!
//! 1. Stock is available, held or sold; a [`Reservation`] moves it from the first to the second,
//!    all of its lines or none, until its deadline ([`inventory`]).
//! 2. A cart is merged and sorted at the door, so that no SKU is checked twice against the same
//!    stock and no two carts can deadlock ([`order`]).
//! 3. A reservation ends exactly once: confirmed, cancelled or expired ([`lifecycle`]).
//! 4. Optimistic: look, decide, write where the version is still the same; the loop encloses the
//!    transaction, and each attempt looks afresh (`answer/postgres/optimistic.rs`).
//! 5. Pessimistic: lock, look, write; everybody else waits (`answer/postgres/pessimistic.rs`).
//! 6. To take a quantity neither is needed: `SET available = available - q WHERE available >= q`
//!    (`answer/postgres/conditional.rs`).
//! 7. On one hot row all of these hand the row over once per flush; only several rows
//!    (`buckets.rs`, `units.rs`) or one transaction for all who wait ([`batch`]) lift that.
//! 8. A loser waits in a window that learns, and a budget ends storms ([`backoff`]); a hot SKU's
//!    buyers wait before the pool ([`admission`]).
//! 9. A connection that breaks during COMMIT is looked up by id and key, never guessed
//!    (`answer/postgres/stop.rs`).
//! 10. Expiry is decided by one clock inside the transaction; a hold past its deadline is worth
//!     nothing, whether or not a sweeper ran ([`ledger`]).
//!
//! Those who come too late can be turned away before the database, by a gate that may be wrong in
//! one direction only ([`answer::gated`]).
//!
//! Every answer keeps the same promises (`conformance`), and the counters are recomputed from
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
