//! Questions about the LRU cache, and its answers compared.

mod compare;
mod questions;

use measure::System;

/// The registry entry of the LRU cache.
pub fn system() -> System {
    System {
        name: "lru-cache",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
