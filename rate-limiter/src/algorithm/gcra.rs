//! GCRA: the token bucket in one number.
//!
//! Instead of a level and a time, remember the time at which the bucket will be full again: the
//! *theoretical arrival time*, TAT. A bucket that lacks k tokens is full in k emission intervals,
//! so `TAT - now` is what is missing, and a request is allowed while what is missing plus its
//! cost fits the burst. One word means one atomic write, and a TAT in the past is the same as no
//! state at all. Decides exactly like [`token_bucket`](super::token_bucket); a test says so.
//!
//! Gives up readability: the bucket is implied.
//!
//! Source: ITU-T Recommendation I.371, the Generic Cell Rate Algorithm (virtual scheduling).

use super::rate::Rate;
use super::{Algorithm, Micros, Wait};

/// The parameters.
#[derive(Clone, Copy, Debug)]
pub struct Gcra {
    rate: Rate,
    burst: u32,
}

/// The theoretical arrival time, exactly: `us` microseconds and `frac` units, where a
/// microsecond has [`Rate::units_per_us`] of them. For rates whose interval is a whole number of
/// microseconds `frac` is always zero and the state is the single integer `us`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat {
    /// Whole microseconds.
    pub us: u64,
    /// The rest, less than a microsecond.
    pub frac: u64,
}

impl Tat {
    /// How far the TAT is ahead of `now`; zero when it has passed.
    fn ahead_of(self, now: Micros) -> Tat {
        if self.us < now.0 { Tat { us: 0, frac: 0 } } else { Tat { us: self.us - now.0, ..self } }
    }

    fn later_by(self, units: u64, rate: Rate) -> Tat {
        let frac = self.frac + units % rate.units_per_us;
        Tat {
            us: self.us + units / rate.units_per_us + frac / rate.units_per_us,
            frac: frac % rate.units_per_us,
        }
    }

    fn earlier_by(self, units: u64, rate: Rate) -> Tat {
        let (us, frac) = (units / rate.units_per_us, units % rate.units_per_us);
        let borrow = u64::from(frac > self.frac);
        match self.us.checked_sub(us + borrow) {
            Some(us) => Tat { us, frac: self.frac + borrow * rate.units_per_us - frac },
            None => Tat { us: 0, frac: 0 },
        }
    }
}

impl Gcra {
    /// A limit of `burst` that refills at `rate`.
    pub const fn new(rate: Rate, burst: u32) -> Self {
        Self { rate, burst }
    }

    const fn capacity(&self) -> u64 {
        self.rate.units(self.burst)
    }
}

impl Algorithm for Gcra {
    type State = Tat;

    fn fresh(&self, now: Micros) -> Tat {
        Tat { us: now.0, frac: 0 }
    }

    fn limit(&self) -> u32 {
        self.burst
    }

    fn available(&self, tat: &Tat, now: Micros) -> u32 {
        let missing = tat.ahead_of(now);
        if missing.us > self.capacity() / self.rate.units_per_us {
            return 0; // Only when the clock went backwards; the product below could overflow.
        }
        let missing = missing.us * self.rate.units_per_us + missing.frac;
        self.rate.tokens(self.capacity().saturating_sub(missing))
    }

    fn wait(&self, tat: &Tat, now: Micros, cost: u32) -> Wait {
        if cost > self.burst {
            return Wait::Never;
        }
        // Allowed while missing + cost <= capacity. Solved for whole microseconds of `missing`,
        // so that nothing overflows however far the clock went back.
        let missing = tat.ahead_of(now);
        let room = self.capacity() - self.rate.units(cost);
        let room_us = match room.checked_sub(missing.frac) {
            Some(room) => (room / self.rate.units_per_us) as i64,
            None => -1,
        };
        match missing.us as i64 - room_us {
            ..=0 => Wait::Now,
            over_us => Wait::After(over_us as u64),
        }
    }

    fn charge(&self, tat: &mut Tat, now: Micros, cost: u32) {
        *tat = (*tat).max(self.fresh(now)).later_by(self.rate.units(cost), self.rate);
    }

    fn refund(&self, tat: &mut Tat, now: Micros, cost: u32) {
        let returned = self.rate.units(cost.min(self.burst));
        *tat = tat.earlier_by(returned, self.rate).max(self.fresh(now));
    }

    fn settles_after(&self, tat: &Tat, now: Micros) -> u64 {
        let missing = tat.ahead_of(now);
        missing.us + u64::from(missing.frac > 0)
    }
}
