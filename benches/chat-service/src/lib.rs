//! Questions about the chat service, and its answers compared.

mod beside;
mod compare;
mod questions;

pub use beside::beside_ours;
use measure::System;

/// The registry entry of the chat service.
pub fn system() -> System {
    let comparison = Some(compare::comparison());
    System { name: "chat-service", questions: questions::questions(), comparison }
}
