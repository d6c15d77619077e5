//! Questions about the chat service, and its answers compared.

mod questions;

use crate::System;

/// The registry entry of the chat service.
pub fn system() -> System {
    System { name: "chat-service", questions: questions::questions(), comparison: None }
}
