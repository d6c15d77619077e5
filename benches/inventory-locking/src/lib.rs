//! Questions about the inventory, and its answers compared.

mod beside;
mod compare;
mod crowd;
mod over_http;
mod matrix;
mod cap;
mod crossover;
mod questions;

pub use beside::beside_ours;
use measure::System;

/// The registry entry of the inventory.
pub fn system() -> System {
    System {
        name: "inventory-locking",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
