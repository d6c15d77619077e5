//! The Redis answer on Redis's own clock.

use std::time::Duration;

use infra::Redis;
use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};
use testkit::wait_until;

const PATIENT: Duration = Duration::from_secs(5);

fn limiter(redis: &Redis, policy: Policy) -> RedisLimiter {
    RedisStore::connect(redis.url(), PATIENT).unwrap().limiter(policy)
}

fn key() -> Key<'static> {
    Key::new("caller").unwrap()
}

async fn connection(redis: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn every_state_expires_once_it_has_settled_and_takes_one_small_value() {
    let redis = infra::redis().await.unwrap();
    let mut connection = connection(&redis).await;
    for algorithm in AlgorithmName::ALL {
        let policy = Policy::single("api", algorithm, 10, 200, None).unwrap();
        let limiter = limiter(&redis, policy);
        assert!(limiter.check(key(), 10).await.unwrap().allowed());
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let [key] = &keys[..] else { panic!("{algorithm:?} left {keys:?}") };
        let (bytes, ttl_ms): (u64, i64) =
            redis::pipe().strlen(key).pttl(key).query_async(&mut connection).await.unwrap();
        assert!(bytes <= 40, "{algorithm:?} stores {bytes} bytes for one caller");
        if algorithm == AlgorithmName::Gcra {
            // One number, which is kept for up to two slices of ten seconds longer.
            assert!((1..=20_202).contains(&ttl_ms), "{algorithm:?} expires in {ttl_ms} ms");
            let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
            continue;
        }
        assert!((1..=402).contains(&ttl_ms), "{algorithm:?} expires in {ttl_ms} ms");
        wait_until("the state to expire by itself", PATIENT, async || {
            let left: u64 =
                redis::cmd("DBSIZE").query_async(&mut connection.clone()).await.unwrap();
            left == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_script_cache_that_was_emptied_is_filled_again_without_a_charge_too_many() {
    let redis = infra::redis().await.unwrap();
    let policy = Policy::single("api", AlgorithmName::TokenBucket, 3, 60_000, None).unwrap();
    let limiter = limiter(&redis, policy);
    for remaining in [2, 1, 0] {
        let mut connection = connection(&redis).await;
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
        assert_eq!(limiter.check(key(), 1).await.unwrap().quota.remaining, remaining);
    }
    assert!(!limiter.check(key(), 1).await.unwrap().allowed());
}

#[tokio::test]
async fn a_restarted_redis_is_found_again() {
    let redis = infra::redis().await.unwrap();
    let policy = Policy::single("api", AlgorithmName::Gcra, 3, 60_000, None).unwrap();
    let limiter = limiter(&redis, policy);
    limiter.check(key(), 1).await.unwrap();
    redis.kill9().await.unwrap();
    assert!(limiter.check(key(), 1).await.is_err());
    redis.restart().await.unwrap();
    wait_until("the connection to come back", PATIENT, async || limiter.peek(key()).await.is_ok())
        .await;
}
