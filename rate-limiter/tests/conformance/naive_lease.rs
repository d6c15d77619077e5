//! Leases as a candidate writes them, right when nothing is switched on, and the mistakes that come
//! with them, one switch each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::EPOCH;
use rate_limiter::conformance::lease::{LeaseFixture, Leasing};
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, Memory, MemoryLimiter};
use rate_limiter::{Decision, Error, Grant, Key, Limiter, Outcome, Policy, Store};

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Lapse {
        SurvivesItsExpiry => idle_leases_do_not_add_to_the_burst,
        KeptAfterItWasGivenBack => tokens_are_conserved,
        GivenBackTwice => what_is_not_spent_comes_back,
        NeverGivenBack => what_is_not_spent_comes_back,
        HoldsWhatItAskedFor => a_lease_is_what_was_granted,
        AsksForEveryToken => most_checks_need_no_store,
    }
}

const LIFE: Duration = Duration::from_millis(50);
const SIZE: u32 = 8;

type Stored = Arc<MemoryLimiter<ManualClock>>;

/// The fixture.
pub(crate) struct NaiveLease {
    clock: Arc<ManualClock>,
    lapse: Option<Lapse>,
}

impl NaiveLease {
    pub(crate) fn with(lapse: Option<Lapse>) -> Self {
        Self { clock: Arc::new(ManualClock::at(EPOCH)), lapse }
    }
}

impl LeaseFixture for NaiveLease {
    type Store = MemoryLimiter<ManualClock>;
    type Node = Node;

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn life(&self) -> Duration {
        LIFE
    }

    fn nodes(&self, policy: Policy, count: usize) -> (Stored, Vec<Node>) {
        let store = Memory::new(Arc::clone(&self.clock), KEYS_MAX_DEFAULT).limiter(policy);
        let store = Arc::new(store);
        let node = |_| Node {
            store: Arc::clone(&store),
            clock: Arc::clone(&self.clock),
            lapse: self.lapse,
            lease: Mutex::default(),
        };
        let nodes = (0..count).map(node).collect();
        (store, nodes)
    }
}

/// The lease of the one caller there is: tokens, and when it ends.
pub(crate) struct Node {
    store: Stored,
    clock: Arc<ManualClock>,
    lapse: Option<Lapse>,
    lease: Mutex<(u32, u64)>,
}

impl Node {
    fn has(&self, lapse: Lapse) -> bool {
        self.lapse == Some(lapse)
    }

    fn spend(&self, cost: u32) -> bool {
        let mut lease = self.lease.lock().unwrap();
        let alive = self.clock.now().0 < lease.1 || self.has(Lapse::SurvivesItsExpiry);
        let spent = alive && lease.0 >= cost;
        if spent {
            lease.0 -= cost;
        }
        spent
    }

    /// Takes what an ended lease holds out of it.
    fn end(&self) -> u32 {
        let mut lease = self.lease.lock().unwrap();
        if self.clock.now().0 < lease.1 || self.has(Lapse::NeverGivenBack) {
            return 0;
        }
        match self.lapse {
            Some(Lapse::KeptAfterItWasGivenBack) => {
                // The expiry moves on, and what was given back is spent again.
                lease.1 = self.clock.now().0 + LIFE.as_micros() as u64;
                lease.0
            }
            _ => std::mem::take(&mut lease.0),
        }
    }

    async fn refund_ended(&self, key: Key<'_>) -> Result<(), Error> {
        let owed = self.end();
        if owed > 0 {
            self.store.refund(key, owed).await?;
            if self.has(Lapse::GivenBackTwice) {
                self.store.refund(key, owed).await?;
            }
        }
        Ok(())
    }
}

impl Leasing for Node {
    fn holds(&self, _: &str) -> u32 {
        self.lease.lock().unwrap().0
    }

    async fn give_back(&self) {
        if self.has(Lapse::SurvivesItsExpiry) {
            return;
        }
        self.refund_ended(Key::new("caller").unwrap()).await.unwrap();
    }
}

impl Limiter for Node {
    fn policy(&self) -> &Policy {
        self.store.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let allowed = |decision: Decision| Decision { outcome: Outcome::Allowed, ..decision };
        if self.spend(cost) {
            return Ok(allowed(self.store.peek(key).await?));
        }
        self.refund_ended(key).await?;
        let size = if self.has(Lapse::AsksForEveryToken) { cost } else { SIZE.max(cost) };
        let grant = self.store.take_up_to(key, size).await?;
        let granted = match self.lapse {
            Some(Lapse::HoldsWhatItAskedFor) if grant.granted > 0 => size,
            _ => grant.granted,
        };
        {
            let mut lease = self.lease.lock().unwrap();
            lease.0 += granted;
            lease.1 = self.clock.now().0 + LIFE.as_micros() as u64;
        }
        Ok(if self.spend(cost) {
            allowed(grant.decision)
        } else {
            self.store.check(key, cost).await?
        })
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        self.store.peek(key).await
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        self.store.take_up_to(key, at_most).await
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.store.refund(key, cost).await
    }
}
