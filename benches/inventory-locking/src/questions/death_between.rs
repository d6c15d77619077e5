//! The shop dies after it has reserved and before it has confirmed.

use std::time::{Duration, Instant};

use inventory_locking::answer::sqlite::{Sqlite, Strategy};
use inventory_locking::{Error, Inventory, State};
use service::Clock;

use super::{MINUTE_MS, order, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "death-between",
        asks: "Your process dies between reserving and confirming. Who gives the stock back?",
        explanation: "Nobody has to. A hold is worth nothing from its deadline on, and whoever is \
            about to say 'sold out' first takes back what has expired. A sweeper that runs every \
            half second only keeps that path short. Trap: to keep holds in a store with a time to \
            live (a Redis key that expires) frees the key and not the stock, for the counter is \
            somewhere else. A customer whose payment arrives after the deadline is told 'expired' \
            and not sold what belongs to somebody else by now.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("inventory.db");
    let open = || Sqlite::open(&path, Strategy::Batching, Clock::system());
    let shop = open()?;
    shop.create(sku("pen"), 10).await?;
    stage.scene("10 pens in a file; no sweeper runs at any time");
    let mut holds = Vec::new();
    for _ in 0..7 {
        holds.push(shop.reserve(order(None, &["pen"], 1_500)).await?.reservation);
    }
    for _ in 0..3 {
        holds.push(shop.reserve(order(None, &["pen"], MINUTE_MS)).await?.reservation);
    }
    stage.load("ten customers hold one each: seven for 1.5 s, three for a minute");
    drop(shop);
    stage.fault("kill-9", "the process is gone; nobody confirms, nobody cancels");

    let shop = open()?;
    stage.heal("kill-9");
    let item = shop.item(&sku("pen")).await?;
    stage.expect("the holds have survived", item.held == 10, format!("{} held", item.held));
    let early = shop.reserve(order(None, &["pen"], MINUTE_MS)).await;
    let sold_out = matches!(early, Err(Error::SoldOut { .. }));
    stage.expect("nobody else gets them before the deadline", sold_out, format!("{early:?}"));

    let begun = Instant::now();
    let bought = loop {
        if let Ok(grant) = shop.reserve(order(None, &["pen"], MINUTE_MS)).await {
            break grant.reservation;
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(10), "the stock never came back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let late_ms = bought.granted_at_ms.saturating_sub(holds[0].expires_at_ms);
    stage.expect("their stock is for sale at once", late_ms < 500, format!("after {late_ms} ms"));
    let not_early = bought.granted_at_ms >= holds[0].expires_at_ms;
    stage.expect("and not a moment too early", not_early, bought.granted_at_ms);
    let confirmed = shop.confirm(holds[9].id).await?;
    let state = confirmed.state == State::Confirmed;
    stage.expect("who still has time can pay", state, format!("{:?}", confirmed.state));
    let late = shop.confirm(holds[0].id).await;
    let expired = matches!(late, Err(Error::Expired(_)));
    stage.expect("who is late cannot", expired, format!("{late:?}"));
    let audit = shop.audit().await?;
    stage.expect("the books add up", audit.is_clean(), audit.broken);
    stage.because("expiry is a comparison made by whoever looks, not an event somebody must cause");
    Ok(())
}
