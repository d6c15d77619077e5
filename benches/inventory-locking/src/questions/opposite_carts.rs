//! Two carts, the same SKUs, opposite order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inventory_locking::Inventory;
use inventory_locking::answer::postgres::{Settings, Strategy};
use sqlx::{Connection, PgConnection};

use super::{MINUTE_MS, order, postgres, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "opposite-carts",
        asks: "One cart holds A and B, another B and A. Can they block each other for ever?",
        explanation: "Lock A then B against B then A is a deadlock: each waits for what the other \
            has. The database finds it after deadlock_timeout (a second), kills one of them, and \
            both have held their rows for that second. The cure costs nothing: everybody locks in \
            one order. Here a cart is merged and sorted when it comes in, and reservations are \
            locked before stock, so there is no other order to lock in.",
        run: |stage| Box::pin(run(stage)),
    }
}

const LOCK: &str = "SELECT available FROM stock WHERE sku = $1 AND slot = 0 FOR UPDATE";

/// Locks two rows in the given order, as a cart that nobody sorts would.
async fn unsorted(url: &str, first: &str, second: &str) -> anyhow::Result<Option<String>> {
    let mut connection = PgConnection::connect(url).await?;
    let mut tx = connection.begin().await?;
    sqlx::query(LOCK).bind(first).execute(&mut *tx).await?;
    tokio::time::sleep(Duration::from_millis(100)).await; // the other one has its first row now
    let second = sqlx::query(LOCK).bind(second).execute(&mut *tx).await;
    let code = second.err().and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    tx.rollback().await?;
    Ok(code)
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let server = infra::postgres().await?;
    let settings = Settings { connections: 16, per_sku: 16 };
    let (inventory, database) = postgres(&server, Strategy::Pessimistic, settings).await?;
    for name in ["a", "b"] {
        inventory.create(sku(name), 1_000_000).await?;
    }
    stage.scene(format!("two SKUs in Postgres {}, SELECT FOR UPDATE", server.version()));

    stage.load("two transactions lock a then b, and b then a, as the customers wrote them");
    let begun = Instant::now();
    let (one, other) =
        tokio::join!(unsorted(database.url(), "a", "b"), unsorted(database.url(), "b", "a"));
    let codes = [one?, other?];
    let waited_ms = begun.elapsed().as_millis();
    let deadlocks = codes.iter().flatten().filter(|code| *code == "40P01").count();
    stage.observe("unsorted", format!("{deadlocks} killed (40P01) after {waited_ms} ms"));
    stage.expect("unsorted carts deadlock", deadlocks == 1, format!("{codes:?}"));

    let carts = stage.pick(400, 4_000);
    stage.load(format!("{carts} carts through the inventory, every other one written backwards"));
    let begun = Instant::now();
    let mut buyers = tokio::task::JoinSet::new();
    for buyer in 0..16 {
        let inventory = Arc::clone(&inventory);
        buyers.spawn(async move {
            let cart = if buyer % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            for _ in 0..carts / 16 {
                inventory.reserve(order(None, &cart, MINUTE_MS)).await?;
            }
            Ok::<_, inventory_locking::Error>(())
        });
    }
    while let Some(buyer) = buyers.join_next().await {
        buyer??;
    }
    let took = begun.elapsed();
    let one_attempt = inventory.attempts() == carts as u64;
    stage.observe("sorted", format!("{carts} carts in {} ms", took.as_millis()));
    stage.expect(
        "no cart was ever killed",
        one_attempt,
        format!("{} attempts", inventory.attempts()),
    );
    let audit = inventory.audit().await?;
    stage.expect("the books add up", audit.is_clean(), audit.broken);
    stage.because("a circle of waiting needs somebody who locks against the order");
    Ok(())
}
