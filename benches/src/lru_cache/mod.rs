//! Questions about the lru-cache, and its answers compared.

use crate::System;

/// The registry entry of the lru-cache.
pub fn system() -> System {
    System { name: "lru-cache", questions: vec![], comparison: None }
}
