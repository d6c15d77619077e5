//! Coalescing when calls fail, waiters leave, and Redis answers late.

use std::sync::Arc;
use std::time::Duration;

use faultline::{Fault, Proxy};
use futures::future::join_all;
use rate_limiter::store::coalesced::{CoalescedLimiter, CoalescedStore, WAITERS_MAX};
use rate_limiter::store::redis::{RedisLimiter, RedisStore};
use rate_limiter::{AlgorithmName, Error, Key, Limiter, Policy, Store};
use testkit::wait_until;

const TIMEOUT: Duration = Duration::from_millis(200);
const PATIENT: Duration = Duration::from_secs(5);
const LIMIT: u32 = 100_000;

fn key() -> Key<'static> {
    Key::new("caller").unwrap()
}

fn policy() -> Policy {
    Policy::single("api", AlgorithmName::FixedWindow, LIMIT, 366 * 24 * 3_600_000, None).unwrap()
}

struct Scene {
    redis: infra::Redis,
    proxy: Proxy,
    /// Behind the proxy.
    limiter: Arc<CoalescedLimiter>,
    /// Beside it.
    direct: RedisLimiter,
}

impl Scene {
    async fn set() -> Self {
        let redis = infra::redis().await.unwrap();
        let address = redis.url().trim_start_matches("redis://").trim_end_matches('/');
        let proxy = Proxy::start(address).await.unwrap();
        let store = RedisStore::connect(&format!("redis://{}", proxy.addr()), TIMEOUT).unwrap();
        let limiter = Arc::new(CoalescedStore::new(store).limiter(policy()));
        let direct = RedisStore::connect(redis.url(), PATIENT).unwrap().limiter(policy());
        limiter.peek(key()).await.unwrap();
        Self { redis, proxy, limiter, direct }
    }

    async fn charged(&self) -> u32 {
        LIMIT - self.direct.peek(key()).await.unwrap().quota.remaining
    }
}

#[tokio::test]
async fn a_call_that_fails_fails_everybody_in_it_once_and_the_next_one_works() {
    let scene = Scene::set().await;
    scene.proxy.cut();
    let answers = join_all((0..50).map(|_| scene.limiter.check(key(), 1)));
    // Nobody hangs: whoever waits behind the call that times out fails with it.
    let answers = tokio::time::timeout(PATIENT, answers).await.expect("everybody is answered");
    for answer in answers {
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(scene.charged().await, 0);
    scene.proxy.heal();
    wait_until("calls to work again", PATIENT, async || scene.limiter.peek(key()).await.is_ok())
        .await;
    let answers = join_all((0..50).map(|_| scene.limiter.check(key(), 1))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|d| d.allowed())));
    assert_eq!(scene.charged().await, 50);
}

#[tokio::test]
async fn a_reply_that_comes_too_late_charged_its_call_once_and_the_line_behind_it_not_at_all() {
    let scene = Scene::set().await;
    scene.proxy.set(Fault::Latency { delay: 3 * TIMEOUT });
    let (first, behind) = tokio::join!(
        scene.limiter.check(key(), 1),
        // Polled after the first one's call was sent.
        async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            join_all((0..20).map(|_| scene.limiter.check(key(), 1))).await
        }
    );
    assert!(matches!(first, Err(Error::Unavailable { .. })), "{first:?}");
    assert!(behind.iter().all(Result::is_err), "{behind:?}");
    scene.proxy.clear();
    wait_until("the late charge to arrive", PATIENT, async || scene.charged().await == 1).await;
    wait_until("calls to work again", PATIENT, async || scene.limiter.peek(key()).await.is_ok())
        .await;
    assert_eq!(scene.charged().await, 1, "a call is never sent twice");
}

#[tokio::test]
async fn who_leaves_the_line_is_not_charged_and_leaves_nobody_waiting() {
    let scene = Scene::set().await;
    scene.proxy.set(Fault::Latency { delay: TIMEOUT / 4 });
    let started = {
        let limiter = Arc::clone(&scene.limiter);
        tokio::spawn(async move { limiter.check(key(), 1).await })
    };
    tokio::task::yield_now().await;
    let mut line: Vec<_> = (0..20).map(|_| Box::pin(scene.limiter.check(key(), 1))).collect();
    for waiter in &mut line {
        assert!(futures::poll!(waiter).is_pending());
    }
    // Whoever started the call leaves, and half of the line.
    started.abort();
    line.truncate(10);
    for answer in join_all(line).await {
        assert!(answer.unwrap().allowed());
    }
    let charged = scene.charged().await;
    assert!((10..=11).contains(&charged), "ten stayed and one may have left in flight: {charged}");
}

#[tokio::test]
async fn the_line_is_bounded() {
    let scene = Scene::set().await;
    scene.proxy.cut();
    let answers = join_all((0..WAITERS_MAX + 500).map(|_| scene.limiter.check(key(), 1))).await;
    let full = answers.iter().filter(|answer| match answer {
        Err(error) => error.to_string().contains("waiting already"),
        Ok(_) => false,
    });
    assert!(full.count() >= 100, "more than {WAITERS_MAX} were let into the line");
}

#[tokio::test]
async fn a_script_cache_that_was_emptied_is_filled_again_without_a_charge_too_many() {
    let scene = Scene::set().await;
    for round in 1..=3 {
        let client = redis::Client::open(scene.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
        let answers = join_all((0..10).map(|_| scene.limiter.check(key(), 1))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(scene.charged().await, 10 * round);
    }
}
