//! How many workers: from the backlog, the time a job takes, and how old the oldest is.
//!
//! Depth alone is the wrong signal: a thousand jobs of a millisecond are one second's work for one
//! worker, a thousand of a minute are a day's. What users feel is *how long until it is done*:
//! `backlog * time per job / workers`, to be kept below a target.
//!
//! Up is quick and down is slow: a worker too many costs a little, a worker too few costs the
//! target, and a scaler that does both quickly swings.

/// What to aim for.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// Never fewer.
    pub workers_min: usize,
    /// Never more: what the database behind the workers can bear.
    pub workers_max: usize,
    /// The backlog should be gone within this.
    pub drain_ms: u64,
    /// Looks in a row that must want fewer before there are fewer.
    pub patience: u32,
}

/// What is seen.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Jobs waiting.
    pub backlog: u64,
    /// The mean time of a job, as measured; 0 if none was yet.
    pub job_ms: f64,
    /// How old the oldest waiting job is.
    pub oldest_age_ms: u64,
}

/// The scaler's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scaler {
    looks_below: u32,
}

impl Scaler {
    /// How many workers there should be, given that there are `workers`.
    pub fn decide(&mut self, aim: &Aim, look: &Look, workers: usize) -> usize {
        let wanted = wanted(aim, look, workers);
        if wanted >= workers {
            self.looks_below = 0;
            return wanted;
        }
        self.looks_below += 1;
        if self.looks_below < aim.patience {
            return workers;
        }
        // A quarter at a time: if the backlog comes back, most are still there.
        self.looks_below = 0;
        wanted.max(workers - workers.div_ceil(4)).max(aim.workers_min)
    }
}

fn wanted(aim: &Aim, look: &Look, workers: usize) -> usize {
    let work_ms = look.backlog as f64 * look.job_ms.max(1.0);
    let by_backlog = (work_ms / aim.drain_ms.max(1) as f64).ceil() as usize;
    // The arithmetic says it suffices and the oldest says it does not: believe the oldest.
    let is_late = look.oldest_age_ms > aim.drain_ms && look.backlog > 0;
    let by_age = if is_late { workers + workers.div_ceil(2).max(1) } else { 0 };
    by_backlog.max(by_age).clamp(aim.workers_min, aim.workers_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AIM: Aim = Aim { workers_min: 1, workers_max: 50, drain_ms: 10_000, patience: 3 };

    #[test]
    fn workers_follow_the_work_and_not_the_depth() {
        let mut scaler = Scaler::default();
        let look = |backlog, job_ms| Look { backlog, job_ms, oldest_age_ms: 0 };
        assert_eq!(scaler.decide(&AIM, &look(1_000, 1.0), 1), 1, "a second's work");
        assert_eq!(scaler.decide(&AIM, &look(1_000, 100.0), 1), 10, "a hundred seconds' work");
        assert_eq!(scaler.decide(&AIM, &look(1_000_000, 100.0), 10), 50, "bounded");
    }

    #[test]
    fn a_late_oldest_job_brings_more_workers() {
        let look = Look { backlog: 5, job_ms: 1.0, oldest_age_ms: 20_000 };
        assert_eq!(Scaler::default().decide(&AIM, &look, 4), 6);
    }

    #[test]
    fn it_goes_down_slowly_and_does_not_swing() {
        let mut scaler = Scaler::default();
        let idle = Look { backlog: 0, job_ms: 100.0, oldest_age_ms: 0 };
        let busy = Look { backlog: 2_000, job_ms: 100.0, oldest_age_ms: 0 };
        let mut workers = 20;
        let mut history = vec![];
        for look in [&idle, &idle, &busy, &idle, &idle, &idle, &idle, &idle, &idle] {
            workers = scaler.decide(&AIM, look, workers);
            history.push(workers);
        }
        assert_eq!(history, [20, 20, 20, 20, 20, 15, 15, 15, 11]);
    }
}
