//! An interviewer's follow-up questions about the inventory.

mod flash_sale;
mod retry_after_timeout;
mod death_between;
mod idle_transaction;
mod opposite_carts;
mod contention;
mod lost_gate;

use std::sync::Arc;

use futures::StreamExt;
use inventory_locking::answer::postgres::{Postgres, SCHEMA, Settings, Strategy};
use inventory_locking::{Error, Inventory, Key, Line, Lines, Order, Sku};

use measure::Question;

/// In the order an interviewer would ask them.
pub(super) fn questions() -> Vec<Question> {
    vec![
        flash_sale::question(),
        contention::question(),
        retry_after_timeout::question(),
        death_between::question(),
        opposite_carts::question(),
        idle_transaction::question(),
        lost_gate::question(),
    ]
}

fn sku(name: &str) -> Sku {
    Sku::new(name, "sku").expect("a legal SKU")
}

fn order(key: Option<&str>, cart: &[&str], ttl_ms: u64) -> Order {
    let lines = cart.iter().map(|name| Line { sku: sku(name), quantity: 1 });
    let lines = Lines::new(lines).expect("a legal cart");
    let key = key.map(|key| Key::new(key).expect("a legal key"));
    Order::new(key, lines, ttl_ms).expect("a legal time to live")
}

const MINUTE_MS: u64 = 60_000;

/// A fresh database and an inventory over it. The database goes when it is dropped.
async fn postgres(
    server: &infra::Postgres,
    strategy: Strategy,
    settings: Settings,
) -> anyhow::Result<(Arc<Postgres>, infra::Database)> {
    let database = server.database("inventory_question", SCHEMA).await?;
    let inventory = Postgres::connect(database.url(), strategy, settings).await?;
    Ok((Arc::new(inventory), database))
}

/// What a crowd was told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    granted: u64,
    sold_out: u64,
    busy: u64,
    failed: u64,
}

/// `buyers` who each want one, `at_once` of them at any time.
async fn crowd<I: Inventory>(inventory: &I, name: &str, buyers: usize, at_once: usize) -> Told {
    let results = futures::stream::iter(0..buyers)
        .map(|_| inventory.reserve(order(None, &[name], MINUTE_MS)))
        .buffer_unordered(at_once);
    results
        .fold(Told::default(), |mut told, result| async move {
            match result {
                Ok(_) => told.granted += 1,
                Err(Error::SoldOut { .. }) => told.sold_out += 1,
                Err(Error::Busy { .. }) => told.busy += 1,
                Err(_) => told.failed += 1,
            }
            told
        })
        .await
}
