//! The answers of the inventory side by side: how goodput, latency and wasted attempts change
//! with contention, clients and the price of a flush.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::postgres::{self, Postgres};
use inventory_locking::answer::sqlite::{self, Sqlite};
use inventory_locking::{Error, Inventory, Key, Line, Lines, Order, Sku};

use super::crossover::{Cell, Crossover};
use crate::harness::{ClosedLoop, Keys, Outcome, Shot};
use crate::{Bench, Comparison, Ready, Scenario, Subject};

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "durable reservations of one unit: every way to lock, over contention, clients and \
                 the price of a flush";
    Comparison { system: "inventory-locking", about, run: |bench| Box::pin(compare(bench)) }
}

/// SKUs, when buyers do not all want the same.
const SKUS: u64 = 200;

/// Never sold out: the subject is the lock.
const STOCK: u64 = 1_000_000_000;

/// The flush of a disk across a network, added to this machine's own.
const SLOW_FLUSH: Duration = Duration::from_millis(1);

const BASELINE: &str = "pessimistic";

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    without_a_server(&bench).await?;
    let options = infra::PostgresOptions {
        profile: infra::Profile::SlowFsync(Duration::ZERO),
        ..Default::default()
    };
    let server = Arc::new(infra::postgres_with(options).await?);
    bench.version("postgres", server.version());
    print_flush_price()?;
    let crossover = Crossover::default();
    let clients: &[usize] = bench.pick(&[32], &[1, 8, 32, 128], &[1, 2, 8, 32, 128]);
    for (flush, delay) in [("1ms", SLOW_FLUSH), ("native", Duration::ZERO)] {
        for contention in [Contention::Hot, Contention::Zipf, Contention::Uniform] {
            if bench.pick(contention == Contention::Zipf, false, false) {
                continue;
            }
            for &clients in clients {
                let at = Place { flush, delay, contention, clients };
                at_one_place(&bench, &server, at, &crossover).await?;
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
    server: &Arc<infra::Postgres>,
    at: Place,
    crossover: &Crossover,
) -> anyhow::Result<()> {
    let name = format!("{}-{}-{}", at.contention.name(), at.flush, at.clients);
    let strategies = postgres::Strategy::ALL.into_iter().filter(|(name, _)| *name != "naive");
    let subjects = strategies
        .map(|(name, strategy)| postgres_subject(name, strategy, server, at, crossover))
        .collect();
    let about = format!(
        "reserve one unit in Postgres, flush {}, {}",
        at.flush,
        at.contention.keys().describe()
    );
    // Names of scenarios are file names and live as long as the program; there are a few dozen.
    let scenario = Scenario::new(Box::leak(name.into_boxed_str()), about, BASELINE);
    let scenario = Scenario {
        rounds: Some(bench.pick(1, 3, 8)),
        warm_up: Duration::from_millis(bench.pick(150, 300, 500)),
        ..scenario
    };
    let duration = Duration::from_millis(bench.pick(500, 1_500, 5_000));
    let load = ClosedLoop { workers: at.clients, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}

fn postgres_subject(
    name: &'static str,
    strategy: postgres::Strategy,
    server: &Arc<infra::Postgres>,
    at: Place,
    crossover: &Crossover,
) -> Subject {
    let (server, crossover) = (Arc::clone(server), crossover.clone());
    Subject::answer(name, move || {
        let (server, crossover) = (Arc::clone(&server), crossover.clone());
        async move {
            let slow = server.slow_fsync().expect("the server was started with the switch");
            slow.set_delay(Duration::ZERO)?; // for the preparations
            let database = server.database("inventory_bench", postgres::SCHEMA).await?;
            // No gate and a connection for each client: the locks themselves are compared.
            let connections = at.clients.clamp(4, 100) as u32;
            let settings = postgres::Settings { connections, per_sku: at.clients };
            let inventory = Postgres::connect(database.url(), strategy, settings).await?;
            let counted = Counted::stocked(inventory, at.contention.keys()).await?;
            slow.set_delay(at.delay)?;
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
                let _ = server.slow_fsync().map(|slow| slow.set_delay(Duration::ZERO));
                drop(database);
            }))
        }
    })
}

async fn without_a_server(bench: &Bench) -> anyhow::Result<()> {
    for (name, workers) in [("sqlite-hot-32", 32), ("sqlite-hot-512", 512)] {
        let about = "reserve one unit of one hot SKU, durable in one file (memory: not durable)";
        let scenario = Scenario::new(name, about, "sqlite/pessimistic");
        let scenario = Scenario {
            rounds: Some(bench.pick(1, 3, 8)),
            warm_up: Duration::from_millis(bench.pick(150, 300, 500)),
            ..scenario
        };
        let duration = Duration::from_millis(bench.pick(500, 2_000, 5_000));
        let load = ClosedLoop { workers, duration, seed: bench.seed() };
        let mut subjects = vec![Subject::answer("memory", || async {
            let inventory = Memory::new(service::Clock::system());
            Ok(Counted::stocked(inventory, Keys::uniform(1)).await?.ready(|_, _| ()))
        })];
        subjects.extend(sqlite::Strategy::ALL.into_iter().map(sqlite_subject));
        bench.closed(scenario, load, subjects).await?;
    }
    Ok(())
}

