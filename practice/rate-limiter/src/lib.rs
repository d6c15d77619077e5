//! Your rate limiter: several servers, one quota.
//!
//! Start with `check`: look the caller up, refill the bucket for the time that has passed, take
//! `cost` out if every limit of the policy has it, and say when to come back if not; `peek` is the
//! same without taking. The contract is `rate-limiter/src/limiter.rs`;
//! `cargo run --release -- grade rate-limiter` says how far you are.
#![allow(clippy::todo, missing_docs, unused_variables, reason = "the bodies are yours to fill in")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rate_limiter::clock::Clock;
use rate_limiter::{AlgorithmName, Decision, Error, Grant, Key, Limiter, Policy};

/// What you implement; every algorithm of the crate has its own bound to be graded by.
pub const ALGORITHM: AlgorithmName = AlgorithmName::TokenBucket;

/// What all servers share: for every (limit, caller) a bucket.
///
/// Ask yourself what a bucket is: tokens as a float drift apart from the truth; whole tokens lose
/// the fraction; which unit loses nothing?
#[derive(Default)]
pub struct Buckets {
    /// Yours to change.
    pub of: Mutex<HashMap<(usize, String), ()>>,
}

/// One server's limiter for one policy.
pub struct MyLimiter<C> {
    policy: Policy,
    buckets: Arc<Buckets>,
    clock: Arc<C>,
}

impl<C: Clock> MyLimiter<C> {
    /// A server that enforces `policy` together with all others over the same buckets.
    pub fn new(policy: Policy, buckets: Arc<Buckets>, clock: Arc<C>) -> Self {
        Self { policy, buckets, clock }
    }
}

impl<C: Clock> Limiter for MyLimiter<C> {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let now = self.clock.now();
        let buckets = self.buckets.of.lock();
        todo!("charge every limit of the policy, or none of them")
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        todo!("what check would say about a cost of one, charging nothing")
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        todo!("charge the smaller of what is asked for and what is left")
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        todo!("give back what was charged, and never more than the limit")
    }
}
