//! The request timed out; the customer presses the button again.

use std::sync::Arc;
use std::time::Duration;

use inventory_locking::answer::postgres::{Postgres, SCHEMA, Settings, Strategy};
use inventory_locking::{Error, Inventory};

use super::{MINUTE_MS, order, sku};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "inventory-locking",
        name: "retry-after-timeout",
        asks: "The connection to the database breaks while it commits. The customer sees an error \
               and tries again. Do they get it twice?",
        explanation: "Nobody on this side of a broken connection can know whether the COMMIT was \
            done. To try again blindly may sell twice, to report failure may lose a sale. So the \
            first write of the transaction is a row that a repeat collides with: the reservation \
            under the id and the key of the request. The next attempt waits for the lost one to \
            end, if it still runs, and then finds what it has committed. Without a key the same \
            button means two reservations, and no database can tell.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let server = infra::postgres().await?;
    let database = server.database("inventory_question", SCHEMA).await?;
    let authority = database.url().split('@').nth(1).unwrap_or_default();
    let proxy =
        Arc::new(faultline::Proxy::start(authority.split('/').next().unwrap_or_default()).await?);
    let settings = Settings { connections: 8, per_sku: 8 };
    let url = proxy.url_of(database.url());
    let through = Postgres::connect(&url, Strategy::Conditional, settings).await?;
    let through = Arc::new(through);
    let direct = Postgres::connect(database.url(), Strategy::Conditional, settings).await?;
    direct.create(sku("pen"), 1_000_000).await?;
    stage.scene("an inventory that reaches Postgres through a proxy which cuts all connections");

    let wishes = stage.pick(4_000, 20_000);
    stage.load(format!(
        "{wishes} customers on 8 lines, one after the other on each, all with a key"
    ));
    stage.fault("cut", "every connection is reset at a random moment, every 5 to 30 ms");
    let cutting = {
        let (proxy, mut rng) = (Arc::clone(&proxy), fastrand::Rng::with_seed(stage.seed()));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(rng.u64(5..30))).await;
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(1)).await; // for the proxy to act on it
                proxy.heal();
            }
        })
    };
    let mut lines = tokio::task::JoinSet::new();
    for line in 0..8 {
        let through = Arc::clone(&through);
        lines.spawn(async move {
            let (mut pressed, mut again) = (0, 0);
            for wish in (line..wishes).step_by(8) {
                let key = format!("customer-{wish}");
                for press in 0..1_000 {
                    pressed += 1;
                    again += u64::from(press > 0);
                    match through.reserve(order(Some(&key), &["pen"], MINUTE_MS)).await {
                        Ok(_) => break,
                        Err(Error::Unavailable { .. } | Error::Busy { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok((pressed, again))
        });
    }
    let (mut pressed, mut again) = (0, 0);
    while let Some(line) = lines.join_next().await {
        let line = line??;
        (pressed, again) = (pressed + line.0, again + line.1);
    }
    cutting.abort();
    stage.heal("cut");
    stage.observe("the button was pressed", format!("{pressed} times, {again} of them again"));
    let lost = through.ambiguous_commits();
    stage.observe("COMMITs that ended without an answer", lost);
    stage.expect("some cuts fell between COMMIT and its answer", lost > 0, lost);
    let audit = direct.audit().await?;
    let held = audit.held == i64::from(wishes);
    stage.expect("each customer holds exactly one", held, format!("{} for {wishes}", audit.held));
    stage.expect("the books add up", audit.is_clean(), audit.broken);
    stage.because("the key is written in the same transaction as the stock it stands for");
    Ok(())
}
