//! Token leases over any other answer: most checks are decided in process, exactly enough.
//!
//! A node asks the store for some of a caller's tokens at once and spends them without asking
//! again ([`crate::lease`] has the rules and the bounds). Without failures nothing is admitted
//! that the store did not grant.
//!
//! With failures, per caller and node: a node that dies takes at most
//! [`SIZE_MAX`](crate::lease::SIZE_MAX) tokens with it (too little is admitted, never too much); a
//! refund that the store does not take is lost the same way; a store that forgets its state
//! forgets at most what all its clients forget, and the leases that are out come on top.
//!
//! Only buckets can be leased. A window would be given back tokens of an earlier window, and a
//! concurrency limit or a queue decides about each request: those pass through unchanged.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::algorithm::Micros;
use crate::clock::{Clock, Monotonic};
use crate::lease::Lease;
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Outcome, Quota, Source, Store};
use crate::policy::{AlgorithmName, Policy};

/// How long a lease lives: how late a token may be spent, and how long the tokens of a node that
/// went quiet are missing elsewhere.
pub const LEASE_TIME_DEFAULT: Duration = Duration::from_millis(100);
/// Callers with a lease at this node. Further callers are decided by the store, one by one.
pub const LEASES_MAX: usize = 100_000;

/// A store whose limiters lease.
pub struct LeasedStore<S: Store> {
    store: S,
    clock: Arc<Monotonic>,
    lease_time: Duration,
    limiters: Mutex<Vec<Weak<LeasedLimiter<S::Limiter>>>>,
}

impl<S: Store> LeasedStore<S> {
    /// Leases from `store` for `lease_time` at a time. Run [`keep_house`](Self::keep_house) beside
    /// it, and [`give_back_all`](Self::give_back_all) before the process ends.
    pub fn new(store: S, lease_time: Duration) -> Self {
        let clock = Arc::new(Monotonic::default());
        Self { store, clock, lease_time, limiters: Mutex::default() }
    }

