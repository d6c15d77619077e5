//! Questions about the chat-service, and its answers compared.

use crate::System;

/// The registry entry of the chat-service.
pub fn system() -> System {
    System { name: "chat-service", questions: vec![], comparison: None }
}
