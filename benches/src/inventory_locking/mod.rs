//! Questions about the inventory-locking, and its answers compared.

use crate::System;

/// The registry entry of the inventory-locking.
pub fn system() -> System {
    System { name: "inventory-locking", questions: vec![], comparison: None }
}
