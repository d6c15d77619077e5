//! Jobs for later: at a time, and again and again.
//!
//! A queue delays a message for 15 minutes at most. A job for next week therefore carries its
//! time, and whoever receives it too early hides it again, for up to 11 hours at a time; that is
//! two receives a day, not a poll.
//!
//! A recurring job is sent by every scheduler that runs, and each of its ticks has a key: on a
//! FIFO queue the key is the deduplication id, elsewhere the ledger's, so that two schedulers
//! (one is a single point of failure) still mean one job.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::job::JOB_ATTRIBUTE;
use super::source::{Outgoing, Source, SourceError};
use crate::clock::Clock;
use crate::limits::DEDUP_WINDOW_MS;

/// The attribute of a recurring job that names its tick.
pub const TICK_ATTRIBUTE: &str = "tick";
/// Ticks that are caught up with at once: nobody wants last week's hourly reports together.
const CATCH_UP_MAX: usize = 10;
/// Pause after the queue did not take a tick.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Longest time a job is hidden at once. SQS allows 12 hours in total from the receive.
pub const HIDE_MAX_MS: u64 = 11 * 3_600_000;

/// A job that comes again and again.
#[derive(Clone, Debug)]
pub struct Recurring {
    /// Its name, unique among recurring jobs.
    pub name: String,
    /// How often.
    pub every_ms: u64,
    /// The type of the job that each tick is.
    pub job: String,
    /// Its payload, as JSON.
    pub body: String,
}

impl Recurring {
    /// Never zero, which would be always.
    fn every(&self) -> u64 {
        self.every_ms.max(1)
    }

    /// The ticks after `last_ms` up to `now_ms`, oldest first, at most `max`: what a scheduler
    /// that was down has missed. Ticks are multiples of the period, so that all schedulers agree.
    pub fn due(&self, last_ms: u64, now_ms: u64, max: usize) -> Vec<u64> {
        let every_ms = self.every();
        let first = last_ms / every_ms + 1;
        let last = now_ms / every_ms;
        // The latest ones: nobody wants last week's hourly reports all at once.
        let from = first.max((last + 1).saturating_sub(max as u64));
        (from..=last).map(|tick| tick * every_ms).collect()
    }

    /// The key of one tick: equal for all schedulers.
    pub fn key(&self, tick_ms: u64) -> String {
        format!("{}@{tick_ms}", self.name)
    }

    /// One tick as a message: on a FIFO queue a second scheduler's is a duplicate, elsewhere the
    /// handler asks the ledger under [`Context::tick`](super::Context::tick).
    fn message(&self, queue: &str, tick_ms: u64) -> Outgoing {
        let key = self.key(tick_ms);
        let is_fifo = queue.ends_with(".fifo");
        Outgoing {
            body: self.body.clone(),
            attributes: [
                (JOB_ATTRIBUTE.to_owned(), self.job.clone()),
                (TICK_ATTRIBUTE.to_owned(), key.clone()),
            ]
            .into(),
            group: is_fifo.then(|| self.name.clone()),
            dedup_id: is_fifo.then_some(key),
            delay_ms: 0,
        }
    }
}

/// Sends every tick of these jobs to `queue` when its time has come, until `stop`.
///
/// Run it in every worker: one of them is enough, and any of them may die. On a FIFO queue a
/// scheduler that starts also sends the ticks of the last minutes, in case none was running: those
/// that were sent are duplicates. Elsewhere it begins with the next tick.
pub async fn recur<S: Source>(
    source: &S,
    queue: &str,
    jobs: &[Recurring],
    clock: &Clock,
    stop: CancellationToken,
) {
    let now_ms = clock.now_ms();
    let remembered_ms = if queue.ends_with(".fifo") { DEDUP_WINDOW_MS / 2 } else { 0 };
    let mut sent_until_ms = vec![now_ms.saturating_sub(remembered_ms); jobs.len()];
    while !stop.is_cancelled() {
        let now_ms = clock.now_ms();
        let mut failed = false;
        for (job, until_ms) in jobs.iter().zip(&mut sent_until_ms) {
            if let Err(error) = send_due(source, queue, job, until_ms, now_ms).await {
                tracing::warn!(%error, job = job.name, "a tick could not be sent; trying again");
                failed = true;
            }
        }
        let next_ms = jobs.iter().map(|job| now_ms - now_ms % job.every() + job.every()).min();
        tokio::select! {
            () = clock.sleep_until(next_ms) => {}
            () = tokio::time::sleep(OUTAGE_PAUSE), if failed => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Sends what is due of one job; what was sent is not sent again by us.
async fn send_due<S: Source>(
    source: &S,
    queue: &str,
    job: &Recurring,
    until_ms: &mut u64,
    now_ms: u64,
) -> Result<(), SourceError> {
    for tick_ms in job.due(*until_ms, now_ms, CATCH_UP_MAX) {
        source.send(queue, job.message(queue, tick_ms)).await?;
        *until_ms = tick_ms;
    }
    *until_ms = now_ms;
    Ok(())
}

/// How long to hide a job that may not begin before `not_before_ms`; `None` when it may begin.
pub fn too_early(not_before_ms: u64, now_ms: u64) -> Option<u64> {
    let left_ms = not_before_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)?;
    Some(left_ms.min(HIDE_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_agreed_on_and_those_missed_are_caught_up_with_within_reason() {
        let hourly = Recurring {
            name: "report".to_owned(),
            every_ms: 3_600_000,
            job: "report".to_owned(),
            body: "{}".to_owned(),
        };
        let hour = |n: u64| n * 3_600_000;
        assert_eq!(hourly.due(hour(5), hour(5) + 1, 10), [] as [u64; 0]);
        assert_eq!(hourly.due(hour(5) - 1, hour(5), 10), [hour(5)]);
        assert_eq!(hourly.due(hour(5), hour(7), 10), [hour(6), hour(7)]);
        assert_eq!(hourly.due(0, hour(500), 2), [hour(499), hour(500)]);
        assert_eq!(hourly.key(hour(1)), "report@3600000");
    }

    #[test]
    fn a_job_for_next_week_is_hidden_again_and_again() {
        let week_ms = 7 * 24 * 3_600_000;
        let (mut now_ms, mut receives) = (0, 0);
        while let Some(hide_ms) = too_early(week_ms, now_ms) {
            (now_ms, receives) = (now_ms + hide_ms, receives + 1);
        }
        assert_eq!((now_ms, receives), (week_ms, 16));
    }
}
