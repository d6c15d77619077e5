//! How many jobs a worker may have, and who counts as one.
//!
//! A place is taken *before* a job is fetched for it (fetched without one, its lease would age in a
//! buffer), and is free again as soon as the handler is done: while a job's end is being written
//! down, the next one runs. Jobs whose end is not written yet are bounded too, by as many again:
//! when the store stands still, no more than that are done twice.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The places of one worker.
#[derive(Debug)]
pub(super) struct Places {
    counts: Mutex<Counts>,
    /// A place became free, or there are more of them.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    limit: usize,
    /// Taken, and the job is still being fetched.
    fetching: usize,
    running: usize,
    /// Handler done, end not written.
    ending: usize,
}

impl Counts {
    fn free(&self) -> usize {
        let busy = self.fetching + self.running;
        let runs = self.limit.saturating_sub(busy);
        runs.min((2 * self.limit).saturating_sub(busy + self.ending))
    }
}

impl Places {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let counts = Counts { limit, ..Counts::default() };
        Arc::new(Self { counts: Mutex::new(counts), freed: Notify::new() })
    }

    pub(super) fn limit(&self) -> usize {
        self.counts.lock().limit
    }

    pub(super) fn running(&self) -> usize {
        self.counts.lock().running
    }

    /// Running jobs are left alone.
    pub(super) fn set_limit(&self, limit: usize) {
        self.counts.lock().limit = limit;
        self.freed.notify_one();
    }

    /// Up to `max` places, if any is free.
    pub(super) fn try_take(self: &Arc<Self>, max: usize) -> Option<Taken> {
        let mut counts = self.counts.lock();
        let count = counts.free().min(max);
        counts.fetching += count;
        (count > 0).then(|| Taken { places: Arc::clone(self), count })
    }

    /// Waits for a place, and takes up to `max`.
    pub(super) async fn take(self: &Arc<Self>, max: usize) -> Taken {
        loop {
            let freed = self.freed.notified();
            if let Some(taken) = self.try_take(max) {
                return taken;
            }
            freed.await;
            // Those that end in this moment too are counted: one fetch for all of them.
            tokio::task::yield_now().await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
        self.freed.notify_one();
    }
}

/// Places that jobs are being fetched for. What is left of them when dropped is free again.
#[derive(Debug)]
pub(super) struct Taken {
    places: Arc<Places>,
    count: usize,
}

impl Taken {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// One of them, for a job that runs now. A source that brings more jobs than it was asked for
    /// gets more places: a job in hand is better run than dropped.
    pub(super) fn run_one(&mut self) -> Place {
        let mut counts = self.places.counts.lock();
        if self.count > 0 {
            self.count -= 1;
            counts.fetching -= 1;
        }
        counts.running += 1;
        Place { places: Arc::clone(&self.places), ending: false }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.change(|counts| counts.fetching -= self.count);
    }
}

/// The place of one job, however it ends.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    ending: bool,
}

impl Place {
    /// The handler is done: the next job may run.
    pub(super) fn end(&mut self) {
        if !self.ending {
            self.ending = true;
            self.places.change(|counts| {
                counts.running -= 1;
                counts.ending += 1;
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.change(|counts| match self.ending {
            true => counts.ending -= 1,
            false => counts.running -= 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_when_its_handler_is_done_and_unwritten_ends_are_bounded() {
        let places = Places::new(2);
        let mut taken = places.try_take(10).expect("two are free");
        assert_eq!(taken.count(), 2);
        assert!(places.try_take(10).is_none(), "what is being fetched has its places");
        let (mut first, second) = (taken.run_one(), taken.run_one());
        drop(taken);
        assert_eq!(places.running(), 2);
        first.end();
        assert_eq!(places.try_take(10).map(|it| it.count()), Some(1));
        drop(second);
        // Two ends are not written, two more jobs may run, and then nothing.
        let mut more = places.try_take(10).expect("both run places are free");
        assert_eq!(more.count(), 2);
        let mut running = [more.run_one(), more.run_one()];
        running.iter_mut().for_each(Place::end);
        assert_eq!(places.try_take(10).map(|it| it.count()), Some(1), "three of four are taken");
        drop((first, running, more));
        assert_eq!(places.try_take(10).map(|it| it.count()), Some(2));
    }

    #[test]
    fn fewer_places_leave_those_alone_who_run() {
        let places = Places::new(4);
        let mut taken = places.try_take(4).expect("four");
        let running: Vec<_> = (0..4).map(|_| taken.run_one()).collect();
        places.set_limit(1);
        assert_eq!((places.limit(), places.running()), (1, 4));
        drop(running);
        assert_eq!(places.try_take(9).map(|it| it.count()), Some(1));
    }
}
