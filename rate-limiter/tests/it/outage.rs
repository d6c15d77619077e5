//! Redis slow, cut off, and dead.

use std::sync::Arc;
use std::time::Duration;

use faultline::{Fault, Proxy};
use rate_limiter::clock::Monotonic;
use rate_limiter::resilience::Resilient;
use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{
    AlgorithmName, Error, Key, LimitSpec, Limiter, OnStoreFailure, Policy, PolicySpec, Source,
    Store,
};
use testkit::wait_until;

const TIMEOUT: Duration = Duration::from_millis(100);
const PATIENT: Duration = Duration::from_secs(5);

fn key() -> Key<'static> {
    Key::new("caller").unwrap()
}

fn policy(on_store_failure: OnStoreFailure) -> Policy {
    let algorithm = AlgorithmName::TokenBucket;
    let limit = LimitSpec { name: None, algorithm, rate: 100, per_ms: 3_600_000, burst: None };
    Policy::new("api", &PolicySpec { limits: vec![limit], on_store_failure }).unwrap()
}

fn upstream(redis: &infra::Redis) -> std::net::SocketAddr {
    redis.url().trim_start_matches("redis://").trim_end_matches('/').parse().unwrap()
}

fn through(proxy: &Proxy, timeout: Duration) -> RedisLimiter {
    let url = format!("redis://{}", proxy.addr());
    RedisStore::connect(&url, timeout).unwrap().limiter(policy(OnStoreFailure::Closed))
}

#[tokio::test]
async fn a_reply_that_comes_too_late_is_unavailable_not_denied_and_charges_once() {
    let redis = infra::redis().await.unwrap();
    let proxy = Proxy::start(upstream(&redis)).await.unwrap();
    let limiter = through(&proxy, TIMEOUT);
    assert_eq!(limiter.check(key(), 1).await.unwrap().quota.remaining, 99);
    proxy.set(Fault::Latency { delay: 3 * TIMEOUT });
    let late = limiter.check(key(), 1).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })), "{late:?}");
    proxy.clear();
    let direct =
        RedisStore::connect(redis.url(), PATIENT).unwrap().limiter(policy(OnStoreFailure::Open));
    // The command that was sent arrives; nothing sends it again.
    wait_until("the late charge to arrive", PATIENT, async || {
        direct.peek(key()).await.unwrap().quota.remaining == 98
    })
    .await;
    wait_until("the limiter to work again", PATIENT, async || limiter.peek(key()).await.is_ok())
        .await;
    assert_eq!(direct.peek(key()).await.unwrap().quota.remaining, 98);
}

#[tokio::test]
async fn while_redis_is_dead_the_policy_decides_and_when_it_is_back_redis_does() {
    let redis = infra::redis().await.unwrap();
    let store = RedisStore::connect(redis.url(), TIMEOUT).unwrap();
    let server =
        |mode| Resilient::new(store.limiter(policy(mode)), 10, Arc::new(Monotonic::default()));
    let (open, closed, local) = (
        server(OnStoreFailure::Open),
        server(OnStoreFailure::Closed),
        server(OnStoreFailure::Local),
    );
    assert_eq!(open.check(key(), 1).await.unwrap().source, Source::Store);

    redis.kill9().await.unwrap();
    for _ in 0..20 {
        let decision = open.check(key(), 1).await.unwrap();
        assert_eq!((decision.allowed(), decision.source), (true, Source::FailOpen));
        let decision = closed.check(key(), 1).await.unwrap();
        assert_eq!((decision.allowed(), decision.source), (false, Source::FailClosed));
    }
    let mut admitted = 0;
    for _ in 0..30 {
        let decision = local.check(key(), 1).await.unwrap();
        assert_eq!(decision.source, Source::LocalShare);
        admitted += u32::from(decision.allowed());
    }
    assert_eq!(admitted, 10, "one of ten servers has a tenth of 100");

    redis.restart().await.unwrap();
    for server in [&open, &closed, &local] {
        wait_until("the store to decide again", PATIENT, async || {
            server.check(key(), 1).await.unwrap().source == Source::Store
        })
        .await;
    }
}
