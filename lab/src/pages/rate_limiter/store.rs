//! One registry, two stores: a policy gets the store that is selected when it is put.

use std::sync::Arc;

use parking_lot::Mutex;
use rate_limiter::store::memory::{Memory, MemoryLimiter};
use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{Decision, Error, Grant, Key, Limiter, Policy, Store};

/// In process until a Redis is selected.
#[derive(Default)]
pub(super) struct Selected {
    memory: Memory,
    redis: Mutex<Option<Arc<RedisStore>>>,
}

impl Selected {
    /// For the policies that are put from now on.
    pub(super) fn select_memory(&self) {
        *self.redis.lock() = None;
    }

    /// For the policies that are put from now on.
    pub(super) fn select_redis(&self, redis: Arc<RedisStore>) {
        *self.redis.lock() = Some(redis);
    }

    fn redis(&self) -> Option<Arc<RedisStore>> {
        self.redis.lock().clone()
    }
}

impl Store for Selected {
    type Limiter = Either;

    fn limiter(&self, policy: Policy) -> Either {
        match self.redis() {
            None => Either::Memory(self.memory.limiter(policy)),
            Some(redis) => Either::Redis(redis.limiter(policy)),
        }
    }

    async fn ping(&self) -> Result<(), Error> {
        match self.redis() {
            None => self.memory.ping().await,
            Some(redis) => redis.ping().await,
        }
    }
}

/// A limiter of either store.
pub(super) enum Either {
    Memory(MemoryLimiter),
    Redis(RedisLimiter),
}

impl Limiter for Either {
    fn policy(&self) -> &Policy {
        match self {
            Self::Memory(limiter) => limiter.policy(),
            Self::Redis(limiter) => limiter.policy(),
        }
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        match self {
            Self::Memory(limiter) => limiter.check(key, cost).await,
            Self::Redis(limiter) => limiter.check(key, cost).await,
        }
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        match self {
            Self::Memory(limiter) => limiter.peek(key).await,
            Self::Redis(limiter) => limiter.peek(key).await,
        }
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        match self {
            Self::Memory(limiter) => limiter.take_up_to(key, at_most).await,
            Self::Redis(limiter) => limiter.take_up_to(key, at_most).await,
        }
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        match self {
            Self::Memory(limiter) => limiter.refund(key, cost).await,
            Self::Redis(limiter) => limiter.refund(key, cost).await,
        }
    }
}
