//! Every job is delivered twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use job_queue::worker::{Ledger, Once};

use measure::{Question, Stage};

const JOBS: usize = 200;

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "duplicates",
        asks: "At least once means that jobs come twice. How often is the customer charged?",
        explanation: "\"Was it done? No: do it, then note it\" fails when two deliveries ask at the \
            same time, which is exactly when duplicates arrive: the first worker was slow, not \
            dead. The effect and its record must be one transaction, decided by a primary key. \
            The ledger also refuses a worker whose lease was given to another (its fencing token \
            is lower), even before the other is done.",
        run: |stage| Box::pin(duplicates(stage)),
    }
}

async fn duplicates(stage: Stage) -> anyhow::Result<()> {
    stage.scene("two workers; a SQLite ledger in memory, and a naive set of what was done");
    stage.load(format!("{JOBS} jobs, each delivered to both workers at the same time"));
    let naive = naive().await;
    let ledger = Ledger::in_memory()?;
    let charges: Charges = Arc::default();
    let mut deliveries = tokio::task::JoinSet::new();
    for delivery in 0..2 * JOBS {
        let (ledger, charges) = (ledger.clone(), Arc::clone(&charges));
        deliveries.spawn(async move {
            let (job, epoch) = (delivery / 2, delivery % 2 + 1);
            let charge = move |_: &_| {
                *lock(&charges).entry(job).or_default() += 1;
                Ok(())
            };
            ledger.once(&job.to_string(), epoch as u32, charge).await
        });
    }
    let mut suppressed = 0;
    while let Some(delivery) = deliveries.join_next().await {
        suppressed += usize::from(delivery?? != Once::Done);
    }
    let twice = lock(&charges).values().filter(|&&times| times != 1).count();
    stage.observe("look, do, note: customers charged twice", format!("{naive} of {JOBS}"));
    stage.observe("ledger: deliveries without effect", suppressed);
    stage.expect("without a transaction some are charged twice", naive > 0, naive);
    let charged = lock(&charges).len();
    stage.expect(
        "with the ledger every customer is charged exactly once",
        twice == 0 && charged == JOBS && suppressed == JOBS,
        format!("{charged} charged, {twice} not exactly once"),
    );
    stage.because("effect and record are one transaction, and its primary key admits one of two");
    Ok(())
}

type Charges = Arc<Mutex<HashMap<usize, usize>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Looks, does, notes. How many jobs were done twice.
async fn naive() -> usize {
    let done: Arc<Mutex<HashSet<usize>>> = Arc::default();
    let charges: Charges = Arc::default();
    let mut deliveries = tokio::task::JoinSet::new();
    for delivery in 0..2 * JOBS {
        let (done, charges) = (Arc::clone(&done), Arc::clone(&charges));
        deliveries.spawn(async move {
            let job = delivery / 2;
            if lock(&done).contains(&job) {
                return;
            }
            // The call to the payment provider.
            tokio::time::sleep(Duration::from_millis(2)).await;
            *lock(&charges).entry(job).or_default() += 1;
            lock(&done).insert(job);
        });
    }
    while deliveries.join_next().await.is_some() {}
    lock(&charges).values().filter(|&&times| times > 1).count()
}
