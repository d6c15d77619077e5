//! How long a redirect takes at half of the highest rate, alone and while links are imported.
//!
//! The load is open: each request has its time, from which its latency counts, whatever became of
//! those before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::links::{self, LINKS, Visitors};
use super::servers::Server;
use super::{Databases, IMPORT_ROWS};
use measure::harness::{ClosedLoop, Keys, Load, Pacing, Plan};
use measure::{Bench, Ready, Scenario, Subject};

/// Connections that find out the highest rate.
const CONNECTIONS: usize = 32;
/// Requests in flight at most; with more the server has fallen behind for good.
const IN_FLIGHT_MAX: usize = 1_000;

pub(super) async fn compare(
    bench: &Bench,
    databases: &Databases,
    all: &Arc<Server>,
) -> anyhow::Result<()> {
    let keys = Keys::zipf(LINKS, 1.0);
    let highest = highest_rate(bench, &Visitors::of(all, keys)).await;
    let per_s = (highest / 2_000.0).floor() * 1_000.0;
    // Servers of their own: their connections belong to the thread that sends this load.
    let calm = Arc::new(Server::shortener(&databases.copy()?, &[]).await?);
    let busy = Arc::new(Server::shortener(&databases.copy()?, &[]).await?);
    let alone = links::shortener("nothing else", &Visitors::of(&calm, keys));
    let subjects = vec![alone, during_imports(&busy, keys)];
    let about = format!(
        "follow a link at half of the highest rate ({:.0}k/s just before); {}",
        highest / 1_000.0,
        keys.describe()
    );
    let rounds = Some(bench.pick(2, 4, 8));
    let scenario = Scenario { rounds, ..Scenario::new("half-load", about, "nothing else") };
    let plan = Plan::constant(per_s, Duration::from_secs(bench.pick(2, 4, 10)));
    let load = Load::new(plan).in_flight(IN_FLIGHT_MAX).paced(Pacing::Spin);
    bench.open(scenario, Load { tick: Duration::from_secs(1), ..load }, subjects).await
}

async fn highest_rate(bench: &Bench, visitors: &Arc<Visitors>) -> f64 {
    let visitors = Arc::clone(visitors);
    let visit = move |shot| {
        let visitors = Arc::clone(&visitors);
        async move { visitors.visit(shot).await }
    };
    let duration = Duration::from_secs(2);
    ClosedLoop { workers: CONNECTIONS, duration, seed: bench.seed() }
        .run(visit)
        .await
        .achieved_per_s()
}

/// The same visitors, while imports follow each other on another connection.
fn during_imports(server: &Arc<Server>, keys: Keys) -> Subject {
    let (server, visitors) = (Arc::clone(server), Visitors::of(server, keys));
    let next = Arc::new(AtomicU64::new(LINKS));
    Subject::answer("imports of 100k links", move || {
        let (server, visitors) = (Arc::clone(&server), Arc::clone(&visitors));
        let imports = Imports::to(&server, &next);
        async move {
            let process = server.process();
            let beside = Arc::clone(&imports);
            let visit = move |shot| {
                // In the thread that sends: two threads on the generator's core would delay each
                // other by milliseconds.
                beside.begin();
                let visitors = Arc::clone(&visitors);
                async move { visitors.visit(shot).await }
            };
            let check = move |_| async move { imports.end().await };
            Ok(Ready::new(visit, check).served_by(process))
        }
    })
}

/// Imports one after the other, from the first request of a run until its end.
struct Imports {
    server: Arc<Server>,
    next: Arc<AtomicU64>,
    began: AtomicBool,
    ending: AtomicBool,
    running: Mutex<Option<JoinHandle<anyhow::Result<u64>>>>,
}

impl Imports {
    fn to(server: &Arc<Server>, next: &Arc<AtomicU64>) -> Arc<Self> {
        let (server, next) = (Arc::clone(server), Arc::clone(next));
        let (began, ending) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { server, next, began, ending, running: Mutex::default() })
    }

    fn begin(self: &Arc<Self>) {
        if !self.began.load(Ordering::Relaxed) && !self.began.swap(true, Ordering::Relaxed) {
            let this = Arc::clone(self);
            *self.running.lock() = Some(tokio::spawn(async move {
                let mut imported = 0;
                while !this.ending.load(Ordering::Relaxed) {
                    let first = this.next.fetch_add(IMPORT_ROWS, Ordering::Relaxed);
                    links::import(&this.server, first, IMPORT_ROWS).await?;
                    imported += 1;
                }
                Ok(imported)
            }));
        }
    }

    /// Waits for the last; at least one must have run beside the visitors.
    async fn end(&self) -> Result<(), String> {
        self.ending.store(true, Ordering::Relaxed);
        let running = self.running.lock().take();
        match running.ok_or("no import began")?.await {
            Ok(Ok(1..)) => Ok(()),
            other => Err(format!("the imports ended with {other:?}")),
        }
    }
}
