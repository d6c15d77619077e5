//! Questions about the url-shortener, and its code generators compared.

mod beside;
mod compare;
mod questions;

pub use beside::beside_ours;
use measure::System;

/// The registry entry of the url-shortener.
pub fn system() -> System {
    System {
        name: "url-shortener",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
