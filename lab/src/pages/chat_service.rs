//! The page of the chat service.

use super::{Lab, Page};

/// Not built yet.
pub(super) async fn page(_lab: &Lab) -> anyhow::Result<Page> {
    Ok(Page::new(
        "chat-service",
        "Chat service",
        "Messages in order, delivered to every device, across servers that come and go, with history and unread counts.",
    ))
}
