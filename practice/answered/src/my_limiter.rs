//! The limiter in memory, with the constructor that the starter has.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use rate_limiter::clock::Clock;
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, MemoryLimiter};
use rate_limiter::{AlgorithmName, Decision, Error, Grant, Key, Limiter, Policy};

/// What is graded.
pub const ALGORITHM: AlgorithmName = AlgorithmName::TokenBucket;

/// What all servers share: one limiter, made by the first of them.
#[derive(Default)]
pub struct Buckets(OnceLock<Arc<dyn Any + Send + Sync>>);

/// One server's view of it.
pub struct MyLimiter<C>(Arc<MemoryLimiter<C>>);

impl<C: Clock> MyLimiter<C> {
    /// A server over these buckets.
    pub fn new(policy: Policy, buckets: Arc<Buckets>, clock: Arc<C>) -> Self {
        let make = || Arc::new(MemoryLimiter::new(policy, clock, KEYS_MAX_DEFAULT)) as Arc<_>;
        let shared = Arc::clone(buckets.0.get_or_init(make));
        Self(shared.downcast().expect("the servers over one set of buckets have one clock"))
    }
}

impl<C: Clock> Limiter for MyLimiter<C> {
    fn policy(&self) -> &Policy {
        self.0.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.0.check(key, cost).await
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        self.0.peek(key).await
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        self.0.take_up_to(key, at_most).await
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.0.refund(key, cost).await
    }
}
