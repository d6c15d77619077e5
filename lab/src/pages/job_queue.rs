//! The page of the job queue.

use super::{Lab, Page};

/// Not built yet.
pub(super) async fn page(_lab: &Lab) -> anyhow::Result<Page> {
    Ok(Page::new(
        "job-queue",
        "Job queue",
        "A durable queue with leases, retries and delayed jobs, in which no job is lost and none runs twice without anybody knowing.",
    ))
}
