//! What redirects ask before anybody asks the store. Two answers: all links in memory
//! ([`index`](crate::index)), or those that were asked for lately ([`recent`](crate::recent)).
//!
//! Invariants, each a promise in `conformance::lookups`:
//! - what [`apply`](Lookup::apply) told is seen by every find that begins after it;
//! - whatever comes late, a reading of the past or an older version, changes nothing;
//! - however many ask for one code at once, the store is asked once.

use std::future::Future;

use crate::code::Code;
use crate::index::Index;
use crate::link::{Entry, Error, OwnedEntry};
use crate::recent::Recent;

/// What memory alone can say about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// There is such a link, perhaps a deleted one.
    Here(T),
    /// There never was one.
    Nowhere,
    /// The store has to be asked.
    AskTheStore,
}

/// A lookup of links by code.
pub trait Lookup: Send + Sync + 'static {
    /// Calls `read` with the entry of `code`, if it is in memory.
    ///
    /// # Cost
    /// Memory only.
    fn find_now<T>(&self, code: &str, read: impl FnOnce(Entry<'_>) -> T) -> Found<T>;

    /// The same, calling `ask` to read the entry from the store where memory cannot tell. `None`
    /// when there never was such a link.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when `ask` failed, here or for somebody who asked first.
    fn find<T: Send, F: Future<Output = Result<Option<OwnedEntry>, Error>> + Send>(
        &self,
        code: &Code,
        ask: impl FnOnce() -> F + Send,
        read: impl FnOnce(Entry<'_>) -> T + Send,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send;

    /// Takes note of a link as the store holds it since its last commit. Entries may come late,
    /// twice, and in any order.
    fn apply(&self, entry: Entry<'_>);
}

/// The lookup that the settings ask for.
pub enum AnyLookup {
    /// All links.
    All(Index),
    /// Those that were asked for lately.
    Recent(Recent),
}

impl AnyLookup {
    /// Whether all links are to be loaded at the start.
    pub fn wants_all(&self) -> bool {
        matches!(self, Self::All(_))
    }

    /// Codes in memory; for [`Recent`] with those that are known not to exist.
    pub fn len(&self) -> usize {
        match self {
            Self::All(index) => index.len(),
            Self::Recent(recent) => recent.len(),
        }
    }

    /// Whether nothing is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Lookup for AnyLookup {
    fn find_now<T>(&self, code: &str, read: impl FnOnce(Entry<'_>) -> T) -> Found<T> {
        match self {
            Self::All(index) => index.find_now(code, read),
            Self::Recent(recent) => recent.find_now(code, read),
        }
    }

    async fn find<T: Send, F: Future<Output = Result<Option<OwnedEntry>, Error>> + Send>(
        &self,
        code: &Code,
        ask: impl FnOnce() -> F + Send,
        read: impl FnOnce(Entry<'_>) -> T + Send,
    ) -> Result<Option<T>, Error> {
        match self {
            Self::All(index) => Lookup::find(index, code, ask, read).await,
            Self::Recent(recent) => recent.find(code, ask, read).await,
        }
    }

    fn apply(&self, entry: Entry<'_>) {
        match self {
            Self::All(index) => Lookup::apply(index, entry),
            Self::Recent(recent) => recent.apply(entry),
        }
    }
}
