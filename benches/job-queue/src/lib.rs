//! Questions about the job-queue, and its answers compared.

mod beside;
mod compare;
mod questions;
mod server;
pub mod queue_server;

pub use beside::beside_ours;
use measure::System;

/// The registry entry of the job-queue.
pub fn system() -> System {
    System {
        name: "job-queue",
        questions: questions::questions(),
        comparison: Some(compare::comparison()),
    }
}
