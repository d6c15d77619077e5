//! A connection that breaks during COMMIT: nobody knows whether it was done, so nobody guesses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use inventory_locking::answer::postgres::{Postgres, SCHEMA, Settings, Strategy};
use inventory_locking::{Error, Inventory, Key, Line, Lines, Order, Reservation, Sku};
use testkit::seed::Seed;
use tokio::task::JoinSet;

const STOCK: u64 = 100_000;
const BUYERS: usize = 6;

/// COMMITs whose answer must have been lost before a run proves anything.
const AMBIGUOUS_MIN: u64 = 5;

/// The most that one buyer tries until then.
const WISHES_MAX: u64 = 5_000;

fn wish(key: &str) -> Order {
    let sku = Sku::new("hot", "sku").unwrap();
    let lines = Lines::new([Line { sku, quantity: 1 }]).unwrap();
    Order::new(Some(Key::new(key).unwrap()), lines, 600_000).unwrap()
}

/// Buyers reserve through a proxy that cuts all connections again and again, at moments nobody
/// chose; some of the cuts fall between COMMIT and its answer. Whatever a buyer was told must be
/// true, and whatever was taken must belong to a buyer.
async fn cut_and_recount(strategy: Strategy) {
    let seed = Seed::from_env_or_fresh();
    let server = infra::postgres().await.expect("a Postgres to test against");
    let database = server.database("inventory_cut", SCHEMA).await.unwrap();
    let proxy = Arc::new(upstream(&database).await);
    let through = proxy.url_of(database.url());
    let settings = Settings { connections: 6, per_sku: 6 };
    let inventory = Arc::new(Postgres::connect(&through, strategy, settings).await.unwrap());
    inventory.create(Sku::new("hot", "sku").unwrap(), STOCK).await.unwrap();

    let mut buyers = JoinSet::new();
    for buyer in 0..BUYERS {
        let inventory = Arc::clone(&inventory);
        buyers.spawn(async move {
            let (mut granted, mut unknown) = (Vec::new(), Vec::new());
            // Until enough cuts have fallen where they are meant to fall.
            for number in 0..WISHES_MAX {
                if inventory.ambiguous_commits() >= AMBIGUOUS_MIN {
                    break;
                }
                let key = format!("{buyer}-{number}");
                match inventory.reserve(wish(&key)).await {
                    Ok(grant) => granted.push((key, grant.reservation)),
                    Err(Error::Unavailable { .. } | Error::Busy { .. }) => unknown.push(key),
                    Err(error) => panic!("{key}: {error}"),
                }
            }
            (granted, unknown)
        });
    }
    let cutting = {
        let (proxy, mut rng) = (Arc::clone(&proxy), seed.rng());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_micros(rng.u64(2_000..25_000))).await;
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(1)).await; // for the proxy to act on it
                proxy.heal();
            }
        })
    };
    let (mut granted, mut unknown) = (Vec::new(), Vec::new());
    while let Some(buyer) = buyers.join_next().await {
        let (some, others) = buyer.unwrap();
        granted.extend(some);
        unknown.extend(others);
    }
    cutting.abort();
    let ambiguous = inventory.ambiguous_commits();
    println!(
        "{strategy:?}: {} granted, {} told to ask again, {ambiguous} COMMITs without an answer",
        granted.len(),
        unknown.len()
    );
    assert!(!granted.is_empty(), "the proxy was cut too often for anything to get through");
    assert!(ambiguous >= AMBIGUOUS_MIN, "no COMMIT was cut: the test has proved nothing");

    recount(database.url(), strategy, settings, &granted, &unknown).await;
}

/// Past the proxy: what the database says.
async fn recount(
    url: &str,
    strategy: Strategy,
    settings: Settings,
    granted: &[(String, Reservation)],
    unknown: &[String],
) {
    let truth = Postgres::connect(url, strategy, settings).await.unwrap();
    for (key, reservation) in granted {
        let again = truth.reserve(wish(key)).await.unwrap();
        assert!(again.replayed && again.reservation == *reservation, "{key} was lost: {again:?}");
    }
    // Those who were told to ask again do, with the same key: done then or done now, but once.
    for key in unknown {
        truth.reserve(wish(key)).await.unwrap();
    }
    let audit = truth.audit().await.unwrap();
    assert!(audit.is_clean(), "{audit:?}");
    let wishes = granted.len() + unknown.len();
    assert_eq!(audit.held, wishes as i64, "one unit for each key: {audit:?}");
}

async fn upstream(database: &infra::Database) -> faultline::Proxy {
    let authority = database.url().split('@').nth(1).expect("a user in the URL");
    let address = authority.split('/').next().expect("a host");
    faultline::Proxy::start(address).await.expect("a proxy")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_during_commit_neither_loses_nor_doubles_a_reservation() {
    cut_and_recount(Strategy::Conditional).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_its_own_commit_is_looked_up_too() {
    cut_and_recount(Strategy::SingleStatement).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_commit_was_cut_is_written_once() {
    cut_and_recount(Strategy::Batching).await;
}

/// The server itself, killed with everything in flight and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_the_database() {
    let options = infra::PostgresOptions { profile: infra::Profile::Durable, ..Default::default() };
    let server = infra::postgres_with(options).await.expect("a Postgres of its own");
    let database = server.database("inventory_kill", SCHEMA).await.unwrap();
    let settings = Settings { connections: 6, per_sku: 6 };
    let strategy = Strategy::Batching;
    let inventory = Postgres::connect(database.url(), strategy, settings).await.unwrap();
    inventory.create(Sku::new("hot", "sku").unwrap(), STOCK).await.unwrap();
    let inventory = Arc::new(inventory);
    let granted = Arc::new(Mutex::new(Vec::new()));
    let mut buyers = JoinSet::new();
    for buyer in 0..BUYERS {
        let (inventory, granted) = (Arc::clone(&inventory), Arc::clone(&granted));
        buyers.spawn(async move {
            for number in 0.. {
                let key = format!("{buyer}-{number}");
                match inventory.reserve(wish(&key)).await {
                    Ok(grant) => granted.lock().unwrap().push((key, grant.reservation)),
                    Err(_) => break,
                }
            }
        });
    }
    let some = || async { granted.lock().unwrap().len() > 50 };
    testkit::wait_until("the sale is under way", Duration::from_secs(20), some).await;
    server.kill9().await.unwrap();
    // Those who wait for an answer now would wait for connections that cannot be made.
    buyers.shutdown().await;
    let granted = std::mem::take(&mut *granted.lock().unwrap());
    server.restart().await.unwrap();
    let after = Postgres::connect(database.url(), strategy, settings).await.unwrap();
    for (key, reservation) in &granted {
        let again = after.reserve(wish(key)).await.unwrap();
        assert!(again.replayed && again.reservation == *reservation, "{key} was lost");
    }
    let audit = after.audit().await.unwrap();
    assert!(audit.is_clean() && audit.held >= granted.len() as i64, "{audit:?}");
}
