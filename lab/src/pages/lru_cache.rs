//! The page of the LRU cache.

use super::{Lab, Page};

/// Not built yet.
pub(super) async fn page(_lab: &Lab) -> anyhow::Result<Page> {
    Ok(Page::new(
        "lru-cache",
        "LRU cache",
        "An in-memory cache with O(1) get and put that stays fast when many threads share it. Then: expiry, memory limits, and a hit rate under scans.",
    ))
}
