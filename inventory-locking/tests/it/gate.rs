//! A gate whose Redis really dies: killed, restarted, frozen, in the middle of a sale.

use std::sync::Arc;
use std::time::Duration;

use inventory_locking::answer::gated::Gated;
use inventory_locking::answer::gated::gate::{self, Asked, Gate};
use inventory_locking::answer::sqlite::{Sqlite, Strategy};
use inventory_locking::{Error, Inventory, Key, Line, Lines, Order, Sku};
use service::Clock;
use tokio::task::JoinSet;

const STOCK: u64 = 2_000;

fn one(key: Option<&str>) -> Order {
    let lines = Lines::new([Line { sku: Sku::new("hot", "sku").unwrap(), quantity: 1 }]).unwrap();
    Order::new(key.map(|key| Key::new(key).unwrap()), lines, 600_000).unwrap()
}

/// A gated shop over a file and a Redis of its own.
async fn shop(directory: &tempfile::TempDir, redis: &infra::Redis) -> Gated<Sqlite> {
    let path = directory.path().join("inventory.db");
    let truth = Sqlite::open(&path, Strategy::Batching, Clock::system()).unwrap();
    let gate = Gate::connect(redis.url(), gate::Settings::default()).unwrap();
    Gated::new(truth, gate)
}

async fn is_shut(shop: &Gated<Sqlite>) -> bool {
    matches!(shop.gate().ask(&one(None)).await, Asked::Short { .. })
}

/// Refuses until the gate has learnt that nothing is left.
async fn wait_until_shut(shop: &Gated<Sqlite>) {
    let shut = || async {
        let refused = shop.reserve(one(None)).await;
        assert!(matches!(refused, Err(Error::SoldOut { available: 0, .. })), "{refused:?}");
        is_shut(shop).await
    };
    testkit::wait_until("the gate is shut", Duration::from_secs(10), shut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_survives_a_redis_that_is_killed_and_comes_back_empty() {
    let directory = tempfile::tempdir().unwrap();
    let redis = infra::redis().await.expect("a Redis of its own");
    let shop = Arc::new(shop(&directory, &redis).await);
    shop.create(Sku::new("hot", "sku").unwrap(), STOCK).await.unwrap();
    let mut buyers = JoinSet::new();
    for buyer in 0..8 {
        let shop = Arc::clone(&shop);
        buyers.spawn(async move {
            let (mut granted, mut refused) = (Vec::new(), 0);
            for wish in 0.. {
                let key = format!("{buyer}-{wish}");
                match shop.reserve(one(Some(&key))).await {
                    Ok(grant) => granted.push((key, grant.reservation)),
                    Err(Error::SoldOut { .. }) => refused += 1,
                    Err(error) => panic!("{key}: {error}"),
                }
                if refused == 20 {
                    break;
                }
            }
            granted
        });
    }
    let under_way = || async { shop.audit().await.is_ok_and(|audit| audit.held > 100) };
    testkit::wait_until("the sale is under way", Duration::from_secs(20), under_way).await;
    redis.kill9().await.unwrap();
    redis.restart().await.unwrap();
    let mut granted = Vec::new();
    while let Some(buyer) = buyers.join_next().await {
        granted.extend(buyer.unwrap());
    }
    assert_eq!(granted.len() as u64, STOCK, "every unit was sold, once");
    wait_until_shut(&shop).await;
    // The keys of before the restart are gone; who holds a unit gets their answer all the same.
    for (key, reservation) in &granted {
        let again = shop.reserve(one(Some(key))).await.unwrap();
        assert!(again.replayed && again.reservation == *reservation, "{key}: {again:?}");
    }
    let audit = shop.audit().await.unwrap();
    assert!(audit.is_clean() && audit.held as u64 == STOCK, "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restarted_redis_has_kept_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let options = infra::RedisOptions { durable: true, ..Default::default() };
    let redis = infra::redis_with(options).await.expect("a Redis of its own");
    let shop = shop(&directory, &redis).await;
    let hot = Sku::new("hot", "sku").unwrap();
    shop.create(hot.clone(), 1).await.unwrap();
    shop.reserve(one(None)).await.unwrap();
    wait_until_shut(&shop).await;
    redis.restart().await.unwrap();
    // The entry is still there and still fresh, as far as its own words go; it comes from before.
    let reached = || async { shop.gate().look(&hot, true).await.is_some() };
    testkit::wait_until("Redis answers again", Duration::from_secs(10), reached).await;
    assert!(!is_shut(&shop).await, "an entry from before the restart was believed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_does_not_answer_is_an_open_gate() {
    let directory = tempfile::tempdir().unwrap();
    let redis = infra::redis().await.expect("a Redis of its own");
    let shop = shop(&directory, &redis).await;
    let hot = Sku::new("hot", "sku").unwrap();
    shop.create(hot.clone(), 2).await.unwrap();
    redis.pause().await.unwrap();
    let first = shop.reserve(one(None)).await.unwrap().reservation.id;
    shop.reserve(one(None)).await.unwrap();
    let refused = shop.reserve(one(None)).await;
    assert!(matches!(refused, Err(Error::SoldOut { available: 0, .. })), "{refused:?}");
    shop.cancel(first).await.unwrap();
    shop.reserve(one(None)).await.unwrap();
    redis.resume().await.unwrap();
    wait_until_shut(&shop).await;
}
