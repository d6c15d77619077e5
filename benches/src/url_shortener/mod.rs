//! Questions about the url-shortener, and its answers compared.

use crate::System;

/// The registry entry of the url-shortener.
pub fn system() -> System {
    System { name: "url-shortener", questions: vec![], comparison: None }
}
