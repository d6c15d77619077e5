//! Coalescing: the Redis answer when there is more traffic than calls.
//!
//! While a call is in flight, whoever comes waits in line; its reply sends the whole line as one
//! call. So the batch is as large as the load makes it, a lone check goes out at once, and there
//! is no timer that everybody waits for ([`crate::coalesce`] has the packing; group commit does
//! the same for disks). Once the line is longer than any call, the next call does not wait for the
//! reply: it follows the one in flight, on the same connection, so that Redis and this server work
//! at the same time. Redis then runs one script for many callers, and one charge for all equal
//! checks of one caller. Every answer is one that a history without coalescing could have given.
//!
//! - A request that is dropped while it waits is never sent. One that is dropped in flight stays
//!   charged, as with any call.
//! - A call that fails is not repeated: each request in it is [`Error::Unavailable`] and was
//!   charged once or not at all, all of them together. Requests that wait in line behind a call
//!   that timed out fail with it, uncharged, so nobody waits for more than two timeouts.
//! - The line is bounded by [`WAITERS_MAX`].
//!
//! Trade-off: a batch is one script, so its callers share its fate and its time. Policies with
//! several limits are packed, but each of their requests is decided on its own.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::redis::{Receipt, RedisLimiter, RedisStore, Reply, SLOTS};
use crate::coalesce::{CALLERS_PER_CALL_MAX, Caller, Op, Waiter, pack};
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Store};
use crate::policy::Policy;

/// Requests that may wait for the call in flight, per limiter. One more is [`Error::Unavailable`]
/// at once and uncharged: Redis is slower than the traffic, and a longer line only adds waiting.
pub const WAITERS_MAX: usize = 16_384;

/// Lines of a limiter over a cluster, each for so many of the slots. A server that is gone holds up
/// the lines of its own slots and no others; more lines than this would make small calls of a
/// large one.
pub const LANES: usize = 16;

/// Calls in flight, per line: one that Redis works on, and one on its way. More would only wait there
/// instead of here, where they still grow.
const CALLS_IN_FLIGHT_MAX: usize = 2;

/// So long a line is not worth keeping back for the reply: it fills a call whoever is in it.
const LINE_FOR_A_CALL: usize = 2 * CALLERS_PER_CALL_MAX;

/// Calls that may wait for replicas at once, per line. More means that the replicas do not keep up,
/// and charging on would only promise what they may never have.
const UNCONFIRMED_MAX: usize = 64;

/// A [`RedisStore`] whose limiters coalesce.
#[derive(Clone)]
pub struct CoalescedStore(RedisStore);

impl CoalescedStore {
    /// Coalesces what goes to `store`.
    pub fn new(store: RedisStore) -> Self {
        Self(store)
    }
}

impl Store for CoalescedStore {
    type Limiter = CoalescedLimiter;

    fn limiter(&self, policy: Policy) -> CoalescedLimiter {
        CoalescedLimiter::new(self.0.limiter(policy))
    }

    async fn ping(&self) -> Result<(), Error> {
        self.0.ping().await
    }
}

/// One policy, enforced in Redis, one call at a time (in a cluster: per lane).
pub struct CoalescedLimiter {
    redis: Arc<RedisLimiter>,
    desks: Vec<Arc<Desk>>,
}

type Answer = Result<(Decision, u32), Error>;

struct Desk {
    redis: Arc<RedisLimiter>,
    line: Mutex<Line>,
    /// The line has become long enough for a second call.
    is_long: Notify,
    /// Calls that are answered and wait for replicas.
    unconfirmed: Arc<Semaphore>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Request>,
    /// How many more were taken to be sent, and are not yet.
    taken: usize,
    is_served: bool,
}

type Request = Waiter<oneshot::Sender<Answer>>;

impl CoalescedLimiter {
    /// Puts a line in front of `redis`.
    pub fn new(redis: RedisLimiter) -> Self {
        let redis = Arc::new(redis);
        let lanes = if redis.is_clustered() { LANES } else { 1 };
        let desk = |_| {
            let (redis, line, is_long) = (Arc::clone(&redis), Mutex::default(), Notify::new());
            let unconfirmed = Arc::new(Semaphore::new(UNCONFIRMED_MAX));
            Arc::new(Desk { redis, line, is_long, unconfirmed })
        };
        Self { desks: (0..lanes).map(desk).collect(), redis }
    }

    fn desk(&self, key: Key<'_>) -> &Arc<Desk> {
        match &self.desks[..] {
            [only] => only,
            desks => &desks[usize::from(self.redis.slot(key.as_str())) * desks.len() / SLOTS],
        }
    }

    async fn ask(&self, key: Key<'_>, op: Op, cost: u32) -> Answer {
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter { key: key.as_str().into(), op, cost, reply };
        let desk = self.desk(key);
        let (starts, length) = {
            let mut line = desk.line.lock();
            if line.waiting.len() + line.taken >= WAITERS_MAX {
                return Err(unavailable(format!("{WAITERS_MAX} requests are waiting already")));
            }
            line.waiting.push_back(waiter);
            let length = line.waiting.len() + line.taken;
            (!std::mem::replace(&mut line.is_served, true), length)
        };
        if starts {
            // A task of its own: whoever starts the call may be dropped, and the others must not
            // be left waiting.
            tokio::spawn(serve_line(Arc::clone(desk)));
        } else if length == LINE_FOR_A_CALL {
            desk.is_long.notify_one();
        }
        answer.await.unwrap_or_else(|_| Err(unavailable("the call was abandoned".to_owned())))
    }
}

fn unavailable(what: String) -> Error {
    Error::Unavailable { what, source: None }
}

