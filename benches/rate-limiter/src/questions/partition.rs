//! Servers that cannot reach each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faultline::Proxy;
use parking_lot::Mutex;
use rate_limiter::clock::{Clock, Monotonic};
use rate_limiter::store::gossip::{GossipLimiter, GossipStore};
use rate_limiter::{AlgorithmName, Policy, Store};

use super::{caller, check};
use measure::harness::{Load, Plan, Shot};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "partition",
        asks: "No store: the servers count for themselves and gossip. How wrong are they, and what \
               happens when they cannot reach each other?",
        explanation: "Each server adds what it admitted to a counter of its own and merges the \
            others' counters as it hears of them, so a decision costs no round trip and needs \
            nobody. It is wrong by what the others admitted since they were last heard: with N \
            servers that are asked for r per second each and heard s seconds ago, a window of limit \
            L admits at most L + N x r x s. In a partition s grows, and the bound ends at N x L: \
            every part of the network grants the whole limit. After the heal, what was counted on \
            all sides is merged: nothing is counted twice and nothing is lost.",
        run: |stage| Box::pin(run(stage)),
    }
}

const SERVERS: usize = 4;
const LIMIT: u32 = 1_000;
const WINDOW_MS: u64 = 1_000;
const OFFERED_PER_S: f64 = 1_600.0;
const INTERVAL: Duration = Duration::from_millis(25);

struct Cluster {
    stores: Vec<GossipStore>,
    limiters: Vec<GossipLimiter>,
    proxies: Vec<Proxy>,
    clock: Monotonic,
    admitted: Mutex<BTreeMap<u64, u64>>,
    asked: AtomicU64,
}

impl Cluster {
    /// Everybody hears the others through a proxy of its own.
    async fn start() -> anyhow::Result<Self> {
        let (mut listeners, mut proxies) = (Vec::new(), Vec::new());
        for _ in 0..SERVERS {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            proxies.push(Proxy::start(listener.local_addr()?).await?);
            listeners.push(listener);
        }
        let policy = Policy::single("api", AlgorithmName::FixedWindow, LIMIT, WINDOW_MS, None)?;
        let (mut stores, mut limiters) = (Vec::new(), Vec::new());
        for (index, listener) in listeners.into_iter().enumerate() {
            let others = proxies.iter().enumerate().filter(|(other, _)| *other != index);
            let peers = others.map(|(_, proxy)| proxy.addr()).collect();
            let peers = tokio::sync::watch::channel(peers).1;
            let store = GossipStore::start(listener, peers, INTERVAL);
            limiters.push(store.limiter(policy.clone()));
            stores.push(store);
        }
        let (clock, admitted, asked) = Default::default();
        Ok(Self { stores, limiters, proxies, clock, admitted, asked })
    }

    fn window(&self) -> u64 {
        self.clock.now().0 / (WINDOW_MS * 1_000)
    }

    fn staleness(&self) -> Duration {
        self.stores.iter().map(GossipStore::staleness).max().unwrap_or_default()
    }

    async fn ask(&self) -> measure::harness::Outcome {
        let server = self.asked.fetch_add(1, Ordering::Relaxed) as usize % SERVERS;
        let window = self.window();
        let outcome = check(&self.limiters[server], caller()).await;
        if outcome == Ok("allowed") {
            *self.admitted.lock().entry(window).or_default() += 1;
        }
        outcome
    }

    /// The most that any whole window in this span admitted.
    fn worst(&self, windows: std::ops::Range<u64>) -> u64 {
        self.admitted.lock().range(windows).map(|(_, count)| *count).max().unwrap_or(0)
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let cluster = Arc::new(Cluster::start().await?);
    stage.scene(format!(
        "{SERVERS} servers, no store, news every {INTERVAL:?}; {LIMIT} per {WINDOW_MS} ms for one caller"
    ));
    let phase = Duration::from_secs(stage.pick(4, 20));
    let phases = stage.pick(4, 20);
    let load = Load::new(Plan::constant(OFFERED_PER_S, 3 * phase)).with_faults();
    let stalest = Arc::new(Mutex::new(Duration::ZERO));
    let watching = tokio::spawn(watch(Arc::clone(&cluster), Arc::clone(&stalest)));
    let (first, cut) = (cluster.window() + 1, cluster.window() + phases);
    let faults = tokio::spawn(faults(stage.clone(), Arc::clone(&cluster), phase, stalest));
    let asked = Arc::clone(&cluster);
    let op = move |_: Shot| {
        let cluster = Arc::clone(&asked);
        async move { cluster.ask().await }
    };
    let run = stage.drive("one caller at all servers", &load, op).await;
    let staleness = faults.await?;
    watching.abort();

    let per_server = OFFERED_PER_S / SERVERS as f64;
    let most = f64::from(LIMIT) + SERVERS as f64 * per_server * staleness.as_secs_f64();
    let worst = cluster.worst(first..cut);
    stage.expect(
        "while they hear each other, no window exceeds L + servers x rate x staleness",
        worst as f64 <= most && worst >= u64::from(LIMIT),
        format!(
            "{worst} of {LIMIT}, error {} beside a bound of {:.0}, heard {staleness:?} ago",
            worst.saturating_sub(u64::from(LIMIT)),
            most - f64::from(LIMIT)
        ),
    );
    let apart = cluster.worst(cut + 1..cut + phases);
    let bound = u64::from(LIMIT) * SERVERS as u64;
    stage.expect(
        "cut off from each other, each server grants the limit by itself and no more",
        apart > u64::from(LIMIT) && apart <= bound,
        format!("{apart} of {LIMIT}, at most {bound}"),
    );
    let healed = cluster.worst(cut + phases + 1..cut + 2 * phases - 1);
    stage.expect(
        "one window after the heal the bound holds again",
        healed as f64 <= most,
        format!("{healed}, at most {most:.0}"),
    );
    let answered = run.error_count() == 0;
    stage.expect(
        "nobody ever waited for anybody",
        answered,
        format!("{} errors", run.error_count()),
    );
    stage
        .because("a server decides from what it has heard; a partition makes that old, not absent");
    Ok(())
}

async fn watch(cluster: Arc<Cluster>, stalest: Arc<Mutex<Duration>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = cluster.staleness();
        let mut stalest = stalest.lock();
        *stalest = now.max(*stalest);
    }
}

/// Cuts and heals; returns the worst staleness of the time before the cut.
async fn faults(
    stage: Stage,
    cluster: Arc<Cluster>,
    phase: Duration,
    stalest: Arc<Mutex<Duration>>,
) -> Duration {
    tokio::time::sleep(phase).await;
    let before = *stalest.lock();
    for proxy in &cluster.proxies {
        proxy.cut();
    }
    stage.fault("partition", "every server is alone");
    tokio::time::sleep(phase).await;
    for proxy in &cluster.proxies {
        proxy.heal();
    }
    stage.heal("partition");
    before
}
