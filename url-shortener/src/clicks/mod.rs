//! Clicks: counted exactly, and never in the way of a redirect.
//!
//! A redirect drops a [`Click`](ring::Click) of 24 bytes into a bounded [`ring`] and is done. Ten
//! times a second the [`pipeline`] folds what is in the rings by link and day ([`tally`], with the
//! visitors as a [`hll`] sketch), and commits the batch to a [`ClickLog`].
//!
//! What a crash costs: the clicks since the last commit, at most [`pipeline::FLUSH_EVERY`] of
//! them. A clean stop loses none. In durable mode a redirect waits for that commit.

use std::future::Future;
use std::sync::Arc;

use crate::link::{Error, LinkId};

pub mod hll;
pub mod tally;
pub mod visit;
pub mod ring;
pub mod pipeline;

pub use tally::{DayTally, Tallies};

/// Days since 1970-01-01, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u16);

impl Day {
    /// The day of this moment.
    pub fn of(now_ms: u64) -> Self {
        Self(u16::try_from(now_ms / 86_400_000).unwrap_or(u16::MAX))
    }

    /// As `2026-11-22`.
    pub fn date(self) -> String {
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = jiff::Span::new().days(i64::from(self.0));
        epoch.checked_add(days).map_or_else(|_| "out of range".to_owned(), |day| day.to_string())
    }
}

/// What one flush commits: every link at most once per day, in order of link and day.
#[derive(Clone, Debug)]
pub struct ClickBatch {
    /// Which process counted. Each start is a new one.
    pub writer: String,
    /// Grows by one with each batch of a writer.
    pub number: u64,
    /// The clicks.
    pub rows: Tallies,
}

/// Where clicks end up.
pub trait ClickLog: Send + Sync + 'static {
    /// Adds the batch, once: a batch whose number this writer already committed changes nothing,
    /// so that a flush whose answer got lost can be repeated.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may or may not have been added; repeat it.
    fn add_clicks(&self, batch: Arc<ClickBatch>) -> impl Future<Output = Result<(), Error>> + Send;

    /// All clicks of a link that were committed, by day, oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn clicks(
        &self,
        link: LinkId,
    ) -> impl Future<Output = Result<Vec<(Day, DayTally)>, Error>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day_in_utc() {
        assert_eq!(Day::of(0).date(), "1970-01-01");
        assert_eq!(Day::of(1_782_086_399_999).date(), "2026-06-21");
        assert_eq!(Day::of(1_782_086_400_000).date(), "2026-06-22");
    }
}
