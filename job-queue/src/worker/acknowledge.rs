//! Telling the queue that jobs are done, many at once.
//!
//! A store that commits to disk takes about as long for one delete as for a hundred. So while
//! [`TRIPS_AT_ONCE`] deletes are on their way, jobs that end gather for the next, which takes along
//! as many as one may. There is no timer: a job that ends alone is deleted at once.
//!
//! Every job that waits is itself ready to make the trip, so none is forgotten when another's task
//! ends early.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::source::{Source, SourceError};

/// Deletes on their way at once: more would be smaller ones.
const TRIPS_AT_ONCE: usize = 2;

/// The jobs of one worker that have ended.
#[derive(Debug)]
pub(super) struct Acknowledger<S> {
    source: S,
    waiting: Mutex<Vec<Done>>,
    trips: Semaphore,
}

#[derive(Debug)]
struct Done {
    queue: Arc<str>,
    receipt: String,
    tell: oneshot::Sender<Result<(), SourceError>>,
}

impl<S: Source> Acknowledger<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, waiting: Mutex::default(), trips: Semaphore::new(TRIPS_AT_ONCE) }
    }

    /// Deletes the message, along with others.
    ///
    /// # Errors
    /// As [`Source::delete`], for this message alone.
    pub(super) async fn done(&self, queue: &Arc<str>, receipt: &str) -> Result<(), SourceError> {
        let (tell, mut told) = oneshot::channel();
        let done = Done { queue: Arc::clone(queue), receipt: receipt.to_owned(), tell };
        self.waiting.lock().push(done);
        loop {
            tokio::select! {
                biased;
                answer = &mut told => return answer.unwrap_or_else(|_| Err(no_answer())),
                trip = self.trips.acquire() => {
                    let _trip = trip.expect("nobody closes the semaphore");
                    if self.trip(queue).await == 0 {
                        break; // ours is on its way with another
                    }
                }
            }
        }
        told.await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Deletes what waits for this queue, oldest first, as much as goes at once; how many.
    async fn trip(&self, queue: &Arc<str>) -> usize {
        let batch: Vec<Done> = {
            let mut waiting = self.waiting.lock();
            let ours = waiting.extract_if(.., |it| it.queue == *queue);
            ours.take(self.source.batch_max()).collect()
        };
        let count = batch.len();
        if count == 0 {
            return 0;
        }
        let (receipts, tells): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|it| (it.receipt, it.tell)).unzip();
        let answers = self.source.delete_batch(queue, &receipts).await;
        for (tell, answer) in tells.into_iter().zip(answers) {
            let _nobody_waits: Result<(), _> = tell.send(answer);
        }
        count
    }
}

fn no_answer() -> SourceError {
    SourceError::Unavailable("the delete was not answered".to_owned())
}