fn sqlite_subject((name, strategy): (&'static str, sqlite::Strategy)) -> Subject {
    Subject::answer(format!("sqlite/{name}"), move || async move {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("inventory.db");
        let inventory = Sqlite::open(&path, strategy, service::Clock::system())?;
        let counted = Counted::stocked(inventory, Keys::uniform(1)).await?;
        Ok(counted.ready(move |_, _| drop(directory)))
    })
}

/// An inventory under load, with what it has granted.
struct Counted<I> {
    inventory: I,
    keys: Keys,
    skus: Vec<Sku>,
    granted: AtomicU64,
    asked: AtomicU64,
    unknown: AtomicU64,
}

impl<I: Inventory> Counted<I> {
    async fn stocked(inventory: I, keys: Keys) -> anyhow::Result<Arc<Self>> {
        let skus: Vec<Sku> =
            (0..SKUS).map(|n| Sku::new(&format!("sku-{n:04}"), "sku")).collect::<Result<_, _>>()?;
        let creating = futures::stream::iter(skus.iter().cloned())
            .map(|sku| inventory.create(sku, STOCK))
            .buffer_unordered(16);
        let created: Vec<_> = creating.collect().await;
        created.into_iter().collect::<Result<Vec<_>, _>>()?;
        let [granted, asked, unknown] = [0, 0, 0].map(AtomicU64::new);
        Ok(Arc::new(Self { inventory, keys, skus, granted, asked, unknown }))
    }

    /// Each request is a wish of its own with a key, as real ones are.
    async fn reserve(&self, shot: Shot) -> Outcome {
        let sku = self.skus[self.keys.pick(&mut shot.rng()) as usize].clone();
        let key = Key::new(&format!("wish-{}", self.asked.fetch_add(1, Ordering::Relaxed)));
        let lines = Lines::new([Line { sku, quantity: 1 }]).map_err(|_| "invalid")?;
        let order = Order::new(key.ok(), lines, 600_000).map_err(|_| "invalid")?;
        match self.inventory.reserve(order).await {
            Ok(_) => {
                self.granted.fetch_add(1, Ordering::Relaxed);
                Ok("reserved")
            }
            Err(Error::Busy { .. }) => Err("busy"),
            Err(Error::SoldOut { .. }) => Err("sold-out"),
            Err(_) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                Err("unavailable")
            }
        }
    }

    /// Every invariant, and as many holds as were granted.
    async fn check(&self) -> Result<(), String> {
        let audit = self.inventory.audit().await.map_err(|error| error.to_string())?;
        let (granted, unknown) =
            (self.granted.load(Ordering::Relaxed), self.unknown.load(Ordering::Relaxed));
        // Requests that the end of the run cut off may have been granted without being counted.
        let held = audit.held as u64;
        let in_flight = self.asked.load(Ordering::Relaxed).saturating_sub(granted) + unknown;
        let adds_up = (granted..=granted + in_flight).contains(&held);
        match audit.is_clean() && adds_up {
            true => Ok(()),
            false => Err(format!("{granted} were granted; the audit says {audit:?}")),
        }
    }

    fn ready(
        self: Arc<Self>,
        note: impl FnOnce(&Self, &crate::harness::Summary) + Send + 'static,
    ) -> Ready {
        let checked = Arc::clone(&self);
        let op = move |shot: Shot| {
            let counted = Arc::clone(&self);
            async move { counted.reserve(shot).await }
        };
        Ready::new(op, move |summary| async move {
            let verdict = checked.check().await;
            note(&checked, &summary);
            verdict
        })
    }
}

/// What a flush costs here, from Postgres's own tool: without it no figure below means anything.
fn print_flush_price() -> anyhow::Result<()> {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let tool = found.map(|entry| entry.path().join("bin/pg_test_fsync")).find(|path| path.exists());
    let Some(tool) = tool else {
        println!("pg_test_fsync is not installed: the price of a native flush is not known\n");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("flush");
    let output = std::process::Command::new(tool).args(["-s", "1", "-f"]).arg(file).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.trim_start().starts_with("fdatasync"));
    println!("pg_test_fsync: {}\n", line.unwrap_or("gave no answer").trim());
    Ok(())
}
