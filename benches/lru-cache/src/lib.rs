//! Questions about the LRU cache, and its answers compared.

mod compare;
mod questions;

use std::process::ExitCode;

use lru_cache::Cache;
use measure::System;

/// The registry entry of the LRU cache.
pub fn system() -> System {
    System {
        name: "lru-cache",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}

/// A reader's exact LRU, by `make` from a capacity, as one more row beside two of ours.
pub fn beside_ours<C: Cache<u64, u64> + 'static>(make: fn(u64) -> C) -> ExitCode {
    measure::beside("lru-cache", |bench| compare::beside_ours(bench, make))
}
