//! What happens while the store is down: the policy decides, per limiter, and says so in every
//! decision ([`Source`]).
//!
//! - `open`: requests pass. For limits that protect comfort.
//! - `closed`: requests are refused. For limits that protect something that breaks.
//! - `local`: this server enforces `limit / servers` in process. Together the servers admit what
//!   the limit says, provided the load is spread evenly; what they admitted is not written back
//!   when the store returns, so in the worst case one outage admits one extra burst.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::breaker::{Breaker, PROBE_INTERVAL_US};
use crate::clock::{Clock, Monotonic};
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Outcome, Quota, Source};
use crate::policy::{OnStoreFailure, Policy};
use crate::store::memory::{KEYS_MAX_DEFAULT, MemoryLimiter};

/// A limiter that answers even when its store does not.
pub struct Resilient<L, C = Monotonic> {
    store: L,
    share: MemoryLimiter<C>,
    breaker: Mutex<Breaker>,
    clock: Arc<C>,
}

impl<L: Limiter, C: Clock> Resilient<L, C> {
    /// Puts `store` behind its policy's failure mode. `servers` is how many servers share the
    /// limit: each one's local share is that fraction of it.
    pub fn new(store: L, servers: u32, clock: Arc<C>) -> Self {
        let share = store.policy().share(servers);
        let share = MemoryLimiter::new(share, Arc::clone(&clock), KEYS_MAX_DEFAULT);
        Self { store, share, breaker: Mutex::default(), clock }
    }

    /// Whether the store counts as down at the moment.
    pub fn is_degraded(&self) -> bool {
        self.breaker.lock().is_open()
    }

