//! The page of the inventory.

use super::{Lab, Page};

/// Not built yet.
pub(super) async fn page(_lab: &Lab) -> anyhow::Result<Page> {
    Ok(Page::new(
        "inventory-locking",
        "Inventory under contention",
        "The last hundred tickets and a hundred thousand buyers: never sell one twice, and keep the line moving.",
    ))
}
