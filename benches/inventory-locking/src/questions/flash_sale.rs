//! A hundred units, ten thousand buyers.

use std::time::Instant;

use inventory_locking::Inventory;
use inventory_locking::answer::postgres::{Settings, Strategy};

use super::{crowd, postgres, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "flash-sale",
        asks: "A hundred units go on sale and ten thousand people press the button. What happens?",
        explanation: "Read, check, write sells units twice: two buyers read the same number, and \
            READ COMMITTED does not object. Every other answer sells exactly a hundred; they differ \
            in what the other 9,900 cost. When the stock is gone a refusal is a read, but until \
            then everybody queues for one row, so the queue must stand somewhere harmless: at a \
            gate before the connection pool, or in the memory of a writer that serves everybody \
            who waits with one transaction. A buyer who is turned away because the queue is full \
            is told 'busy', not 'sold out'.",
        run: |stage| Box::pin(run(stage)),
    }
}

const STOCK: u64 = 100;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let buyers = stage.pick(2_000, 10_000);
    let server = infra::postgres().await?;
    stage.scene(format!(
        "{STOCK} units in Postgres {}, one row, no sleep anywhere",
        server.version()
    ));
    stage.load(format!("{buyers} buyers, 64 at any time, each wants one"));
    let settings = Settings { connections: 24, per_sku: 24 };

    let (naive, _database) = postgres(&server, Strategy::Naive, settings).await?;
    naive.create(sku("hot"), STOCK).await?;
    let told = crowd(&*naive, "hot", buyers, 64).await;
    let audit = naive.audit().await?;
    stage.observe("read, check, write", format!("{} said yes to {STOCK} units", told.granted));
    stage.expect("the naive answer oversells", told.granted > STOCK, told.granted);
    stage.expect("and the audit sees it", !audit.is_clean(), format!("{:?}", audit.drifts.first()));

    for (name, strategy) in [
        ("optimistic", Strategy::Optimistic),
        ("pessimistic", Strategy::Pessimistic),
        ("conditional", Strategy::Conditional),
        ("units", Strategy::Units),
        ("batching", Strategy::Batching),
    ] {
        let (inventory, _database) = postgres(&server, strategy, settings).await?;
        inventory.create(sku("hot"), STOCK).await?;
        let begun = Instant::now();
        let told = crowd(&*inventory, "hot", buyers, 64).await;
        let took_ms = begun.elapsed().as_millis();
        stage.observe(name, format!("{told:?} in {took_ms} ms"));
        let exact = told.granted == STOCK && told.failed == 0;
        stage.expect(format!("{name} sells exactly {STOCK}"), exact, told.granted);
        let audit = inventory.audit().await?;
        stage.expect(format!("{name}: the books add up"), audit.is_clean(), audit.broken);
    }
    stage.because("what is written must depend on what is there when it is written, not before");
    Ok(())
}
