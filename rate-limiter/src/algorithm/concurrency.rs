//! Concurrency limit: at most `limit` holders at the same time, each on a lease.
//!
//! A check takes slots, a refund releases them, and a slot whose holder died without releasing
//! comes back when its lease runs out. Written down, that is a sliding log whose entries can leave
//! early, so it is one.
//!
//! Trade-off: leases are counted, not named. A release takes back the lease that would expire
//! first; when another holder died, it is his lease that goes and the releaser's own that stays to
//! its end. The total is right at every moment, and a leaked slot is back within one lease.
//!
//! Gives up rate: a thousand fast requests per second may pass through one slot.

use super::sliding_log::{Log, SlidingLog};
use super::{Algorithm, Micros, Wait};

/// The parameters.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    leases: SlidingLog,
}

impl Concurrency {
    /// `limit` holders, each for at most `lease_us`.
    pub const fn new(limit: u32, lease_us: u64) -> Self {
        Self { leases: SlidingLog::new(limit, lease_us) }
    }
}

impl Algorithm for Concurrency {
    type State = Log;

    fn fresh(&self, now: Micros) -> Log {
        self.leases.fresh(now)
    }

    fn limit(&self) -> u32 {
        self.leases.limit()
    }

    fn available(&self, leases: &Log, now: Micros) -> u32 {
        self.leases.available(leases, now)
    }

    /// When the next leases run out: an upper bound, since a release may come earlier.
    fn wait(&self, leases: &Log, now: Micros, cost: u32) -> Wait {
        self.leases.wait(leases, now, cost)
    }

    fn charge(&self, leases: &mut Log, now: Micros, cost: u32) {
        self.leases.charge(leases, now, cost);
    }

    fn refund(&self, leases: &mut Log, now: Micros, cost: u32) {
        // Leases that ran out are not there to be released: a late release must not free the
        // slot of somebody else twice.
        self.leases.charge(leases, now, 0);
        let mut left = cost;
        while let Some(oldest) = leases.front_mut() {
            let released = oldest.cost.min(left);
            oldest.cost -= released;
            left -= released;
            if oldest.cost > 0 {
                break;
            }
            leases.pop_front();
        }
    }

    fn settles_after(&self, leases: &Log, now: Micros) -> u64 {
        self.leases.settles_after(leases, now)
    }
}