    /// Calls the store unless the breaker is open. `None`: apply the failure mode.
    async fn ask_store<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        if !self.breaker.lock().lets_through(self.clock.now()) {
            return Ok(None);
        }
        match call.await {
            Ok(answer) => {
                self.breaker.lock().succeeded();
                Ok(Some(answer))
            }
            Err(Error::Unavailable { what, .. }) => {
                metrics::counter!("rate_limiter_store_failures_total").increment(1);
                tracing::warn!(%what, policy = self.policy().name(), "the store did not answer");
                self.breaker.lock().failed(self.clock.now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same answer for everybody, without counting.
    fn uncounted(&self, outcome: Outcome, source: Source) -> Decision {
        let limit = self.policy().limits()[0].burst();
        let remaining = if outcome == Outcome::Allowed { limit } else { 0 };
        let reset_after = Duration::from_micros(PROBE_INTERVAL_US);
        let quota = Quota { limit, remaining, reset_after };
        Decision { outcome, limit_index: 0, quota, delay: Duration::ZERO, source }
    }

    fn open(&self) -> Decision {
        self.uncounted(Outcome::Allowed, Source::FailOpen)
    }

    /// Refused for the time until the store is asked again.
    fn closed(&self) -> Decision {
        let retry_after = Duration::from_micros(PROBE_INTERVAL_US);
        self.uncounted(Outcome::Denied { retry_after }, Source::FailClosed)
    }

    fn mode(&self) -> OnStoreFailure {
        self.policy().on_store_failure()
    }
}

fn by_this_server(decision: Decision) -> Decision {
    Decision { source: Source::LocalShare, ..decision }
}

impl<L: Limiter, C: Clock> Limiter for Resilient<L, C> {
    fn policy(&self) -> &Policy {
        self.store.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        if let Some(decision) = self.ask_store(self.store.check(key, cost)).await? {
            return Ok(decision);
        }
        match self.mode() {
            OnStoreFailure::Open => Ok(self.open()),
            OnStoreFailure::Closed => Ok(self.closed()),
            OnStoreFailure::Local => self.share.check(key, cost).await.map(by_this_server),
        }
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        if let Some(decision) = self.ask_store(self.store.peek(key)).await? {
            return Ok(decision);
        }
        match self.mode() {
            OnStoreFailure::Open => Ok(self.open()),
            OnStoreFailure::Closed => Ok(self.closed()),
            OnStoreFailure::Local => self.share.peek(key).await.map(by_this_server),
        }
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        if let Some(grant) = self.ask_store(self.store.take_up_to(key, at_most)).await? {
            return Ok(grant);
        }
        match self.mode() {
            OnStoreFailure::Open => Ok(Grant { granted: at_most, decision: self.open() }),
            OnStoreFailure::Closed => Ok(Grant { granted: 0, decision: self.closed() }),
            OnStoreFailure::Local => {
                let Grant { granted, decision } = self.share.take_up_to(key, at_most).await?;
                Ok(Grant { granted, decision: by_this_server(decision) })
            }
        }
    }

    /// A refund that the store cannot take is lost, and the caller is told: pretending otherwise
    /// would make it look as if the quota were back.
    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let answer = self.ask_store(self.store.refund(key, cost)).await?;
        let down = || Error::Unavailable { what: "refund while it is down".into(), source: None };
        answer.ok_or_else(down)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::algorithm::Micros;
    use crate::breaker::FAILURES_TO_OPEN;
    use crate::clock::ManualClock;
    use crate::policy::{AlgorithmName, LimitSpec, PolicySpec};

    /// A store with a switch. Only for the logic of this file: the real outage is an integration
    /// test against a killed Redis.
    struct Switchable {
        policy: Policy,
        down: Arc<AtomicBool>,
        calls: Arc<AtomicU32>,
    }

    impl Switchable {
        fn decide(&self) -> Result<Decision, Error> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(Error::Unavailable { what: "switched off".into(), source: None });
            }
            let quota = Quota { limit: 100, remaining: 99, reset_after: Duration::ZERO };
            let (outcome, delay) = (Outcome::Allowed, Duration::ZERO);
            Ok(Decision { outcome, limit_index: 0, quota, delay, source: Source::Store })
        }
    }

    impl Limiter for Switchable {
        fn policy(&self) -> &Policy {
            &self.policy
        }
        async fn check(&self, _: Key<'_>, _: u32) -> Result<Decision, Error> {
            self.decide()
        }
        async fn peek(&self, _: Key<'_>) -> Result<Decision, Error> {
            self.decide()
        }
        async fn take_up_to(&self, _: Key<'_>, granted: u32) -> Result<Grant, Error> {
            Ok(Grant { granted, decision: self.decide()? })
        }
        async fn refund(&self, _: Key<'_>, _: u32) -> Result<Decision, Error> {
            self.decide()
        }
    }

    struct Scene {
        limiter: Resilient<Switchable, ManualClock>,
        down: Arc<AtomicBool>,
        calls: Arc<AtomicU32>,
        clock: Arc<ManualClock>,
    }

    fn scene(on_store_failure: OnStoreFailure) -> Scene {
        let limits = vec![LimitSpec {
            name: None,
            algorithm: AlgorithmName::TokenBucket,
            rate: 100,
            per_ms: 60_000,
            burst: None,
        }];
        let policy = Policy::new("p", &PolicySpec { limits, on_store_failure }).unwrap();
        let (down, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let store = Switchable { policy, down: Arc::clone(&down), calls: Arc::clone(&calls) };
        let clock = Arc::new(ManualClock::at(Micros(1_000_000)));
        Scene { limiter: Resilient::new(store, 10, Arc::clone(&clock)), down, calls, clock }
    }

    async fn allowed(scene: &Scene, requests: u32) -> (u32, Source) {
        let mut allowed = 0;
        let mut source = Source::Store;
        for _ in 0..requests {
            let decision = scene.limiter.check(Key::new("k").unwrap(), 1).await.unwrap();
            allowed += u32::from(decision.allowed());
            source = decision.source;
        }
        (allowed, source)
    }

    #[tokio::test]
    async fn while_the_store_is_down_the_policy_decides() {
        assert_eq!(allowed(&scene(OnStoreFailure::Open), 50).await, (50, Source::FailOpen));
        assert_eq!(allowed(&scene(OnStoreFailure::Closed), 50).await, (0, Source::FailClosed));
        // One of ten servers may grant a tenth of 100.
        assert_eq!(allowed(&scene(OnStoreFailure::Local), 50).await, (10, Source::LocalShare));
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_probed_not_hammered_and_taken_back_at_once() {
        let scene = scene(OnStoreFailure::Open);
        allowed(&scene, 1_000).await;
        assert_eq!(scene.calls.load(Ordering::SeqCst), FAILURES_TO_OPEN);
        assert!(scene.limiter.is_degraded());
        scene.down.store(false, Ordering::SeqCst);
        assert_eq!(allowed(&scene, 1).await.1, Source::FailOpen);
        scene.clock.advance(Duration::from_micros(PROBE_INTERVAL_US));
        assert_eq!(allowed(&scene, 3).await, (3, Source::Store));
        assert!(!scene.limiter.is_degraded());
    }

    #[tokio::test]
    async fn a_refund_that_is_lost_is_an_error() {
        let scene = scene(OnStoreFailure::Open);
        let refund = scene.limiter.refund(Key::new("k").unwrap(), 1).await;
        assert!(matches!(refund, Err(Error::Unavailable { .. })));
    }
}
