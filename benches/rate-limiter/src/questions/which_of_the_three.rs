//! A central Redis, a cluster, or gossip: the three answers of the interview in one scene.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rate_limiter::store::gossip::GossipStore;
use rate_limiter::store::redis::{RedisSettings, RedisStore};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};
use tokio::sync::watch;

use measure::harness::{Load, Outcome, Plan, Shot};
use measure::units::duration;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "which-of-the-three",
        asks: "A central Redis with Lua, a Redis Cluster with sharded keys, or gossip without a \
               store: which one, and what does each give up?",
        explanation: "One Redis is exact, costs a round trip, and is one thing that can fail. A \
            cluster is as exact, because all limits of a caller are in one slot and one script; it \
            scales over callers (not over one hot caller, unless that one is split), and when a \
            primary dies only its callers are without a store until the failover. Gossip costs no \
            round trip and outlives everything, and admits too much by what the servers have not \
            heard of each other. So: one Redis until it is too small, a cluster when callers are \
            many, leases in front of either when one caller is too hot or a round trip too long, \
            and gossip only where overrunning a limit for a moment is cheaper than asking anybody.",
        run: |stage| Box::pin(run(stage)),
    }
}

const SERVERS: usize = 3;
const LIMIT: u32 = 500;
const WINDOW_MS: u64 = 3_600_000;
const TIMEOUT: Duration = Duration::from_millis(100);
const CALLERS: u64 = 300;

/// What was seen of one answer.
struct Seen {
    admitted: u64,
    p50: Duration,
    p99: Duration,
    /// Of all callers, how many were decided by the store after one of its servers died.
    alive: f64,
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    stage.scene(format!(
        "{SERVERS} API servers, {LIMIT} an hour per caller, in each answer in turn"
    ));
    let policy = Policy::single("api", AlgorithmName::FixedWindow, LIMIT, WINDOW_MS, None)?;
    let settings = RedisSettings { response_timeout: TIMEOUT, ..RedisSettings::default() };

    let redis = infra::redis().await?;
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(Arc::new(RedisStore::with(redis.url(), settings)?.limiter(policy.clone())));
    }
    let kill = async { redis.kill9().await.map_err(anyhow::Error::from) };
    let central = watch_one(&stage, "one Redis", &servers, kill).await?;

    let cluster = infra::redis_cluster().await?;
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        let store = RedisStore::cluster(&cluster.urls(), settings)?;
        servers.push(Arc::new(store.limiter(policy.clone())));
    }
    let kill = async {
        cluster.kill_primary_of(0).await?;
        anyhow::Ok(())
    };
    let sharded = watch_one(&stage, "Redis Cluster", &servers, kill).await?;

    let mut stores = gossips().await?;
    let servers: Vec<_> =
        stores.iter().map(|store| Arc::new(store.limiter(policy.clone()))).collect();
    let kill = async {
        stores.pop();
        anyhow::Ok(())
    };
    let gossip = watch_one(&stage, "gossip", &servers, kill).await?;
    judge(&stage, &central, &sharded, &gossip);
    Ok(())
}

fn judge(stage: &Stage, central: &Seen, sharded: &Seen, gossip: &Seen) {
    let exact = central.admitted == u64::from(LIMIT) && sharded.admitted == u64::from(LIMIT);
    let told = format!("{} and {} of {LIMIT}", central.admitted, sharded.admitted);
    stage.expect("one Redis and the cluster admit the limit, exactly", exact, told);
    let over =
        gossip.admitted > u64::from(LIMIT) && gossip.admitted <= u64::from(LIMIT) * SERVERS as u64;
    let told = format!("{} of {LIMIT}", gossip.admitted);
    stage.expect("gossip admits too much, within servers x limit", over, told);
    let near = gossip.p50 < central.p50 && gossip.p50 < sharded.p50;
    let told = [central, sharded, gossip].map(|seen| duration(seen.p50)).join(", ");
    stage.expect("gossip decides without a round trip", near, format!("p50 {told}"));
    let [central, sharded, gossip] = [central, sharded, gossip].map(|seen| 100.0 * seen.alive);
    stage.expect(
        "when a server of the store dies: nobody, two thirds, or everybody is still counted",
        central == 0.0 && (40.0..95.0).contains(&sharded) && gossip == 100.0,
        format!("{central:.0} %, {sharded:.0} %, {gossip:.0} % of callers"),
    );
    stage.because("what a decision has to ask is what it depends on");
}

