//! Questions about the inventory, and its answers compared.

mod compare;
mod crowd;
mod over_http;
mod matrix;
mod cap;
mod crossover;
mod questions;

use measure::System;

/// The registry entry of the inventory.
pub fn system() -> System {
    System {
        name: "inventory-locking",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
