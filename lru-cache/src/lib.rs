//! # Implement an LRU cache
//!
//! *"Get and put in O(1). Then: make it thread-safe, add expiry and weights, load on a miss without a
//! stampede. And is LRU even the right policy?"* The answer in ten sentences:
//!
//! 1. A cache is a map with a bound ([`cache`]): a hash map says *where* an entry is, a doubly linked
//!    list says *who was used last*, and together every operation is O(1) ([`smallest`]).
//! 2. Laid out for the processor, entries lie in one vector and the list in another beside it, 24
//!    bytes for two numbers and two links; a full insert overwrites the oldest entry in place
//!    ([`lru`]).
//! 3. The index holds slots, not keys, with enough spare room that removals never make it grow: a
//!    cache that replaces for ever never allocates ([`index`]).
//! 4. Which entry to forget is a decision about slots, not about keys and values; eight policies make
//!    it differently ([`policy`]), and Belady's optimum says how far they are from the best.
//! 5. A hit in an LRU reorders the list, so sharing one needs a lock to read; policies whose hit only
//!    sets a bit let readers share the lock ([`shared`]).
//! 6. Shards split the capacity exactly, and whatever leaves is carried out of the lock before
//!    anybody's code runs.
//! 7. Entries expire by a look at the clock when they are read, and make room by a timer each, on a
//!    wheel, in O(1) ([`expiry`], [`timers`]).
//! 8. On a miss one caller loads and the others wait for it; leadership is handed to one named
//!    successor when it fails ([`flight`], [`loading`]).
//! 9. A write or an invalidation during a load wins, so what was read before it is never cached.
//! 10. Which policy is right is not a matter of opinion: the simulator runs your trace through all of
//!     them.

// The question, and the smallest answer.
pub mod cache;
pub mod smallest;

// The fast answer: an index that never grows, and a list through a vector of entries.
pub mod index;
pub mod lru;

// Is LRU even the right policy?
mod sync;
pub mod lists;
pub mod queues;
pub mod policy;
pub mod policy_cache;

// Many threads, one cache.
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