async fn gossips() -> anyhow::Result<Vec<GossipStore>> {
    let mut listeners = Vec::new();
    for _ in 0..SERVERS {
        listeners.push(tokio::net::TcpListener::bind("127.0.0.1:0").await?);
    }
    let addresses: Vec<_> =
        listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<Result<_, _>>()?;
    let start = |(index, listener): (usize, tokio::net::TcpListener)| {
        let others = addresses.iter().enumerate().filter(|(other, _)| *other != index);
        let peers = watch::channel(others.map(|(_, address)| *address).collect()).1;
        GossipStore::start(listener, peers, Duration::from_millis(100))
    };
    Ok(listeners.into_iter().enumerate().map(start).collect())
}

async fn watch_one<L: Limiter>(
    stage: &Stage,
    name: &str,
    servers: &[Arc<L>],
    kill: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Seen> {
    let all = servers.to_vec();
    let op = move |shot: Shot| {
        let server = Arc::clone(&all[shot.n as usize % all.len()]);
        async move { ask(&*server, &format!("caller:{}", shot.rng().u64(0..CALLERS))).await }
    };
    let length = Duration::from_secs(stage.pick(2, 10));
    let load = Load::new(Plan::poisson(500.0, length));
    let run = stage.drive(&format!("{name}: a light load"), &load, op).await;
    let (p50, p99) = (run.quantile(0.5), run.quantile(0.99));

    let admitted = rush(servers).await?;
    kill.await?;
    stage.fault("kill-9", format!("{name}: one server of the store"));
    let alive = counted(&servers[0]).await?;
    stage.heal("kill-9");
    stage.observe(
        name,
        format!(
            "a rush admits {admitted} of {LIMIT}; p50 {}, p99 {}; {:.0} % of callers are counted \
             when a server of the store is dead",
            duration(p50),
            duration(p99),
            100.0 * alive
        ),
    );
    Ok(Seen { admitted, p50, p99, alive }.checked())
}

impl Seen {
    fn checked(self) -> Self {
        debug_assert!(self.p50 <= self.p99);
        self
    }
}

/// Everybody at once, at all servers: what is admitted for one caller.
async fn rush<L: Limiter>(servers: &[Arc<L>]) -> anyhow::Result<u64> {
    let mut tasks = tokio::task::JoinSet::new();
    for server in servers {
        for _ in 0..8 {
            let server = Arc::clone(server);
            tasks.spawn(async move {
                let mut admitted = 0;
                for _ in 0..50 {
                    admitted += u64::from(ask(&*server, "everybody").await == Ok("allowed"));
                }
                admitted
            });
        }
    }
    Ok(tasks.join_all().await.into_iter().sum())
}

/// The share of callers that the store still decides about, shortly after a server died.
async fn counted<L: Limiter>(server: &Arc<L>) -> anyhow::Result<f64> {
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for caller in 0..CALLERS {
        let server = Arc::clone(server);
        tasks.spawn(async move { ask(&*server, &format!("caller:{caller}")).await.is_ok() });
    }
    let answered = tasks.join_all().await.into_iter().filter(|answered| *answered).count();
    anyhow::ensure!(started.elapsed() < Duration::from_secs(1), "the failover was faster than us");
    Ok(answered as f64 / CALLERS as f64)
}

async fn ask<L: Limiter>(server: &L, caller: &str) -> Outcome {
    let key = Key::new(caller).map_err(|_| "bad key")?;
    super::check(server, key).await
}
