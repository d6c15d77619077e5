//! The links that were asked for lately: the lookup for data sets beyond memory.
//!
//! A bounded cache in front of the store, made of this workspace's [`lru_cache`]. That a code does
//! not exist is remembered like a link is, so that a dead link on a busy page costs the database
//! nothing; and a link that everybody misses at once is asked for once.
//!
//! A changed link is taken out, never replaced: whoever follows it next reads what the store holds
//! then. Putting the new entry in looks cheaper and goes wrong when two changes are committed in
//! one order and told in the other. A reading that was under way when the link was taken out
//! serves those who waited for it and is not kept.
//!
//! Trade-off: against the full index, a start that loads nothing and a memory that is as large as
//! you say; for it a miss costs a trip to the store, and an outage of the store is felt by every
//! visitor of a link that is not in memory. S3-FIFO decides what stays, because most codes of a
//! crawler or a scanner are asked for once: they pass through a tenth of the cache and push no
//! popular link out.

use std::future::Future;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru_cache::policy::S3Fifo;
use lru_cache::shared::{AsWeighed, Weighed};
use lru_cache::{Loading, OnError, PolicyCache, Sharded};

use crate::code::Code;
use crate::link::{Entry, Error, OwnedEntry};
use crate::lookup::{Found, Lookup};

/// Locks. Each guards its share of the bytes, so a share must hold many of the longest links.
const SHARDS: usize = 16;
/// The least that can be asked for: below it one shard could not hold a few of the longest links.
pub const BYTES_MIN: u64 = 1024 * 1024;
/// What an entry takes beside its strings: the key's and the entry's headers, its slot, its place
/// in the queues and in the table, and the ghost that outlives it. Measured: `tests/memory.rs`.
const ENTRY_BYTES: usize = 300;

/// `None`: the store said that there is no such link.
type Held = Weighed<Option<Arc<OwnedEntry>>>;
type Cache = Sharded<Box<str>, Held, PolicyCache<Box<str>, Held, S3Fifo, AsWeighed>>;

/// The lookup.
pub struct Recent {
    links: Loading<Box<str>, Held, Arc<Error>, Cache>,
}

impl Recent {
    /// A lookup that holds about this many bytes, at least [`BYTES_MIN`].
    pub fn new(bytes: u64) -> Self {
        let shard = |bytes| PolicyCache::with_parts(bytes, AsWeighed, RandomState::default());
        let cache = Sharded::new(bytes.max(BYTES_MIN), SHARDS, shard);
        // When the store is what fails, waiters that try again one after the other help nobody.
        Self { links: Loading::new(cache).on_error(OnError::EveryWaiterFails) }
    }

    /// Codes held, with those known not to exist.
    pub fn len(&self) -> usize {
        self.links.cache().len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn held(code: &Code, entry: Option<OwnedEntry>) -> Held {
    // The code is there twice: as the key, and in the entry.
    let strings = entry.as_ref().map_or(0, |entry| entry.code.len() + entry.target.len());
    let weight = ENTRY_BYTES + code.as_str().len() + strings;
    Weighed { value: entry.map(Arc::new), weight: weight as u32 }
}

impl Lookup for Recent {
    fn find_now<T>(&self, code: &str, read: impl FnOnce(Entry<'_>) -> T) -> Found<T> {
        match self.links.cache().get(code) {
            Some(Weighed { value: Some(entry), .. }) => Found::Here(read(entry.as_entry())),
            Some(Weighed { value: None, .. }) => Found::Nowhere,
            None => Found::AskTheStore,
        }
    }

    async fn find<T: Send, F: Future<Output = Result<Option<OwnedEntry>, Error>> + Send>(
        &self,
        code: &Code,
        ask: impl FnOnce() -> F + Send,
        read: impl FnOnce(Entry<'_>) -> T + Send,
    ) -> Result<Option<T>, Error> {
        let load = || async {
            metrics::counter!("url_shortener_store_lookups_total").increment(1);
            ask().await.map(|entry| held(code, entry)).map_err(Arc::new)
        };
        match self.links.get_or_load_async(code.as_str().into(), load).await {
            Ok(held) => Ok(held.value.map(|entry| read(entry.as_entry()))),
            Err(error) => Err(Error::unavailable("a look-up", error)),
        }
    }

    fn apply(&self, entry: Entry<'_>) {
        let held = self.find_now(entry.code, |held| held.version);
        if matches!(held, Found::Here(held) if held >= entry.version) {
            // Told twice, or late. Taking it out would be right as well, and cost a look-up.
            return;
        }
        self.links.invalidate(&entry.code.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{LinkId, Redirect, State, Version};

    fn entry<'a>(code: &'a str, target: &'a str) -> Entry<'a> {
        Entry {
            id: LinkId(7),
            version: Version::FIRST,
            state: State::Enabled,
            redirect: Redirect::Found,
            limited: false,
            expires_at_ms: None,
            code,
            target,
        }
    }

    async fn ask_for(recent: &Recent, number: u64) {
        let code = Code::base62(number, 7);
        let target = format!("https://example.com/{number:040}");
        let ask = || async { Ok(Some(entry(code.as_str(), &target).into())) };
        recent.find(&code, ask, |_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_asked_for_once_pushes_no_popular_link_out() {
        let recent = Recent::new(BYTES_MIN);
        for _ in 0..4 {
            for number in 0..500 {
                ask_for(&recent, number).await;
            }
        }
        for number in 1_000..100_000 {
            ask_for(&recent, number).await;
        }
        let held = |number| {
            let code = Code::base62(number, 7);
            recent.find_now(code.as_str(), |_| ()) == Found::Here(())
        };
        let popular = (0..500).filter(|number| held(*number)).count();
        assert!(popular > 450, "{popular} of 500 popular links are still there");
        assert!(recent.len() < 4_000, "{} links in a mebibyte", recent.len());
    }
}
