//! Questions about the rate limiter, and its answers compared.

mod compare;
mod questions;

use measure::System;

/// The registry entry of the rate limiter.
pub fn system() -> System {
    System {
        name: "rate-limiter",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
