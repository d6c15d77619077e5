//! Optimistic against pessimistic as more and more want the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use inventory_locking::Inventory;
use inventory_locking::answer::postgres::{Postgres, Settings, Strategy};

use super::{MINUTE_MS, order, postgres, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "contention",
        asks: "When does optimistic locking beat pessimistic locking?",
        explanation: "When nobody else wants the row, both take one attempt, and optimistic holds \
            no lock while it thinks. When many want it, an optimistic attempt that loses has still \
            waited: its versioned UPDATE queues for the row lock, and only then finds that the \
            version has moved. Losers must therefore stay away for about as long as the queue, \
            which no constant knows: the window here learns it. What optimistic locking is for is \
            a person who edits for a minute, where a lock would be held for that minute. To take a \
            quantity, a conditional update beats both; on one hot row, only several rows or one \
            writer for all help.",
        run: |stage| Box::pin(run(stage)),
    }
}

const SKUS: usize = 64;
const CLIENTS: usize = 24;

/// Reservations a second, and attempts for each.
async fn measure(
    inventory: &Arc<Postgres>,
    skus: usize,
    how_long: Duration,
) -> anyhow::Result<(f64, f64)> {
    let before = inventory.attempts();
    let (over, granted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut buyers = tokio::task::JoinSet::new();
    for buyer in 0..CLIENTS {
        let (inventory, over, granted) =
            (Arc::clone(inventory), Arc::clone(&over), Arc::clone(&granted));
        buyers.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(buyer as u64);
            while !over.load(Ordering::Relaxed) {
                let name = format!("sku-{}", rng.usize(0..skus));
                if inventory.reserve(order(None, &[&name], MINUTE_MS)).await.is_ok() {
                    granted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    tokio::time::sleep(how_long).await;
    let done = granted.load(Ordering::Relaxed);
    over.store(true, Ordering::Relaxed);
    while let Some(buyer) = buyers.join_next().await {
        buyer?;
    }
    let all = granted.load(Ordering::Relaxed).max(1);
    let attempts = (inventory.attempts() - before) as f64 / all as f64;
    Ok((done as f64 / how_long.as_secs_f64(), attempts))
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let options = infra::PostgresOptions {
        profile: infra::Profile::SlowFsync(Duration::from_millis(1)),
        ..Default::default()
    };
    let server = infra::postgres_with(options).await?;
    stage.scene(format!("Postgres {}, every flush takes 1 ms longer than here", server.version()));
    let how_long = stage.pick(Duration::from_millis(1_200), Duration::from_secs(8));
    stage.load(format!("{CLIENTS} buyers without a pause, over {SKUS} SKUs and then all over one"));
    let settings = Settings { connections: CLIENTS as u32, per_sku: CLIENTS };
    let mut hot = Vec::new();
    for (name, strategy) in [
        ("optimistic", Strategy::Optimistic),
        ("pessimistic", Strategy::Pessimistic),
        ("conditional", Strategy::Conditional),
        ("batching", Strategy::Batching),
    ] {
        let (inventory, _database) = postgres(&server, strategy, settings).await?;
        let names = (0..SKUS).map(|n| format!("sku-{n}"));
        let created: Vec<_> = futures::stream::iter(names)
            .map(|name| inventory.create(sku(&name), 1_000_000_000))
            .buffer_unordered(8)
            .collect()
            .await;
        created.into_iter().collect::<Result<Vec<_>, _>>()?;
        for skus in [SKUS, 1] {
            let (per_s, attempts) = measure(&inventory, skus, how_long).await?;
            let attempts_text =
                if attempts > 0.0 { format!("{attempts:.2}") } else { "shared".into() };
            stage.observe(
                format!("{name} over {skus} SKUs"),
                format!("{per_s:.0}/s, attempts per success {attempts_text}"),
            );
            if skus == 1 {
                hot.push((name, per_s, attempts));
            }
        }
        let audit = inventory.audit().await?;
        stage.expect(format!("{name}: the books add up"), audit.is_clean(), audit.broken);
    }
    let [optimistic, pessimistic, _, batching] = hot[..] else {
        anyhow::bail!("four were measured")
    };
    let ratio = batching.1 / pessimistic.1;
    stage.expect(
        "on one SKU a single writer beats every lock",
        ratio > 3.0,
        format!("{ratio:.1}x FOR UPDATE"),
    );
    let wasted = optimistic.2 > pessimistic.2;
    stage.expect("optimistic pays in attempts", wasted, format!("{:.2} each", optimistic.2));
    stage.because(
        "a lock that lasts until the flush changes hands once per flush, whatever its name",
    );
    Ok(())
}
