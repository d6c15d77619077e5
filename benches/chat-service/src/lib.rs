//! Questions about the chat service, and its answers compared.

mod compare;
mod questions;

use measure::System;

/// The registry entry of the chat service.
pub fn system() -> System {
    let comparison = Some(compare::comparison());
    System { name: "chat-service", questions: questions::questions(), comparison }
}
