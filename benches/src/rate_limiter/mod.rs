//! Questions about the rate limiter, and its answers compared.

mod compare;

use crate::System;

/// The registry entry of the rate limiter.
pub fn system() -> System {
    System { name: "rate-limiter", questions: vec![], comparison: Some(compare::comparison()) }
}
