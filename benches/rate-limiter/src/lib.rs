//! Questions about the rate limiter, and its answers compared.

mod beside;
mod compare;
mod questions;

pub use beside::beside_ours;
use measure::System;

/// The registry entry of the rate limiter.
pub fn system() -> System {
    System {
        name: "rate-limiter",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
