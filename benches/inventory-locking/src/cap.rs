//! How many of one server may try for one SKU at once: the second way to keep losers apart.
//!
//! The first is a window that learns ([`backoff`](inventory_locking::backoff)). It knows nothing of
//! who else is there and pays for its peace with waiting. A server does know how many of its own
//! requests want the same SKU, so it can let them try a few at a time ([`admission`]): then the only
//! rivals left are those of other servers.
//!
//! [`admission`]: inventory_locking::admission

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use inventory_locking::answer::postgres::{self, Postgres, Strategy};
use measure::harness::Keys;
use measure::{Bench, Subject};

use super::compare::{load, scenario};
use super::crowd::{Counted, PLENTY};

/// Clients of the one hot SKU; a cap of as many is none.
const CLIENTS: usize = 32;

/// Attempts for each success, by subject.
type Attempts = Arc<Mutex<BTreeMap<String, f64>>>;

pub(super) async fn compare(bench: &Bench, server: &Arc<infra::Postgres>) -> anyhow::Result<()> {
    let about = "reserve one unit of one hot SKU in Postgres, this machine's own flush, while only \
                 so many of the server's 32 clients may try at once";
    let scenario = scenario(bench, "cap", about, "pessimistic, 32 at once");
    let attempts = Attempts::default();
    let subjects = [
        ("pessimistic", Strategy::Pessimistic, &[CLIENTS, 1][..]),
        ("optimistic", Strategy::Optimistic, &[CLIENTS, 16, 4, 2, 1][..]),
    ];
    let subjects = subjects.into_iter().flat_map(|(name, strategy, caps)| {
        caps.iter().map(move |&cap| (format!("{name}, {cap} at once"), strategy, cap))
    });
    let subjects = subjects
        .map(|(name, strategy, cap)| subject(name, strategy, cap, server, &attempts))
        .collect();
    bench.closed(scenario, load(bench, CLIENTS), subjects).await?;
    println!("attempts for each success:");
    for (name, attempts) in attempts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("  {name:<24} {attempts:.2}");
    }
    println!();
    Ok(())
}

fn subject(
    name: String,
    strategy: Strategy,
    cap: usize,
    server: &Arc<infra::Postgres>,
    attempts: &Attempts,
) -> Subject {
    let (server, attempts) = (Arc::clone(server), Arc::clone(attempts));
    Subject::answer(name.clone(), move || {
        let (server, attempts, name) = (Arc::clone(&server), Arc::clone(&attempts), name.clone());
        async move {
            let database = server.database("inventory_bench", postgres::SCHEMA).await?;
            let settings = postgres::Settings { connections: CLIENTS as u32, per_sku: cap };
            let inventory = Postgres::connect(database.url(), strategy, settings).await?;
            let counted = Counted::stocked(inventory, Keys::uniform(1), PLENTY).await?;
            Ok(counted.ready(move |counted, _| {
                let granted = counted.granted.load(Ordering::Relaxed).max(1);
                let ratio = counted.inventory.attempts() as f64 / granted as f64;
                attempts.lock().unwrap_or_else(PoisonError::into_inner).insert(name, ratio);
                drop(database);
            }))
        }
    })
}
