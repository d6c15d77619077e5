//! Promises about many callers at the same moment, on real threads.

use std::sync::atomic::{AtomicBool, Ordering};

use testkit::seed::Seed;
use testkit::{Verdict, ensure};
use tokio::task::JoinSet;

use super::*;

/// How many ask at once. More than any answer has connections or permits.
const CROWD: usize = 32;

/// Long enough for the slowest answer, short enough to tell that it is stuck.
const PATIENCE: Duration = Duration::from_secs(8);

/// Runs the tasks to their end, or says that they hang.
async fn all<T: Send + 'static>(mut tasks: JoinSet<Result<T, Broken>>) -> Result<Vec<T>, Broken> {
    let joining = async {
        let mut done = Vec::new();
        while let Some(task) = tasks.join_next().await {
            done.push(task.map_err(|error| Broken::because(error.to_string()))??);
        }
        Ok(done)
    };
    let hang = || Err(Broken::because(format!("not all came to an end within {PATIENCE:?}")));
    tokio::time::timeout(PATIENCE, joining).await.unwrap_or_else(|_| hang())
}

fn shared<I>(servers: Vec<I>) -> Vec<Arc<I>> {
    servers.into_iter().map(Arc::new).collect()
}

pub(super) async fn concurrent_buyers_never_oversell<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stock = 100;
    let servers = shared(stocked_servers(&*fixture, 3, &[("hot", stock)]).await?);
    let mut tasks = JoinSet::new();
    for buyer in 0..CROWD {
        let server = Arc::clone(&servers[buyer % servers.len()]);
        tasks.spawn(async move {
            let (mut granted, mut refused) = (0, 0);
            // Together they want about twice what there is, in ones and twos.
            for attempt in 0..4 {
                let quantity = 1 + (buyer as u64 + attempt) % 2;
                match reserve(&*server, order(&[("hot", quantity)])).await {
                    Ok(_) => granted += quantity,
                    Err(Error::SoldOut { .. }) => refused += quantity,
                    Err(error) => return Err(failed(error)),
                }
            }
            Ok((granted, refused))
        });
    }
    let (granted, refused) =
        all(tasks).await?.into_iter().fold((0, 0), |sum, buyer| (sum.0 + buyer.0, sum.1 + buyer.1));
    let now = numbers(&*servers[0], "hot").await?;
    ensure!(granted <= stock, "{granted} of {stock} were granted, {refused} refused");
    ensure!(now == (stock - granted, granted, 0), "{granted} were granted, the stock is {now:?}");
    // Whoever wanted one was refused only when none was left, so at most one unit remains
    // (nobody may have wanted a single one after it became the last).
    ensure!(granted + 1 >= stock, "{granted} of {stock} were granted, yet {refused} were refused");
    clean(&*servers[0]).await
}

pub(super) async fn concurrent_repeats_reserve_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = shared(stocked_servers(&*fixture, 3, &[("a", 100), ("b", 100)]).await?);
    for wish in 0..4 {
        let wish = format!("wish-{wish}");
        let mut tasks = JoinSet::new();
        for sender in 0..CROWD / 2 {
            let server = Arc::clone(&servers[sender % servers.len()]);
            let order = keyed(&wish, &[("a", 1), ("b", 2)]);
            tasks.spawn(async move { reserve(&*server, order).await.map_err(failed) });
        }
        let grants = all(tasks).await?;
        let first = grants.iter().filter(|grant| !grant.replayed).count();
        ensure!(first == 1, "{first} of {} senders of {wish} were the first", grants.len());
        let id = grants[0].reservation.id;
        let one = grants.iter().all(|grant| grant.reservation.id == id);
        ensure!(one, "{wish} made more than one reservation");
    }
    let now = numbers(&*servers[0], "b").await?;
    ensure!(now == (92, 8, 0), "four wishes of two each: {now:?}");
    clean(&*servers[0]).await
}

pub(super) async fn confirm_and_cancel_race_to_one_winner<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = shared(stocked_servers(&*fixture, 2, &[("pen", 1_000)]).await?);
    let mut sold = 0;
    for _ in 0..12 {
        let id = held(&*servers[0], order(&[("pen", 3)])).await?.id;
        let mut tasks = JoinSet::new();
        for racer in 0..6 {
            let server = Arc::clone(&servers[racer % servers.len()]);
            tasks.spawn(async move {
                let result = match racer % 2 {
                    0 => confirm(&*server, id).await,
                    _ => cancel(&*server, id).await,
                };
                Ok((racer % 2 == 0, named(&result)))
            });
        }
        let results = all(tasks).await?;
        let won = |confirming| results.iter().any(|r| r.0 == confirming && r.1 == "ok");
        ensure!(won(true) != won(false), "both or none won: {results:?}");
        sold += if won(true) { 3 } else { 0 };
        let loser = if won(true) { "ended as confirmed" } else { "ended as cancelled" };
        let fair = results.iter().all(|r| r.1 == "ok" || r.1 == loser);
        ensure!(fair, "the losers were told something else: {results:?}");
    }
    let now = numbers(&*servers[0], "pen").await?;
    ensure!(now == (1_000 - sold, 0, sold), "{sold} were sold: {now:?}");
    clean(&*servers[0]).await
}

