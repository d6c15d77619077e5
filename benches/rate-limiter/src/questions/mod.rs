//! An interviewer's follow-up questions about the rate limiter.

mod a_million_keys;
mod clock_skew;
mod failover;
mod hot_key;
mod hot_tenant;
mod partition;
mod redis_dies;
mod ten_servers;
mod which_of_the_three;
mod window_edge;

use std::sync::Arc;
use std::time::Duration;

use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};

use measure::Question;

/// In the order an interviewer would ask them.
pub(super) fn questions() -> Vec<Question> {
    vec![
        window_edge::question(),
        ten_servers::question(),
        clock_skew::question(),
        redis_dies::question(),
        hot_key::question(),
        hot_tenant::question(),
        which_of_the_three::question(),
        failover::question(),
        partition::question(),
        a_million_keys::question(),
    ]
}

const PATIENT: Duration = Duration::from_secs(2);

fn caller() -> Key<'static> {
    Key::new("caller").expect("a legal key")
}

fn token_bucket(rate: u32, per_ms: u64, burst: u32) -> Policy {
    let policy = Policy::single("api", AlgorithmName::TokenBucket, rate, per_ms, Some(burst));
    policy.expect("legal numbers")
}

/// As many servers as asked for, each with its own connection to one Redis.
fn servers(url: &str, policy: &Policy, count: usize) -> anyhow::Result<Vec<Arc<RedisLimiter>>> {
    let server = |_| Ok(Arc::new(RedisStore::connect(url, PATIENT)?.limiter(policy.clone())));
    (0..count).map(server).collect()
}

/// One check as an outcome of the harness.
async fn check<L: Limiter>(limiter: &L, key: Key<'_>) -> measure::harness::Outcome {
    match limiter.check(key, 1).await {
        Ok(decision) if decision.allowed() => Ok("allowed"),
        Ok(_) => Ok("denied"),
        Err(_) => Err("unavailable"),
    }
}