/// Sends the line, call by call, until it is empty.
async fn serve_line(desk: Arc<Desk>) {
    let mut serving = Serving { desk: &desk, taken: VecDeque::new(), done: false };
    let mut in_flight = FuturesOrdered::new();
    let mut answered = Vec::new();
    loop {
        while in_flight.len() < CALLS_IN_FLIGHT_MAX
            && let Some(callers) = serving.next_call(in_flight.len())
        {
            count(&callers);
            in_flight.push_back(async {
                let replies = desk.redis.batch(&callers).await;
                (callers, replies)
            });
        }
        // What is to be sent is written first; the answers of the last call are handed out while
        // Redis works on it.
        let news = async {
            tokio::select! {
                biased;
                done = in_flight.next() => done,
                () = desk.is_long.notified(), if in_flight.len() < CALLS_IN_FLIGHT_MAX => None,
            }
        };
        let (done, ()) = tokio::join!(news, async { desk.hand_out(std::mem::take(&mut answered)) });
        let Some((callers, (replies, receipts))) = done else {
            match serving.done {
                true => return,
                false => continue,
            }
        };
        // The next call would have to wait as long.
        if replies.iter().any(|reply| reply.as_ref().is_err_and(|error| timed_out(error))) {
            serving.fail_line();
        }
        answered = callers.into_iter().zip(replies).collect();
        if receipts.iter().any(Receipt::is_open) {
            let Ok(permit) = Arc::clone(&desk.unconfirmed).acquire_owned().await else { return };
            let (desk, answers) = (Arc::clone(&desk), std::mem::take(&mut answered));
            tokio::spawn(async move {
                desk.confirm(answers, receipts).await;
                drop(permit);
            });
        }
    }
}

/// Requests per call is the gain.
fn count<T>(callers: &[Caller<T>]) {
    let requests: usize = callers.iter().map(|caller| caller.replies.len()).sum();
    metrics::counter!("rate_limiter_coalesced_calls_total").increment(1);
    metrics::counter!("rate_limiter_coalesced_requests_total").increment(requests as u64);
}

/// Whoever serves a line, with the part of it that was taken to be sent.
struct Serving<'a> {
    desk: &'a Desk,
    taken: VecDeque<Request>,
    done: bool,
}

impl Serving<'_> {
    /// The next call beside those in flight, or `None` when it is not time for one. When nobody
    /// waits and nothing is in flight this is the end, and the next request starts anew.
    fn next_call(&mut self, in_flight: usize) -> Option<Vec<Caller<oneshot::Sender<Answer>>>> {
        let shares = self.desk.redis.policy().limits().len() == 1;
        loop {
            {
                let mut line = self.desk.line.lock();
                // Whole, so that those who come are not kept from the line while we pack.
                self.taken.append(&mut line.waiting);
                line.taken = self.taken.len();
                if self.taken.is_empty() && in_flight == 0 {
                    line.is_served = false;
                    self.done = true;
                }
            }
            let enough = if in_flight == 0 { 1 } else { LINE_FOR_A_CALL };
            if self.taken.len() < enough {
                return None;
            }
            let callers = pack(&mut self.taken, shares, |reply| !reply.is_closed());
            if !callers.is_empty() {
                self.desk.line.lock().taken = self.taken.len();
                return Some(callers);
            }
        }
    }

    fn fail_line(&mut self) {
        let mut waiting = std::mem::take(&mut self.taken);
        waiting.append(&mut self.desk.line.lock().waiting);
        for waiter in waiting {
            let what = "the call before this one timed out; nothing was charged".to_owned();
            let _ = waiter.reply.send(Err(unavailable(what)));
        }
    }
}

/// Nobody may be left waiting for a task that is gone, as when the runtime stops in the middle.
impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if !self.done {
            *self.desk.line.lock() = Line::default();
        }
    }
}

/// Whether a call gave no answer in time.
fn timed_out(error: &Error) -> bool {
    matches!(error, Error::Unavailable { source: None, .. })
}

type Answered = Vec<(Caller<oneshot::Sender<Answer>>, Reply)>;

impl Desk {
    /// Hands out once the replicas have it. Others go on charging meanwhile: one wait covers
    /// everything before it.
    async fn confirm(&self, mut answered: Answered, receipts: Vec<Receipt>) {
        if let Err(error) = self.redis.confirm(receipts).await {
            let error = Arc::new(error);
            for (_, answer) in &mut answered {
                *answer = Err(Arc::clone(&error));
            }
        }
        self.hand_out(answered);
    }

    fn hand_out(&self, answered: Answered) {
        let limits = self.redis.policy().limits();
        for (caller, reply) in answered {
            let mut to = caller.replies.into_iter();
            match reply {
                Ok(shared) => {
                    for (run, shared) in caller.runs.into_iter().zip(shared) {
                        for index in 0..run.count {
                            let Some(to) = to.next() else { break };
                            let view = shared.view(index, run, &limits[0]);
                            // Whoever stopped waiting stays charged, as with any call.
                            let _ = to.send(Ok(view.decision(limits)));
                        }
                    }
                }
                Err(error) => {
                    for to in to {
                        let _ = to.send(Err(unavailable(error.to_string())));
                    }
                }
            }
        }
    }
}

impl Limiter for CoalescedLimiter {
    fn policy(&self) -> &Policy {
        self.redis.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.ask(key, Op::Check, cost).await?.0)
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        Ok(self.ask(key, Op::Peek, 0).await?.0)
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        let (decision, granted) = self.ask(key, Op::Take, at_most).await?;
        Ok(Grant { granted, decision })
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.ask(key, Op::Refund, cost).await?.0)
    }
}
