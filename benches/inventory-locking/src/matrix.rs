//! The crossover: every answer on Postgres over contention, clients and the price of a flush.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use inventory_locking::answer::postgres::{self, Postgres};
use sqlx::Connection;
use tokio::sync::Mutex;

use super::crossover::{Cell, Crossover};
use super::crowd::{Counted, PLENTY, SKUS};
use measure::harness::{ClosedLoop, Keys};
use measure::{Bench, Scenario, Subject};

/// The flush of a disk across a network, added to this machine's own.
const SLOW_FLUSH: Duration = Duration::from_millis(1);

const BASELINE: &str = "pessimistic";

/// Measures all places, and says what they mean together.
pub(super) async fn compare(bench: &Bench, server: &Arc<infra::Postgres>) -> anyhow::Result<()> {
    let databases = Arc::new(Databases { server: Arc::clone(server), kept: Mutex::default() });
    let crossover = Crossover::default();
    for (flush, delay) in [("1ms", SLOW_FLUSH), ("native", Duration::ZERO)] {
        for contention in [Contention::Hot, Contention::Zipf, Contention::Uniform] {
            let hot = contention == Contention::Hot;
            let clients: &[usize] = match hot {
                true => bench.pick(&[32], &[1, 8, 32, 128], &[1, 2, 4, 8, 16, 32, 64, 128]),
                false => bench.pick(&[], &[8, 64], &[1, 2, 4, 8, 16, 32, 64, 128]),
            };
            for &clients in clients {
                let at = Place { flush, delay, contention, clients };
                at_one_place(bench, &databases, at, &crossover).await?;
            }
        }
    }
    crossover.finish("inventory-locking")
}

/// What buyers want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contention {
    Uniform,
    Zipf,
    Hot,
}

impl Contention {
    fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Hot => "hot",
        }
    }

    fn keys(self) -> Keys {
        match self {
            Self::Uniform => Keys::uniform(SKUS),
            Self::Zipf => Keys::zipf(SKUS, 1.0),
            Self::Hot => Keys::uniform(1),
        }
    }
}

/// One point of the crossover chart.
#[derive(Clone, Copy)]
struct Place {
    flush: &'static str,
    delay: Duration,
    contention: Contention,
    clients: usize,
}

async fn at_one_place(
    bench: &Bench,
    databases: &Arc<Databases>,
    at: Place,
    crossover: &Crossover,
) -> anyhow::Result<()> {
    let name = format!("{}-{}-{}", at.contention.name(), at.flush, at.clients);
    let strategies = postgres::Strategy::ALL.into_iter().filter(|(name, _)| *name != "naive");
    let subjects = strategies
        .map(|(name, strategy)| subject(name, strategy, databases, at, crossover))
        .collect();
    let about = format!(
        "reserve one unit in Postgres, flush {}, {}",
        at.flush,
        at.contention.keys().describe()
    );
    // Names of scenarios are file names and live as long as the program; there are a few dozen.
    let scenario = Scenario::new(Box::leak(name.into_boxed_str()), about, BASELINE);
    // The place that the goals are about gets an interval; for the others, one look each is what
    // fits into a few minutes.
    let central = at.contention == Contention::Hot && at.clients == 32;
    let scenario = Scenario {
        rounds: Some(bench.pick(1, if central { 3 } else { 1 }, 5)),
        // Long enough to open a connection for each client.
        warm_up: Duration::from_millis(bench.pick(150, 150, 500).max(2 * at.clients as u64)),
        ..scenario
    };
    let duration = Duration::from_millis(bench.pick(500, 400, 3_000));
    let load = ClosedLoop { workers: at.clients, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}

/// A database for each answer, emptied before each run: to make and drop one for every run would
/// take longer than the run.
struct Databases {
    server: Arc<infra::Postgres>,
    kept: Mutex<HashMap<&'static str, infra::Database>>,
}

impl Databases {
    /// The address of the answer's database, with nothing in it, on a disk that is quick.
    async fn empty(&self, answer: &'static str) -> anyhow::Result<String> {
        self.set_delay(Duration::ZERO)?;
        let mut kept = self.kept.lock().await;
        if let Some(database) = kept.get(answer) {
            let mut connection = sqlx::PgConnection::connect(database.url()).await?;
            let all = "TRUNCATE stock, receipts, reservations, reservation_lines";
            sqlx::query(all).execute(&mut connection).await?;
            connection.close().await?;
            return Ok(database.url().to_owned());
        }
        let database = self.server.database("inventory_bench", postgres::SCHEMA).await?;
        let url = database.url().to_owned();
        kept.insert(answer, database);
        Ok(url)
    }

    fn set_delay(&self, delay: Duration) -> anyhow::Result<()> {
        let slow = self.server.slow_fsync().expect("the server was started with the switch");
        Ok(slow.set_delay(delay)?)
    }
}

fn subject(
    name: &'static str,
    strategy: postgres::Strategy,
    databases: &Arc<Databases>,
    at: Place,
    crossover: &Crossover,
) -> Subject {
    let (databases, crossover) = (Arc::clone(databases), crossover.clone());
    Subject::answer(name, move || {
        let (databases, crossover) = (Arc::clone(&databases), crossover.clone());
        async move {
            let url = databases.empty(name).await?;
            // No gate and a connection for each client: the locks themselves are compared.
            let connections = at.clients.clamp(4, 100) as u32;
            let settings = postgres::Settings { connections, per_sku: at.clients };
            let inventory = Postgres::connect(&url, strategy, settings).await?;
            let counted = Counted::stocked(inventory, at.contention.keys(), PLENTY).await?;
            databases.set_delay(at.delay)?;
            Ok(counted.ready(move |counted, summary| {
                let attempts = counted.inventory.attempts();
                let granted = counted.granted.load(Ordering::Relaxed);
                crossover.add(Cell {
                    answer: name,
                    flush: at.flush,
                    contention: at.contention.name(),
                    clients: at.clients,
                    per_s: summary.ok.values().sum::<u64>() as f64
                        / (summary.duration_ms.max(1) as f64 / 1e3),
                    p99_ns: summary.latency.p99,
                    attempts: attempts as f64 / granted.max(1) as f64,
                });
            }))
        }
    })
}
