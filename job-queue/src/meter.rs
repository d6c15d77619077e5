//! What an operator watches: rates, how long messages wait, how long they are worked on.
//!
//! Backlog alone misleads: a thousand messages are nothing at ten thousand a second and an outage
//! at one. Hence the two latencies: *in the queue* (from sent to first received) says whether there
//! are enough workers, *in processing* (from received to deleted) says whether they are well.

use hdrhistogram::Histogram;

use crate::limits::VISIBILITY_MAX_MS;
use crate::message::Delivery;

/// Over how long rates are averaged, and how long a latency counts.
const WINDOW_MS: u64 = 60_000;

/// Counters and latencies of one queue.
#[derive(Debug)]
pub struct Meter {
    sent: u64,
    received: u64,
    deleted: u64,
    current: Window,
    last: Window,
}

#[derive(Debug)]
struct Window {
    began_at_ms: u64,
    received: u64,
    deleted: u64,
    in_queue_ms: Histogram<u64>,
    in_processing_ms: Histogram<u64>,
}

/// The numbers now.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Reading {
    /// Messages ever sent.
    pub sent: u64,
    /// Deliveries ever made.
    pub received: u64,
    /// Messages ever deleted.
    pub deleted: u64,
    /// Deliveries a second, over the last minute.
    pub received_per_second: f64,
    /// Deletes a second, over the last minute: the workers' real speed.
    pub deleted_per_second: f64,
    /// Half of the messages waited no longer before they were first received.
    pub in_queue_p50_ms: u64,
    /// 99 in 100 waited no longer.
    pub in_queue_p99_ms: u64,
    /// Half of the messages were deleted this soon after they were received.
    pub in_processing_p50_ms: u64,
    /// 99 in 100 were.
    pub in_processing_p99_ms: u64,
}

impl Default for Meter {
    fn default() -> Self {
        let (current, last) = (Window::new(0), Window::new(0));
        Self { sent: 0, received: 0, deleted: 0, current, last }
    }
}

impl Window {
    fn new(began_at_ms: u64) -> Self {
        let histogram = || {
            Histogram::new_with_max(VISIBILITY_MAX_MS, 2).expect("the range and digits are legal")
        };
        Self {
            began_at_ms,
            received: 0,
            deleted: 0,
            in_queue_ms: histogram(),
            in_processing_ms: histogram(),
        }
    }
}

impl Meter {
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    pub(crate) fn received(&mut self, deliveries: &[Delivery], now_ms: u64) {
        if deliveries.is_empty() {
            return;
        }
        self.roll(now_ms);
        self.received += deliveries.len() as u64;
        self.current.received += deliveries.len() as u64;
        for delivery in deliveries.iter().filter(|it| it.receives == 1) {
            let waited_ms = now_ms.saturating_sub(delivery.sent_at_ms);
            self.current.in_queue_ms.saturating_record(waited_ms);
        }
    }

    pub(crate) fn deleted(&mut self, worked_ms: u64, now_ms: u64) {
        self.roll(now_ms);
        self.deleted += 1;
        self.current.deleted += 1;
        self.current.in_processing_ms.saturating_record(worked_ms);
    }

    fn roll(&mut self, now_ms: u64) {
        if self.current.began_at_ms == 0 {
            self.current.began_at_ms = now_ms;
        }
        if now_ms.saturating_sub(self.current.began_at_ms) >= WINDOW_MS {
            self.last = std::mem::replace(&mut self.current, Window::new(now_ms));
        }
    }

    /// The numbers of the current and the last window together.
    pub fn read(&mut self, now_ms: u64) -> Reading {
        self.roll(now_ms);
        let mut in_queue = self.current.in_queue_ms.clone();
        let mut in_processing = self.current.in_processing_ms.clone();
        let is_recent = self.last.began_at_ms + 3 * WINDOW_MS > now_ms;
        let mut began_at_ms = self.current.began_at_ms;
        let (mut received, mut deleted) = (self.current.received, self.current.deleted);
        if is_recent && self.last.began_at_ms > 0 {
            in_queue.add(&self.last.in_queue_ms).expect("both have the same range");
            in_processing.add(&self.last.in_processing_ms).expect("both have the same range");
            began_at_ms = self.last.began_at_ms;
            received += self.last.received;
            deleted += self.last.deleted;
        }
        let seconds = now_ms.saturating_sub(began_at_ms).max(1_000) as f64 / 1_000.0;
        Reading {
            sent: self.sent,
            received: self.received,
            deleted: self.deleted,
            received_per_second: received as f64 / seconds,
            deleted_per_second: deleted as f64 / seconds,
            in_queue_p50_ms: in_queue.value_at_quantile(0.5),
            in_queue_p99_ms: in_queue.value_at_quantile(0.99),
            in_processing_p50_ms: in_processing.value_at_quantile(0.5),
            in_processing_p99_ms: in_processing.value_at_quantile(0.99),
        }
    }
}
