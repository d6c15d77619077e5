//! The page of the job queue: the service itself, to be talked to with any SQS client.

use anyhow::Context;
use job_queue::clock::Clock;
use job_queue::http;
use job_queue::sqs::ACCOUNT_DEFAULT;
use job_queue::store::sqlite::Sqlite;

use super::{Lab, Page};

/// The service on a SQLite file that goes when the lab stops.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let directory = tempfile::tempdir().context("a directory for the queues")?;
    let queues = Sqlite::open(&directory.path().join("queues.db"), Clock::system()).await?;
    let router = http::router(queues.clone(), ACCOUNT_DEFAULT, &lab.shutdown);
    lab.shutdown.on_drained("job-queue", async move {
        queues.close().await;
        drop(directory);
    });
    let question = "Background processing for image jobs: at least once, with retries, dead letters \
                    and workers that may die.";
    Ok(Page::new("job-queue", "Job queue", question)
        .stored_on("a SQLite file that goes when the lab stops")
        .serving(router))
}
