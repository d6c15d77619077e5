//! A reader's inventory beside ours: buyers who each want one of a few popular SKUs.

use std::process::ExitCode;
use std::time::Duration;

use inventory_locking::Inventory;
use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::sqlite::{Sqlite, Strategy};
use measure::harness::{ClosedLoop, Keys};
use measure::{Bench, SCENARIO, Scenario, Subject, YOURS};
use service::Clock;

use crate::crowd::{Counted, PLENTY, SKUS};

/// Buyers at once.
const BUYERS: usize = 32;

/// A reader's inventory, by `make` from a clock, as one more row.
pub fn beside_ours<I: Inventory>(make: impl Fn(Clock) -> I + Send + Sync + 'static) -> ExitCode {
    measure::beside("inventory-locking", |bench| compare(bench, make))
}

async fn compare<I: Inventory>(
    bench: Bench,
    make: impl Fn(Clock) -> I + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let keys = Keys::zipf(SKUS, 1.0);
    let subjects = vec![
        Subject::answer("memory", move || async move {
            let inventory = Memory::new(Clock::system());
            Ok(Counted::stocked(inventory, keys, PLENTY).await?.ready(|_, _| ()))
        }),
        Subject::answer("sqlite/batching", move || async move {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("inventory.db");
            let inventory = Sqlite::open(&path, Strategy::Batching, Clock::system())?;
            let counted = Counted::stocked(inventory, keys, PLENTY).await?;
            Ok(counted.ready(move |_, _| drop(directory)))
        }),
        Subject::answer(YOURS, move || {
            let inventory = make(Clock::system());
            async move { Ok(Counted::stocked(inventory, keys, PLENTY).await?.ready(|_, _| ())) }
        }),
    ];
    let about = format!("reserve one unit; sqlite with an fsync; {}", keys.describe());
    let (rounds, warm_up) = (Some(3), Duration::from_millis(150));
    let scenario = Scenario { rounds, warm_up, ..Scenario::new(SCENARIO, about, "memory") };
    let duration = Duration::from_millis(400);
    let load = ClosedLoop { workers: BUYERS, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}
