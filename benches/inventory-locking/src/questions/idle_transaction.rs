//! Somebody holds a row and does nothing.

use std::time::{Duration, Instant};

use inventory_locking::Inventory;
use inventory_locking::answer::postgres::{Settings, Strategy};
use sqlx::{Connection, PgConnection};

use super::{MINUTE_MS, crowd, order, postgres, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "idle-transaction",
        asks: "A developer runs UPDATE in a console, forgets to commit, and goes to lunch. What do \
               your customers see?",
        explanation: "Everybody who wants that row waits for the lock, and everybody who waits has \
            a connection. Without a gate the pool is empty within milliseconds, and customers who \
            want something else are served by nobody. Three bounds keep it local: a gate before \
            the pool (so many connections for one SKU and no more), lock_timeout (a buyer of that \
            SKU is told 'busy', never 'sold out'), and idle_in_transaction_session_timeout on our \
            own connections, so that we are never that developer.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let server = infra::postgres().await?;
    stage.scene(format!(
        "Postgres {}, 8 connections, one hot SKU and one cold one",
        server.version()
    ));
    stage.load("64 buyers of the hot SKU, and meanwhile 50 of the cold one, one after the other");
    let mut cold = Vec::new();
    for (name, per_sku) in [("without a gate", 1_000), ("with a gate of 4", 4)] {
        let settings = Settings { connections: 8, per_sku };
        let (inventory, database) = postgres(&server, Strategy::Conditional, settings).await?;
        for name in ["hot", "cold"] {
            inventory.create(sku(name), 1_000_000).await?;
        }
        let mut console = PgConnection::connect(database.url()).await?;
        let mut forgotten = console.begin().await?;
        let update = "UPDATE stock SET version = version WHERE sku = 'hot'";
        sqlx::query(update).execute(&mut *forgotten).await?;
        stage.fault("idle-transaction", format!("a console holds the hot row; {name}"));

        let hot = {
            let inventory = inventory.clone();
            tokio::spawn(async move { crowd(&*inventory, "hot", 64, 64).await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await; // the hot buyers are in the queue
        let (mut served, begun) = (0, Instant::now());
        while begun.elapsed() < Duration::from_secs(2) && served < 50 {
            let one = inventory.reserve(order(None, &["cold"], MINUTE_MS));
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(2), one).await {
                served += 1;
            }
        }
        let took_ms = begun.elapsed().as_millis();
        stage.observe(format!("cold SKU {name}"), format!("{served} of 50 served in {took_ms} ms"));
        cold.push(served);
        forgotten.rollback().await?;
        stage.heal("idle-transaction");
        let told = hot.await?;
        stage.observe(format!("hot SKU {name}"), format!("{told:?}"));
        stage.expect(
            format!("nobody was told 'sold out' {name}"),
            told.sold_out == 0,
            told.sold_out,
        );
        let audit = inventory.audit().await?;
        stage.expect(format!("the books add up {name}"), audit.is_clean(), audit.broken);
    }
    stage.expect("without a gate the cold SKU starves", cold[0] < 50, format!("{} of 50", cold[0]));
    stage.expect("with a gate nobody notices", cold[1] == 50, format!("{} of 50", cold[1]));
    stage.because("who waits for a row must not also hold what others need");
    Ok(())
}
