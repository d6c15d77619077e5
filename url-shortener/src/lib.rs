//! # A URL shortener
//!
//! *"Design a URL shortener: how are codes made, what does a redirect cost, what about a hundred
//! reads for each write, and who counts the clicks?"* The answer in ten sentences:
//!
//! 1. A link is a code that leads to a target; [`Links`] keeps them, and every race for a code is
//!    decided by a uniqueness constraint, never by a check before the insert ([`link`]).
//! 2. A target is stored as the WHATWG parser writes it, so that what was checked is what is sent
//!    ([`target_url`]).
//! 3. Codes come from a counter through a keyed permutation of exactly 62^7: no collisions, no
//!    lookup, and the order does not show ([`codes`]).
//! 4. Servers lease the counter in blocks of a thousand, so they never meet.
//! 5. Writes share an fsync: what queued during the last commit is in the next one
//!    ([`store::sqlite`]).
//! 6. Redirects read an index in memory that holds all links; the database is a log behind it
//!    ([`index`]). Beyond memory, a cache of those asked for lately takes its place ([`recent`]).
//! 7. A link with a limited number of visits is the exception: that number is exact only where it
//!    is kept, so each visit is charged there.
//! 8. A click is 24 bytes in a ring; ten times a second they are folded by link and day and
//!    committed as one batch ([`clicks`]).
//! 9. Unique visitors are HyperLogLog sketches that merge over days and servers; no address is
//!    stored.
//! 10. Everything above is a test over every store and every generator, and the wrong shorteners
//!     show that the tests can fail (`conformance`).

// The contract
pub mod link;
pub mod code;
pub mod target_url;

// How codes are made: one contract, six answers
pub mod codes;

// What a redirect is decided by
pub mod redirect;
pub mod lookup;
pub mod index;
pub mod recent;

// Counting without waiting
mod turns;
pub mod clicks;

// The stores
pub mod keys;
pub mod store;

// The parts put together
pub mod shortener;
pub mod http;

// The proof
#[cfg(feature = "conformance")]
pub mod conformance;

pub use code::Code;
pub use link::{Error, Link, Links};
pub use shortener::Shortener;
pub use store::Store;
pub use target_url::{TargetUrl, UrlPolicy};
