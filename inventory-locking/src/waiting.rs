//! Those who wait for the next batch: a bounded queue that nobody polls.
//!
//! The first to come when nobody serves is told to serve; everybody else only waits. There is no
//! timer: a batch is what has gathered while the last one was written, so a lone caller never
//! waits for company.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::inventory::{Error, Grant};
use crate::order::{Order, ReservationId};

/// The most that wait. One more is told that it is busy: at some tens of thousands of
/// reservations a second this is a good part of a second of waiting.
pub const WAITING_MAX: usize = 16_384;

/// The most in one batch, so that the first of a batch does not wait for too many behind it.
pub const BATCH_MAX: usize = 1_024;

/// Turns of the scheduler that a batch waits for company. More, and a crowd that comes one by one
/// would hold up the first of it.
const TURNS_MAX: usize = 16;

/// What each of them is told.
pub(crate) type Verdict = Result<Grant, Error>;

/// The queue; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    orders: Vec<(ReservationId, Order)>,
    replies: Vec<oneshot::Sender<Verdict>>,
    served: bool,
}

/// A batch, taken out of the queue.
#[derive(Default)]
pub(crate) struct Batch {
    /// Each with the id it will have, chosen before the first attempt to write it.
    pub(crate) orders: Vec<(ReservationId, Order)>,
    replies: Vec<oneshot::Sender<Verdict>>,
}

impl Waiting {
    /// Queues an order. The flag says that the caller must see to it that the queue is served.
    pub(crate) fn push(&self, order: Order) -> Result<(oneshot::Receiver<Verdict>, bool), Error> {
        let (reply, verdict) = oneshot::channel();
        let mut queue = self.0.lock();
        if queue.orders.len() >= WAITING_MAX {
            let what = format!("{WAITING_MAX} wait to be written");
            return Err(Error::Busy { what, retry_after_ms: 1_000 });
        }
        queue.orders.push((ReservationId::fresh(), order));
        queue.replies.push(reply);
        Ok((verdict, !std::mem::replace(&mut queue.served, true)))
    }

    /// Takes the next batch, oldest first.
    pub(crate) fn take(&self) -> Batch {
        let mut queue = self.0.lock();
        let count = queue.orders.len().min(BATCH_MAX);
        Batch {
            orders: queue.orders.drain(..count).collect(),
            replies: queue.replies.drain(..count).collect(),
        }
    }

    /// Lets those who have just been answered come back before the next batch is taken: without
    /// this it is the one buyer who was quickest, and every other batch is nearly empty. Goes on for
    /// as long as each turn of the scheduler brings somebody; no time passes otherwise.
    pub(crate) async fn gather(&self) {
        let mut came = 0;
        for _ in 0..TURNS_MAX {
            tokio::task::yield_now().await;
            let waiting = self.0.lock().orders.len();
            if waiting == came {
                return;
            }
            came = waiting;
        }
    }

    /// Whether nobody waits. If so, the next to come is told to serve.
    pub(crate) fn is_done(&self) -> bool {
        let mut queue = self.0.lock();
        queue.served = !queue.orders.is_empty();
        !queue.served
    }
}

impl Batch {
    /// To each their verdict; when the batch failed, to each the failure.
    pub(crate) fn answer(self, verdicts: Result<Vec<Verdict>, Error>) {
        match verdicts {
            Ok(verdicts) => {
                for (reply, verdict) in self.replies.into_iter().zip(verdicts) {
                    // Whoever has gone away is not told.
                    drop(reply.send(verdict));
                }
            }
            Err(error) => {
                let what = error.to_string();
                for reply in self.replies {
                    let error = Error::Unavailable { what: what.clone(), source: None };
                    drop(reply.send(Err(error)));
                }
            }
        }
    }
}

/// Waits for the verdict.
pub(crate) async fn told(verdict: oneshot::Receiver<Verdict>) -> Verdict {
    let gone = || Error::Unavailable { what: "the writer is gone".to_owned(), source: None };
    verdict.await.unwrap_or_else(|_| Err(gone()))
}

/// What the second of two requests with one key in the same batch is told.
pub(crate) fn twin(order: &Order) -> Error {
    let key = order.key.as_ref().map_or("", |key| key.as_str());
    let what = format!("another request with the key {key} is under way");
    Error::Busy { what, retry_after_ms: 1 }
}
