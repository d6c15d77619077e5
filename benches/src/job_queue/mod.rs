//! Questions about the job-queue, and its answers compared.

use crate::System;

/// The registry entry of the job-queue.
pub fn system() -> System {
    System { name: "job-queue", questions: vec![], comparison: None }
}
