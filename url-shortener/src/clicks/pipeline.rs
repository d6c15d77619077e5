//! From the rings to the store, ten times a second.
//!
//! Invariant: a click that was left in a ring is added to the store exactly once, as long as the
//! process lives to see the store answer. A batch whose commit failed, or whose answer got lost,
//! is kept as it is and repeated under its number before anything newer is sent.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::ring::{Click, Rings, Uncounted};
use super::tally::DayTally;
use super::visit::Words;
use super::{ClickBatch, ClickLog, Tallies};
use crate::link::Error;
use crate::turns::give_way;

/// How long a click waits in a ring, and so what a crash costs.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Rows in memory while the store is down. Beyond it the rings are left alone: they fill, and
/// then count without details.
const PENDING_ROWS_MAX: usize = 200_000;

/// How often the rings are emptied. More often than they are committed, because the clicks of one
/// turn are sorted in one go, during which redirects on the same thread wait.
const GATHER_EVERY: Duration = Duration::from_millis(20);
/// Clicks, or links, that are worked on in one turn.
pub(crate) const CLICKS_PER_TURN: usize = 128;

/// The way of all clicks of a process.
pub struct Pipeline<S> {
    store: Arc<S>,
    rings: Rings,
    words: Words,
    wake: Notify,
    waiting: Mutex<Vec<oneshot::Sender<bool>>>,
    pending: tokio::sync::Mutex<Pending>,
}

struct Pending {
    writer: String,
    number: u64,
    /// Taken out of the rings, and not in `rows` yet.
    drained: Vec<Click>,
    rows: Tallies,
    /// Sent, and not known to have arrived.
    in_doubt: Option<Arc<ClickBatch>>,
}

impl<S: ClickLog> Pipeline<S> {
    /// A pipeline to `store`, hashing visitors with its secret.
    pub fn new(store: Arc<S>, secret: &[u8; 32]) -> Self {
        let writer = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let pending = Pending {
            writer,
            number: 0,
            drained: Vec::new(),
            rows: Tallies::new(),
            in_doubt: None,
        };
        Self {
            store,
            rings: Rings::default(),
            words: Words::new(secret),
            wake: Notify::new(),
            waiting: Mutex::default(),
            pending: tokio::sync::Mutex::new(pending),
        }
    }

    /// Turns the words of requests into numbers.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Counts a click. Never waits.
    pub fn record(&self, click: Click) {
        if self.rings.push(click) {
            self.wake.notify_one();
        }
    }

    /// Counts a click and returns when it is as durable as the store is.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the click is kept in memory and will be committed later.
    pub async fn record_durably(&self, click: Click) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        self.rings.push(click);
        // After the push: whoever takes this waiter empties the rings afterwards.
        self.waiting.lock().push(tell);
        self.wake.notify_one();
        match told.await {
            Ok(true) => Ok(()),
            _ => {
                let what = "the click could not be committed".to_owned();
                Err(Error::Unavailable { what, source: None })
            }
        }
    }

    /// Flushes until `closing`, then once more.
    pub async fn run(&self, closing: CancellationToken) {
        let mut every = tokio::time::interval(FLUSH_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gather = tokio::time::interval(GATHER_EVERY);
        gather.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !closing.is_cancelled() {
            tokio::select! {
                _ = gather.tick() => {
                    let mut pending = self.pending.lock().await;
                    self.gather(&mut pending);
                    continue;
                }
                _ = every.tick() => {}
                () = self.wake.notified() => {}
                () = closing.cancelled() => {}
            }
            if let Err(error) = self.flush().await {
                tracing::warn!(%error, "clicks are kept in memory until the store is back");
                metrics::counter!("url_shortener_click_flushes_failed_total").increment(1);
                // A store that is down is not asked again at once by every waiter.
                tokio::time::sleep(FLUSH_EVERY).await;
            }
        }
    }

    /// Commits everything that was recorded before the call.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing is lost, call again.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut pending = self.pending.lock().await;
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let flushed = self.flush_pending(&mut pending).await;
        for waiter in waiting {
            // A redirect whose client hung up does not wait any more.
            let _ = waiter.send(flushed.is_ok());
        }
        flushed
    }

    async fn flush_pending(&self, pending: &mut Pending) -> Result<(), Error> {
        self.gather(pending);
        self.fold(pending).await;
        while pending.in_doubt.is_some() || !pending.rows.is_empty() {
            let batch = Arc::clone(pending.in_doubt.get_or_insert_with(|| {
                pending.number += 1;
                let (writer, number) = (pending.writer.clone(), pending.number);
                Arc::new(ClickBatch { writer, number, rows: std::mem::take(&mut pending.rows) })
            }));
            self.store.add_clicks(batch).await?;
            let committed = pending.in_doubt.take().and_then(Arc::into_inner);
            let rows = committed.map(|batch| batch.rows).unwrap_or_default();
            for (done, row) in rows.into_iter().enumerate() {
                drop(row); // thousands of them take a while
                give_way(done, CLICKS_PER_TURN).await;
            }
        }
        Ok(())
    }

    /// Empties the rings, and sorts what was in them.
    fn gather(&self, pending: &mut Pending) {
        let Pending { drained, rows, .. } = pending;
        if rows.len() >= PENDING_ROWS_MAX {
            return;
        }
        let (sorted, mut without_detail) = (drained.len(), 0);
        let counted = |of, count: Uncounted| {
            let tally = rows.entry(of).or_default();
            tally.clicks += count.clicks;
            tally.bots += count.bots;
            without_detail += count.clicks + count.bots;
        };
        self.rings.drain(|click| drained.push(click), counted);
        drained[sorted..].sort_unstable_by_key(Click::of);
        if without_detail > 0 {
            metrics::counter!("url_shortener_clicks_without_detail_total")
                .increment(without_detail);
        }
    }

    /// Folds what was gathered by link and day. It stays gathered until all of it is folded:
    /// whoever flushes may be dropped between two turns.
    async fn fold(&self, pending: &mut Pending) {
        let Pending { drained, rows, .. } = pending;
        // Sorting first costs a fraction of one look into the tree for each click, and a tree is
        // built from what is in order without looking at all. This sort merges what is sorted.
        drained.sort_by_key(Click::of);
        let mut fresh = Vec::new();
        for clicks in drained.chunk_by(|a, b| a.of() == b.of()) {
            let mut tally = DayTally::default();
            for (at, click) in clicks.iter().enumerate() {
                self.add(&mut tally, *click);
                give_way(at, CLICKS_PER_TURN).await;
            }
            fresh.push((clicks[0].of(), tally));
            give_way(fresh.len(), CLICKS_PER_TURN).await;
        }
        if rows.is_empty() {
            *rows = fresh.into_iter().collect();
        } else {
            fresh.iter().for_each(|(of, tally)| rows.entry(*of).or_default().merge(tally));
        }
        drained.clear();
    }

    fn add(&self, tally: &mut DayTally, click: Click) {
        match click.browser {
            None => tally.bots += 1,
            Some(browser) => {
                tally.clicks += 1;
                tally.browsers[browser as usize] += 1;
                tally.visitors.insert(click.visitor);
                self.words.with_name(click.host, |host| tally.add_referrer(host, 1));
            }
        }
    }
}
