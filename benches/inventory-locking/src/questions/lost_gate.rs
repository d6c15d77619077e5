//! A Redis stands in front of the database, and dies during the sale.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use inventory_locking::answer::gated::Gated;
use inventory_locking::answer::gated::gate::{Gate, Settings as GateSettings};
use inventory_locking::answer::postgres::{Settings, Strategy};
use inventory_locking::{Error, Inventory};

use super::{MINUTE_MS, order, postgres, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "lost-gate",
        asks: "You put a Redis in front of the database to turn away those who come too late. In \
               the middle of the sale it is killed and comes back empty. What is sold twice?",
        explanation: "Nothing, because nothing was ever sold in Redis. To take a unit there and to \
            write it into SQL afterwards makes two truths, and a Redis that comes back empty sells \
            everything again. This gate only refuses, and only what SQL would certainly refuse: it \
            keeps an upper bound of what is left, counts a grant after its commit and announces \
            stock that comes back before it does. Whatever is lost in between leaves the bound too \
            high, and the price of that is a question to SQL. The one refusal that needs care is \
            that of a repeat: whoever holds the last unit and asks again is to get it again, so a \
            gate that may have forgotten keys looks them up.",
        run: |stage| Box::pin(run(stage)),
    }
}

const STOCK: u64 = 500;
const AT_ONCE: usize = 32;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let buyers = stage.pick(3_000_usize, 20_000);
    let server = infra::postgres().await?;
    let redis = Arc::new(infra::redis().await?);
    let settings = Settings { connections: 16, per_sku: 16 };
    let (truth, _database) = postgres(&server, Strategy::Conditional, settings).await?;
    truth.create(sku("hot"), STOCK).await?;
    let gate = Gate::connect(redis.url(), GateSettings::default())?;
    let shop = Gated::new((*truth).clone(), gate);
    stage.scene(format!(
        "{STOCK} units in Postgres {}, behind a gate in Redis {}",
        server.version(),
        redis.version()
    ));

    stage.load(format!("{buyers} buyers with a key each, {AT_ONCE} at any time"));
    stage.fault("redis-down", "killed when a part of them has come, back with nothing in it");
    let killing = {
        let (redis, truth) = (Arc::clone(&redis), Arc::clone(&truth));
        tokio::spawn(async move {
            while truth.audit().await.is_ok_and(|audit| (audit.held as u64) < STOCK / 4) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            redis.kill9().await?;
            redis.restart().await
        })
    };
    let results: Vec<_> = futures::stream::iter(0..buyers)
        .map(|buyer| {
            let (shop, key) = (&shop, format!("buyer-{buyer}"));
            async move { (shop.reserve(order(Some(&key), &["hot"], MINUTE_MS)).await, key) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    killing.await??;
    stage.heal("redis-down");
    let granted: Vec<_> = results
        .iter()
        .filter_map(|(result, key)| Some((result.as_ref().ok()?.reservation.id, key)))
        .collect();
    let refused =
        results.iter().filter(|(result, _)| matches!(result, Err(Error::SoldOut { .. }))).count();
    stage.observe("told yes, told sold out", format!("{}, {refused}", granted.len()));
    let asked = truth.attempts();
    stage.observe("questions that reached SQL as a transaction", format!("{asked} of {buyers}"));
    let exact = granted.len() as u64 == STOCK && refused + granted.len() == buyers;
    stage.expect(format!("exactly {STOCK} were sold"), exact, granted.len());

    let mut same = 0;
    for (id, key) in &granted {
        let again = shop.reserve(order(Some(key), &["hot"], MINUTE_MS)).await;
        same += usize::from(again.is_ok_and(|grant| grant.replayed && grant.reservation.id == *id));
    }
    stage.expect("who holds a unit and asks again gets it again", same == granted.len(), same);
    shop.cancel(granted[0].0).await?;
    let resold = shop.reserve(order(Some("late"), &["hot"], MINUTE_MS)).await;
    stage.expect("a unit given back is sold at once", resold.is_ok(), resold.is_ok());
    let audit = shop.audit().await?;
    stage.expect("the books add up", audit.is_clean(), audit.broken);
    stage.because("the gate refuses and never grants, so what it loses can only cost a question");
    Ok(())
}
