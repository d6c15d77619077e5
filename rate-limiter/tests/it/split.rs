//! A caller in parts: never more than the limit, and hardly less.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::EPOCH;
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, Memory};
use rate_limiter::store::redis::{RedisSettings, RedisStore};
use rate_limiter::store::split::SplitLimiter;
use rate_limiter::{AlgorithmName, Key, Limiter, Outcome, Policy};
use testkit::seed::Seed;

fn hot() -> Key<'static> {
    Key::new("hot").unwrap()
}

fn policy() -> Policy {
    Policy::single("api", AlgorithmName::TokenBucket, 1_003, 1_000, Some(207)).unwrap()
}

/// Nothing here waits, so every future is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the in-process store answers at once")
}

#[test]
fn the_parts_together_are_the_limit_and_at_least_97_percent_of_it_is_used() {
    let mut rng = Seed::from_env_or_fresh().rng();
    let clock = Arc::new(ManualClock::at(EPOCH));
    let store = Memory::new(Arc::clone(&clock), KEYS_MAX_DEFAULT);
    let limiter = SplitLimiter::new(&store, policy(), 8, [hot()]).unwrap();
    assert_eq!(now(limiter.peek(hot())).unwrap().quota.remaining, 207);
    let mut admitted = 0;
    for _ in 0..20_000 {
        clock.advance(Duration::from_micros(rng.u64(0..1_400)));
        admitted += u64::from(now(limiter.check(hot(), 1)).unwrap().allowed());
    }
    let most = 207 + clock.now().since(EPOCH) * 1_003 / 1_000_000;
    assert!(admitted <= most, "{admitted} of {most}");
    assert!(admitted * 100 >= most * 97, "{admitted} of {most}");
}

#[test]
fn taking_gathers_from_all_parts_and_a_cost_beyond_one_part_is_too_large() {
    let store = Memory::new(Arc::new(ManualClock::at(EPOCH)), KEYS_MAX_DEFAULT);
    let limiter = SplitLimiter::new(&store, policy(), 8, [hot()]).unwrap();
    assert_eq!(now(limiter.check(hot(), 27)).unwrap().outcome, Outcome::TooLarge);
    assert_eq!(now(limiter.take_up_to(hot(), 200)).unwrap().granted, 200);
    now(limiter.refund(hot(), 5)).unwrap();
    let rest = now(limiter.take_up_to(hot(), 200)).unwrap();
    assert_eq!(rest.granted, 12, "7 were left and 5 came back");
    assert!(!now(limiter.check(hot(), 1)).unwrap().allowed());
    assert_eq!(now(limiter.take_up_to(hot(), 1)).unwrap().granted, 0);
    let other = Key::new("other").unwrap();
    assert!(now(limiter.check(other, 207)).unwrap().allowed(), "others are whole");
}

#[test]
fn what_cannot_be_split_is_refused_with_the_field() {
    let store = Memory::default();
    let long = "k".repeat(254);
    let small = Policy::single("api", AlgorithmName::Gcra, 5, 1_000, None).unwrap();
    for (policy, parts, key, field) in [
        (policy(), 1, "hot", "parts"),
        (policy(), 65, "hot", "parts"),
        (small, 8, "hot", "limits/0/rate"),
        (policy(), 8, &*long, "key"),
    ] {
        let error = SplitLimiter::new(&store, policy, parts, [Key::new(key).unwrap()]);
        let error = error.err().expect("it must be refused").to_string();
        assert!(error.starts_with(&format!("{field} ")), "{field}: {error}");
    }
}

#[tokio::test]
async fn in_a_cluster_the_parts_are_on_all_primaries() {
    let cluster = infra::redis_cluster().await.unwrap();
    let patient = Duration::from_secs(10);
    let settings = RedisSettings { response_timeout: patient, ..RedisSettings::default() };
    let store = RedisStore::cluster(&cluster.urls(), settings).unwrap();
    let limiter = SplitLimiter::new(&store, policy(), 16, [hot()]).unwrap();
    let yearly = Policy::single("year", AlgorithmName::FixedWindow, 160, 31_536_000_000, None);
    let counted = SplitLimiter::new(&store, yearly.unwrap(), 16, [hot()]).unwrap();
    for _ in 0..32 {
        assert!(limiter.check(hot(), 1).await.unwrap().allowed());
        assert!(counted.check(hot(), 1).await.unwrap().allowed());
    }
    assert_eq!(counted.peek(hot()).await.unwrap().quota.remaining, 128);
    for primary in &cluster.nodes()[..3] {
        let client = redis::Client::open(primary.redis().url()).unwrap();
        let mut direct = client.get_multiplexed_async_connection().await.unwrap();
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut direct).await.unwrap();
        assert!(keys > 0, "{} has no part", primary.id());
    }
}
