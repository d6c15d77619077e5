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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::worker::{Depth, Incoming, Outgoing};

    /// Deletes take a while; what begins with `lost` cannot be deleted.
    #[derive(Clone, Default)]
    struct Slow {
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl Source for Slow {
        async fn delete_batch(
            &self,
            queue: &str,
            receipts: &[String],
        ) -> Vec<Result<(), SourceError>> {
            self.batches.lock().push(receipts.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
            let answer = |receipt: &String| match receipt.strip_prefix("lost") {
                Some(_) => Err(SourceError::LeaseLost(receipt.clone())),
                None => {
                    assert!(receipt.starts_with(queue), "{receipt} is not of {queue}");
                    Ok(())
                }
            };
            receipts.iter().map(answer).collect()
        }

        async fn send(&self, _: &str, _: Outgoing) -> Result<String, SourceError> {
            unreachable!("nothing is sent")
        }

        async fn receive(
            &self,
            _: &str,
            _: usize,
            _: u64,
            _: u64,
        ) -> Result<Vec<Incoming>, SourceError> {
            unreachable!("nothing is received")
        }

        async fn hide(&self, _: &str, _: &str, _: u64) -> Result<(), SourceError> {
            unreachable!("nothing is hidden")
        }

        async fn depth(&self, _: &str) -> Result<Depth, SourceError> {
            unreachable!("nobody asks")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_gather_while_others_are_on_their_way_and_each_hears_of_its_own() {
        let source = Slow::default();
        let acknowledger = Acknowledger::new(source.clone());
        let queues: [Arc<str>; 2] = ["a".into(), "b".into()];
        let each = (0..40).map(|n| {
            let (acknowledger, queue) = (&acknowledger, &queues[n % 2]);
            async move {
                let lost = n == 17;
                let receipt = if lost { "lost 17".to_owned() } else { format!("{queue} {n}") };
                let answer = acknowledger.done(queue, &receipt).await;
                match answer {
                    Err(SourceError::LeaseLost(of)) => assert_eq!((lost, of), (true, receipt)),
                    other => assert!(!lost && other.is_ok(), "{receipt}: {other:?}"),
                }
            }
        });
        futures::future::join_all(each).await;
        let batches = source.batches.lock().clone();
        assert_eq!(batches.iter().sum::<usize>(), 40);
        // Two leave at once with one each; the other 38 follow ten by ten.
        assert!(batches.len() <= 7, "{batches:?}");
        assert!(acknowledger.waiting.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_ends_alone_does_not_wait_for_company() {
        let acknowledger = Acknowledger::new(Slow::default());
        let began = tokio::time::Instant::now();
        acknowledger.done(&"a".into(), "a 1").await.expect("deleted");
        assert_eq!(began.elapsed(), Duration::from_millis(10));
    }
}
