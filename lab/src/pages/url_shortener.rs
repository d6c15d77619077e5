//! The page of the URL shortener.

use super::{Lab, Page};

/// Not built yet.
pub(super) async fn page(_lab: &Lab) -> anyhow::Result<Page> {
    Ok(Page::new(
        "url-shortener",
        "URL shortener",
        "Short links that resolve in milliseconds, cannot be guessed, never collide, and survive one of them becoming famous.",
    ))
}
