//! How many jobs a worker may have, and who counts as one.
//!
//! A place is taken *before* a job is fetched for it (fetched without one, its lease would age in a
//! buffer), and is free again as soon as the handler is done: while a job's end is being written
//! down, the next one runs. Jobs whose end is not written yet are bounded too, by as many again:
//! when the store stands still, no more than that are done twice.
//!
//! A worker of tiny jobs may lease some ahead, which wait here until they may run.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The places of one worker.
#[derive(Debug)]
pub(super) struct Places {
    counts: Mutex<Counts>,
    /// A place became free, or there are more of them.
    freed: Notify,
    /// One of those leased ahead may run.
    may_run: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    limit: usize,
    ahead: usize,
    /// Taken, and the job is still being fetched.
    fetching: usize,
    /// Fetched, and not running yet.
    waiting: usize,
    running: usize,
    /// Handler done, end not written.
    ending: usize,
}

impl Counts {
    fn free(&self) -> usize {
        let (all, busy) = (self.limit + self.ahead, self.fetching + self.waiting + self.running);
        all.saturating_sub(busy).min((2 * all).saturating_sub(busy + self.ending))
    }
}

impl Places {
    /// Places for `limit` jobs, and for `ahead` more that wait.
    pub(super) fn new(limit: usize, ahead: usize) -> Arc<Self> {
        let counts = Mutex::new(Counts { limit, ahead, ..Counts::default() });
        Arc::new(Self { counts, freed: Notify::new(), may_run: Notify::new() })
    }

    pub(super) fn limit(&self) -> usize {
        self.counts.lock().limit
    }

    pub(super) fn running(&self) -> usize {
        self.counts.lock().running
    }

    /// Running jobs are left alone.
    pub(super) fn set_limit(&self, limit: usize) {
        self.change(|counts| counts.limit = limit);
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
        self.may_run.notify_one();
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

    /// One of them, for a job that is there now. A source that brings more jobs than it was asked
    /// for gets more places: a job in hand is better run than dropped.
    pub(super) fn one(&mut self) -> Place {
        let mut counts = self.places.counts.lock();
        if self.count > 0 {
            self.count -= 1;
            counts.fetching -= 1;
        }
        counts.waiting += 1;
        Place { places: Arc::clone(&self.places), stands: Stands::Waiting }
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
    stands: Stands,
}

#[derive(Clone, Copy, Debug)]
enum Stands {
    Waiting,
    Running,
    Ending,
}

impl Counts {
    fn of(&mut self, stands: Stands) -> &mut usize {
        match stands {
            Stands::Waiting => &mut self.waiting,
            Stands::Running => &mut self.running,
            Stands::Ending => &mut self.ending,
        }
    }
}

impl Place {
    /// Waits until the job may run.
    pub(super) async fn run(&mut self) {
        loop {
            let may_run = self.places.may_run.notified();
            {
                let mut counts = self.places.counts.lock();
                if counts.running < counts.limit {
                    counts.waiting -= 1;
                    counts.running += 1;
                    self.stands = Stands::Running;
                    // One telling may stand for several: pass it on.
                    if counts.waiting > 0 && counts.running < counts.limit {
                        self.places.may_run.notify_one();
                    }
                    return;
                }
            }
            may_run.await;
        }
    }

    /// The handler is done: the next job may run.
    pub(super) fn end(&mut self) {
        let stood = std::mem::replace(&mut self.stands, Stands::Ending);
        self.places.change(|counts| {
            *counts.of(stood) -= 1;
            counts.ending += 1;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.change(|counts| *counts.of(self.stands) -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn running(taken: &mut Taken) -> Place {
        let mut place = taken.one();
        place.run().now_or_never().expect("there is room to run");
        place
    }

    #[test]
    fn a_place_is_free_when_its_handler_is_done_and_unwritten_ends_are_bounded() {
        let places = Places::new(2, 0);
        let mut taken = places.try_take(10).expect("two are free");
        assert_eq!(taken.count(), 2);
        assert!(places.try_take(10).is_none(), "what is being fetched has its places");
        let (mut first, second) = (running(&mut taken), running(&mut taken));
        drop(taken);
        assert_eq!(places.running(), 2);
        first.end();
        assert_eq!(places.try_take(10).map(|it| it.count()), Some(1));
        drop(second);
        // One end is not written; two more jobs end, and then only one may run.
        let mut more = places.try_take(10).expect("both places are free");
        assert_eq!(more.count(), 2);
        let mut ended = [running(&mut more), running(&mut more)];
        ended.iter_mut().for_each(Place::end);
        assert_eq!(places.try_take(10).map(|it| it.count()), Some(1), "three of four are taken");
        drop((first, ended, more));
        assert_eq!(places.try_take(10).map(|it| it.count()), Some(2));
    }

    #[test]
    fn fewer_places_leave_those_alone_who_run() {
        let places = Places::new(4, 0);
        let mut taken = places.try_take(4).expect("four");
        let all: Vec<_> = (0..4).map(|_| running(&mut taken)).collect();
        places.set_limit(1);
        assert_eq!((places.limit(), places.running()), (1, 4));
        drop(all);
        assert_eq!(places.try_take(9).map(|it| it.count()), Some(1));
    }

    #[tokio::test]
    async fn jobs_leased_ahead_wait_until_one_that_runs_has_ended() {
        let places = Places::new(1, 2);
        let mut taken = places.try_take(10).expect("one may run and two may wait");
        assert_eq!(taken.count(), 3);
        let mut first = running(&mut taken);
        let [mut second, mut third] = [taken.one(), taken.one()];
        assert!(second.run().now_or_never().is_none() && third.run().now_or_never().is_none());
        assert_eq!(places.running(), 1);
        first.end();
        let both = async { tokio::join!(second.run(), async { third.run().now_or_never() }) };
        let ((), third_ran) = both.await;
        assert!(third_ran.is_none() && places.running() == 1);
    }
}