    /// Gives back what is left of ended leases, for ever.
    pub async fn keep_house(&self) {
        let mut interval = tokio::time::interval(self.lease_time);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            for limiter in self.limiters() {
                limiter.give_back_ended().await;
            }
        }
    }

    /// Gives everything back.
    pub async fn give_back_all(&self) {
        for limiter in self.limiters() {
            limiter.give_back_all().await;
        }
    }

    /// Those that are still in use: a policy that was replaced takes its limiter with it.
    fn limiters(&self) -> Vec<Arc<LeasedLimiter<S::Limiter>>> {
        let mut limiters = self.limiters.lock();
        limiters.retain(|limiter| limiter.strong_count() > 0);
        limiters.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Several handles of one store.
impl<S: Store> Store for Arc<LeasedStore<S>> {
    type Limiter = Arc<LeasedLimiter<S::Limiter>>;

    fn limiter(&self, policy: Policy) -> Self::Limiter {
        let store = self.store.limiter(policy);
        let limiter = LeasedLimiter::new(store, Arc::clone(&self.clock), self.lease_time);
        let limiter = Arc::new(limiter);
        self.limiters.lock().push(Arc::downgrade(&limiter));
        limiter
    }

    fn accepts(&self, policy: &Policy) -> Result<(), Error> {
        self.store.accepts(policy)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.store.ping().await
    }
}

/// One policy, decided here with tokens leased from `store`.
pub struct LeasedLimiter<L, C = Monotonic> {
    store: L,
    clock: Arc<C>,
    life_us: u64,
    leasable: bool,
    leases: Mutex<HashMap<Box<str>, Held, RandomState>>,
}

#[derive(Default)]
struct Held {
    lease: Lease,
    /// Somebody is asking the store for more; until then others ask it for themselves.
    asking: bool,
    /// Nothing of the quota is known before the store was asked.
    quota: Option<Quota>,
}

impl<L: Limiter, C: Clock> LeasedLimiter<L, C> {
    /// Leases from `store` for `lease_time` at a time.
    pub fn new(store: L, clock: Arc<C>, lease_time: Duration) -> Self {
        use AlgorithmName::{Gcra, LeakyBucket, TokenBucket};
        let leasable = store
            .policy()
            .limits()
            .iter()
            .all(|limit| matches!(limit.spec().algorithm, TokenBucket | Gcra | LeakyBucket));
        let life_us = lease_time.as_micros() as u64;
        Self { store, clock, life_us, leasable, leases: Mutex::default() }
    }

    /// Decides here, if the lease of the caller allows it: no store, no future.
    pub fn spend(&self, key: Key<'_>, cost: u32) -> Option<Decision> {
        let now = self.clock.now();
        let mut leases = self.leases.lock();
        let held = leases.get_mut(key.as_str())?;
        let quota = held.quota?;
        held.lease.spend(now, cost).then(|| allowed(held.lease, quota))
    }

    /// Tokens that this node holds for a caller.
    pub fn held(&self, key: Key<'_>) -> u32 {
        self.leases.lock().get(key.as_str()).map_or(0, |held| held.lease.held())
    }

    /// Gives back what is left of the leases that have ended, and forgets them. Call it about
    /// once per lease time; until then such tokens are missing elsewhere.
    pub async fn give_back_ended(&self) {
        let now = self.clock.now();
        self.give_back_where(|held| held.lease.has_ended(now)).await;
    }

    /// Gives everything back: what a node does before it stops.
    pub async fn give_back_all(&self) {
        self.give_back_where(|_| true).await;
    }

    async fn give_back_where(&self, is_over: impl Fn(&Held) -> bool) {
        let mut owed = Vec::new();
        self.leases.lock().retain(|key, held| {
            if held.asking || !is_over(held) {
                return true;
            }
            owed.push((key.clone(), held.lease.end()));
            false
        });
        for (key, tokens) in owed {
            if let Ok(key) = Key::new(&key) {
                self.refund_leased(key, tokens).await;
            }
        }
    }

    /// Trade-off: a refund that fails is not repeated. It may have been made, and giving tokens
    /// back twice would admit too much.
    async fn refund_leased(&self, key: Key<'_>, tokens: u32) {
        if tokens > 0 && self.store.refund(key, tokens).await.is_err() {
            metrics::counter!("rate_limiter_leased_tokens_lost_total").increment(tokens.into());
        }
    }

    /// Marks the caller as being asked for. Returns how much to ask for and what an ended lease
    /// owes; `None` when somebody asks already or no more leases fit.
    fn begin_asking(&self, key: Key<'_>, cost: u32, now: Micros) -> Option<(u32, u32)> {
        let mut leases = self.leases.lock();
        if !leases.contains_key(key.as_str()) {
            if leases.len() >= LEASES_MAX {
                return None;
            }
            leases.insert(key.as_str().into(), Held::default());
        }
        let held = leases.get_mut(key.as_str())?;
        if std::mem::replace(&mut held.asking, true) {
            return None;
        }
        let owed = if held.lease.has_ended(now) { held.lease.end() } else { 0 };
        Some((held.lease.asks_for(cost), owed))
    }

    async fn check_with_more(
        &self,
        key: Key<'_>,
        cost: u32,
        asked: u32,
    ) -> Result<Decision, Error> {
        let _asking = Asking { limiter: self, key };
        let Grant { granted, decision } = self.store.take_up_to(key, asked).await?;
        let unspent = {
            let now = self.clock.now();
            let mut leases = self.leases.lock();
            let held = leases.entry(key.as_str().into()).or_default();
            held.lease.renew(now, asked, granted, self.life_us);
            held.quota = Some(decision.quota);
            if held.lease.spend(now, cost) {
                return Ok(allowed(held.lease, decision.quota));
            }
            held.lease.end()
        };
        // Not enough even with what was left: nobody may sit on tokens that others could use.
        self.refund_leased(key, unspent).await;
        if unspent == 0 && cost == 1 && !decision.allowed() {
            return Ok(decision);
        }
        self.store.check(key, cost).await
    }
}

/// Others may ask again when this one is over, however it ends.
struct Asking<'a, L: Limiter, C: Clock> {
    limiter: &'a LeasedLimiter<L, C>,
    key: Key<'a>,
}

impl<L: Limiter, C: Clock> Drop for Asking<'_, L, C> {
    fn drop(&mut self) {
        if let Some(held) = self.limiter.leases.lock().get_mut(self.key.as_str()) {
            held.asking = false;
        }
    }
}

/// What remains is what this node can grant without asking: the others hold some too.
fn allowed(lease: Lease, quota: Quota) -> Decision {
    let quota = Quota { remaining: lease.held(), ..quota };
    let (outcome, delay) = (Outcome::Allowed, Duration::ZERO);
    Decision { outcome, limit_index: 0, quota, delay, source: Source::Lease }
}

impl<L: Limiter, C: Clock> Limiter for LeasedLimiter<L, C> {
    fn policy(&self) -> &Policy {
        self.store.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        // What never fits is the store's to refuse, and a cost of zero is a look at the store.
        let fits = self.policy().limits().iter().all(|limit| cost <= limit.burst());
        if !self.leasable || cost == 0 || !fits {
            return self.store.check(key, cost).await;
        }
        if let Some(decision) = self.spend(key, cost) {
            return Ok(decision);
        }
        match self.begin_asking(key, cost, self.clock.now()) {
            Some((asked, owed)) => {
                self.refund_leased(key, owed).await;
                self.check_with_more(key, cost, asked).await
            }
            None => self.store.check(key, cost).await,
        }
    }

    /// The store's view: what is leased counts as taken.
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
