//! What to throw out: the question every cache answers differently.
//!
//! A policy never sees a key or a value. It is told that a *slot* was filled, hit or emptied, and it
//! is asked for a victim. That makes each policy a page of queue handling, testable by itself, and
//! [`PolicyCache`](crate::policy_cache::PolicyCache) the one place that stores entries.
//!
//! | file | idea | a hit writes | defeated by |
//! |---|---|---|---|
//! | [`fifo`] | oldest out | nothing | anything popular that is old |
//! | [`clock`] | oldest out, unless used since the hand last passed | one bit | a scan longer than the cache |
//! | [`sieve`] | as clock, but survivors stay where they are | one bit | recency: recent keys compete with a frozen past |
//! | [`lfu`] | least often used out | list links | yesterday's favourites |
//! | [`slru`] | a second use earns a protected seat | list links | loops longer than the cache |
//! | [`s3fifo`] | a small queue filters one-hit wonders | two bits | a second use that comes after the small queue passed |
//! | [`arc`] | recency and frequency share by what their ghosts say | list links | loops, mildly |
//! | [`wtinylfu`] | a newcomer must be more popular than the victim | list links and a sketch | sudden shifts to recency |
//! | [`opt`] | out goes what is needed last (needs the future) | - | nothing: it is the bound |

pub mod fifo;
pub mod clock;
pub mod sieve;
pub mod lfu;
pub mod slru;
pub mod s3fifo;
pub mod arc;
pub mod wtinylfu;
pub mod opt;
mod ghosts;
mod forgotten;
mod sketch;

pub use self::{
    arc::Arc, clock::Clock, fifo::Fifo, lfu::Lfu, s3fifo::S3Fifo, sieve::Sieve, slru::Slru,
    wtinylfu::WTinyLfu,
};

/// A place for one entry, numbered densely from zero and reused.
pub type Slot = u32;

/// Decides which slot is emptied next.
pub trait Policy {
    /// The name on the command line and in tables.
    const NAME: &'static str;

    /// A policy for a cache of this total weight.
    fn new(capacity: u64) -> Self;

    /// The entry in `slot` was used.
    fn hit(&mut self, slot: Slot);

    /// A key that is not in is about to be inserted. Called once, before any
    /// [`victim`](Policy::victim) for it: the moment to consult ghosts. `hash` stands for the key.
    fn miss(&mut self, hash: u64) {
        let _ = hash;
    }

    /// Chooses a slot and forgets it (except, perhaps, as a ghost). Only called while some slot is
    /// filled.
    fn victim(&mut self) -> Slot;

    /// The key announced by [`miss`](Policy::miss) is now in `slot`.
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64);

    /// The entry in `slot` was removed by its owner, and is no ghost: nobody will miss it.
    fn remove(&mut self, slot: Slot);

    /// Walks the policy's structure: exactly `resident` slots are filled and every queue is whole.
    ///
    /// # Errors
    /// The first broken invariant, in words.
    fn check(&self, resident: usize) -> Result<(), String>;
}

/// A policy whose hit moves nothing: it raises a counter that the next search for a victim reads.
/// Threads that share a lock for reading may do that together.
pub trait LazyPromotion: Policy {
    /// As [`Policy::hit`], with shared access.
    fn hit_shared(&self, slot: Slot);
}
