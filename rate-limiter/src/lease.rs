//! A token lease: tokens that were charged in the store in advance and are spent here, in
//! nanoseconds. The pure core; [`crate::store::lease`] talks to the store.
//!
//! What is leased is charged already, so nothing is ever admitted that the store did not grant:
//! over all nodes and any stretch of time since the start, `admitted + held + remaining` never
//! exceeds `burst + rate x t`. A lease that ends unspent is given back, and one whose node dies is
//! simply lost: admitting too little is the safe side.
//!
//! What a lease gives up is *when*: a token that is charged now may be spent, or given back and
//! charged again, later. So in any window of length t the nodes together admit at most
//! `burst + rate x t` and what they held when it began.
//!
//! The size follows the demand, additively up and by half down: a lease that was used up while it
//! was young was too small, one that ends with more than half of it left was too large. One that
//! the store could not fill shrinks too, so that nodes do not sit on the last tokens.

use crate::algorithm::Micros;

/// The first lease of a caller, and by how much leases grow.
pub const SIZE_STEP: u32 = 8;
/// The largest lease: what a node that dies can take with it, per caller.
pub const SIZE_MAX: u32 = 4_096;

/// One node's lease for one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    held: u32,
    size: u32,
    taken_at: Micros,
    ends_at: Micros,
}

impl Default for Lease {
    fn default() -> Self {
        Self { held: 0, size: SIZE_STEP, taken_at: Micros(0), ends_at: Micros(0) }
    }
}

impl Lease {
    /// Spends `cost` here, if the lease holds as much and has not ended.
    pub fn spend(&mut self, now: Micros, cost: u32) -> bool {
        if now >= self.ends_at || now < self.taken_at || cost > self.held {
            return false;
        }
        self.held -= cost;
        true
    }

    /// Tokens held, whether or not the lease has ended.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// When what is held must be spent or given back.
    pub fn ends_at(&self) -> Micros {
        self.ends_at
    }

    /// How much to ask the store for, for a request of `cost` that could not be spent here.
    pub fn asks_for(&self, cost: u32) -> u32 {
        self.size.max(cost.saturating_sub(self.held))
    }

    /// The store granted `granted` of the `asked`; the lease now ends `life_us` from `now`.
    /// Call [`end`](Self::end) first on a lease that has ended.
    pub fn renew(&mut self, now: Micros, asked: u32, granted: u32, life_us: u64) {
        if granted < asked {
            self.size = (self.size / 2).max(1);
        } else if now.since(self.taken_at) < life_us / 2 {
            self.size = (self.size + SIZE_STEP).min(SIZE_MAX);
        }
        if self.held == 0 {
            // The tokens of before must not live longer because others joined them.
            self.taken_at = now;
            self.ends_at = Micros(now.0 + life_us);
        }
        self.held += granted;
    }

    /// Ends the lease and returns what has to be given back to the store.
    pub fn end(&mut self) -> u32 {
        if self.held > self.size / 2 {
            self.size = (self.size / 2).max(1);
        }
        self.ends_at = Micros(0);
        std::mem::take(&mut self.held)
    }

    /// Whether the lease has ended, so that what it holds must be given back. A clock that went
    /// backwards ends it too: nobody knows how old it is.
    pub fn has_ended(&self, now: Micros) -> bool {
        now >= self.ends_at || now < self.taken_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE_US: u64 = 100_000;

    #[test]
    fn a_lease_is_spent_until_it_is_empty_or_ends() {
        let mut lease = Lease::default();
        assert!(!lease.spend(Micros(5), 1));
        lease.renew(Micros(5), 8, 8, LIFE_US);
        assert!(lease.spend(Micros(6), 5) && !lease.spend(Micros(6), 4));
        assert!(!lease.spend(Micros(5 + LIFE_US), 1), "it has ended");
        assert_eq!(lease.end(), 3);
        assert_eq!(lease.end(), 0, "nothing is given back twice");
        lease.renew(Micros(10), 8, 8, LIFE_US);
        assert!(!lease.spend(Micros(9), 1), "a clock that went backwards ends it");
    }

    #[test]
    fn its_size_follows_the_demand() {
        let mut lease = Lease::default();
        for round in 0..10 {
            lease.renew(Micros(1_000 * round), lease.asks_for(1), lease.asks_for(1), LIFE_US);
            assert!(lease.spend(Micros(1_000 * round), lease.held()));
        }
        assert!(lease.asks_for(1) >= 10 * SIZE_STEP - SIZE_STEP, "{lease:?}");
        let grown = lease.asks_for(1);
        lease.renew(Micros(50_000), grown, grown, LIFE_US);
        lease.end();
        assert!(lease.asks_for(1) <= grown / 2 + SIZE_STEP, "unspent: half");
        let unspent = lease.asks_for(1);
        lease.renew(Micros(60_000), unspent, 0, LIFE_US);
        assert!(lease.asks_for(1) <= unspent / 2 + 1, "not granted: half");
        assert_eq!(lease.asks_for(5_000), 5_000, "a large cost is asked for whole");
    }
}