pub(super) async fn opposite_carts_do_not_deadlock<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = shared(stocked_servers(&*fixture, 2, &[("a", 500), ("b", 500)]).await?);
    let mut tasks = JoinSet::new();
    for buyer in 0..CROWD / 2 {
        let server = Arc::clone(&servers[buyer % servers.len()]);
        let cart = if buyer % 2 == 0 { [("a", 1), ("b", 1)] } else { [("b", 1), ("a", 1)] };
        tasks.spawn(async move {
            for attempt in 0..4 {
                let id = held(&*server, order(&cart)).await?.id;
                if attempt % 2 == 0 {
                    cancel(&*server, id).await.map_err(failed)?;
                } else {
                    confirm(&*server, id).await.map_err(failed)?;
                }
            }
            Ok(())
        });
    }
    all(tasks).await?;
    for name in ["a", "b"] {
        let now = numbers(&*servers[0], name).await?;
        ensure!(now == (468, 0, 32), "16 buyers confirmed 2 carts each: {name} is {now:?}");
    }
    clean(&*servers[0]).await
}

pub(super) async fn editors_never_overwrite_each_other<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = shared(stocked_servers(&*fixture, 2, &[("pen", 0)]).await?);
    let mut tasks = JoinSet::new();
    for editor in 0..8 {
        let server = Arc::clone(&servers[editor % servers.len()]);
        tasks.spawn(async move {
            // Each adds one by reading and writing, three times: a lost update shows in the sum.
            let mut done = 0;
            for _ in 0..BUSY_MAX {
                let read = item(&*server, "pen").await?;
                match server.set_on_hand(&sku("pen"), read.on_hand + 1, Some(read.version)).await {
                    Ok(_) => done += 1,
                    Err(Error::Conflict { .. } | Error::Busy { .. }) => {}
                    Err(error) => return Err(failed(error)),
                }
                if done == 3 {
                    return Ok(());
                }
            }
            Err(Broken::because("an editor never got through"))
        });
    }
    all(tasks).await?;
    let now = numbers(&*servers[0], "pen").await?;
    ensure!(now == (24, 0, 0), "8 editors added 1 three times each: {now:?}");
    clean(&*servers[0]).await
}

/// Buyers do everything that can be done while an auditor looks.
pub(super) async fn the_audit_is_clean_at_every_moment<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = shared(stocked_servers(&*fixture, 3, &[("a", 60), ("b", 40)]).await?);
    let seed = Seed::from_env_or_fresh();
    let mut tasks = JoinSet::new();
    for buyer in 0..12 {
        let server = Arc::clone(&servers[buyer % 2]);
        let mut rng = seed.rng_for(buyer as u64);
        tasks.spawn(async move {
            for _ in 0..8 {
                let wish = order(&[("a", rng.u64(1..4)), ("b", rng.u64(1..3))]);
                let id = match reserve(&*server, wish).await {
                    Ok(grant) => grant.reservation.id,
                    Err(Error::SoldOut { .. }) => continue,
                    Err(error) => return Err(failed(error)),
                };
                match rng.u8(0..4) {
                    0 => drop(confirm(&*server, id).await.map_err(failed)?),
                    1 | 2 => drop(cancel(&*server, id).await.map_err(failed)?),
                    _ => {}
                }
            }
            Ok(())
        });
    }
    let over = Arc::new(AtomicBool::new(false));
    let (auditor, is_over) = (Arc::clone(&servers[2]), Arc::clone(&over));
    let auditing = tokio::spawn(async move {
        let mut audits = 0;
        while !is_over.load(Ordering::SeqCst) {
            clean(&*auditor).await?;
            audits += 1;
        }
        Ok::<_, Broken>(audits)
    });
    let bought = all(tasks).await;
    over.store(true, Ordering::SeqCst);
    let audits = auditing.await.map_err(|error| Broken::because(error.to_string()))??;
    bought?;
    ensure!(audits > 0, "the auditor never got to look");
    clean(&*servers[0]).await
}
