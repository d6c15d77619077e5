//! # Implement an LRU cache
//!
//! A cache is a map with a bound, and the question is what to forget. Read in this order.

// The question, and the smallest answer.
pub mod cache;
pub mod smallest;

// The fast answer: a table that never grows, and a list through its entries.
pub mod table;
pub mod lru;

// Is LRU even the right policy?
pub mod lists;
pub mod policy;
pub mod policy_cache;

// Many threads, one cache.
mod sync;
pub mod shared;

// Forgetting by time.
pub mod clock;
pub mod timers;
pub mod expiry;

// Loading on a miss, once.
pub mod flight;
pub mod loading;

// Which one, for your traffic?
#[cfg(feature = "cli")]
pub mod sim;

// A cache you can talk to.
#[cfg(feature = "cli")]
pub mod resp;

// The proof: the promises as a suite, for our answers and for yours.
#[cfg(feature = "conformance")]
pub mod conformance;

pub use cache::{Cache, Cause, Departure, UnitWeight, WeighBy, Weigher};
pub use expiry::{Expiring, Lifetime};
pub use loading::{Loading, OnError};
pub use lru::LruCache;
pub use policy_cache::PolicyCache;
pub use shared::{ReadShared, Sharded};
pub use smallest::SmallestLru;
