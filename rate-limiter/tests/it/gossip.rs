//! Nodes that count alone and tell each other: on virtual time with every message in our hands, and
//! as real processes whose links are cut.

use std::sync::Arc;
use std::time::Duration;

use faultline::Proxy;
use futures::FutureExt;
use proptest::prelude::*;
use rate_limiter::algorithm::Micros;
use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::EPOCH;
use rate_limiter::gossip::{Actor, News};
use rate_limiter::store::gossip::{GossipLimiter, GossipStore, membership};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};
use serde_json::json;
use testkit::crash::{Child, Program, free_address};
use testkit::wait_until;

use crate::http::Client;
use crate::processes::address_of;

const PATIENT: Duration = Duration::from_secs(10);
const NODES: usize = 4;
const LIMIT: u32 = 50;
const WINDOW_MS: u64 = 400;
/// In the simulation a node is asked at most once per step, and a step is a millisecond.
const STEP: Duration = Duration::from_millis(1);

fn key() -> Key<'static> {
    Key::new("caller").unwrap()
}

fn policy(limit: u32, window_ms: u64) -> Policy {
    Policy::single("api", AlgorithmName::FixedWindow, limit, window_ms, None).unwrap()
}

/// Nothing in the simulation waits, so every future is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a node answers at once")
}

struct Node {
    store: GossipStore<ManualClock>,
    limiter: GossipLimiter<ManualClock>,
    /// Of each other node: how fresh what we know of it is.
    fresh: [Micros; NODES],
}

/// News on the way: from whom, to whom, and how fresh they are about everybody.
#[derive(Clone)]
struct Letter {
    from: usize,
    to: usize,
    fresh: [Micros; NODES],
    news: Vec<News>,
}

struct Cluster {
    clock: Arc<ManualClock>,
    nodes: Vec<Node>,
    post: Vec<Letter>,
    /// Whether letters from one to the other pass.
    linked: [[bool; NODES]; NODES],
    admitted: Vec<(u64, u64)>,
    stalest_us: u64,
}

impl Cluster {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(EPOCH));
        let node = |index| {
            let store = GossipStore::quiet(Arc::clone(&clock), Actor(index));
            let limiter = store.limiter(policy(LIMIT, WINDOW_MS));
            Node { store, limiter, fresh: [EPOCH; NODES] }
        };
        let nodes = (0..NODES as u64).map(node).collect();
        let linked = [[true; NODES]; NODES];
        Self { clock, nodes, post: vec![], linked, admitted: vec![], stalest_us: 0 }
    }

    fn step(&mut self) {
        self.clock.advance(STEP);
        let now = self.clock.now();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.fresh[index] = now;
            let stalest = node.fresh.iter().map(|at| now.since(*at)).max().unwrap_or(0);
            self.stalest_us = self.stalest_us.max(stalest);
        }
    }

    fn check(&mut self, node: usize) {
        if now(self.nodes[node].limiter.check(key(), 1)).unwrap().allowed() {
            let window = self.clock.now().0 / (WINDOW_MS * 1_000);
            match self.admitted.last_mut() {
                Some((last, count)) if *last == window => *count += 1,
                _ => self.admitted.push((window, 1)),
            }
        }
    }

    fn write(&mut self, from: usize, to: usize) {
        let (news, _) = self.nodes[from].store.news(0);
        self.post.push(Letter { from, to, fresh: self.nodes[from].fresh, news });
    }

    /// Delivers a letter, however old, or loses it in a partition.
    fn deliver(&mut self, index: usize, keep_a_copy: bool) {
        let letter = match keep_a_copy {
            true => self.post[index].clone(),
            false => self.post.swap_remove(index),
        };
        if self.linked[letter.from][letter.to] {
            let to = &mut self.nodes[letter.to];
            to.store.hear(Actor(letter.from as u64), &letter.news);
            for (mine, theirs) in to.fresh.iter_mut().zip(letter.fresh) {
                *mine = (*mine).max(theirs);
            }
        }
    }

    fn exchange_all(&mut self) {
        // Twice: the second time everybody passes on what all others said.
        for _ in 0..2 {
            for from in 0..NODES {
                for to in (0..NODES).filter(|to| *to != from) {
                    self.write(from, to);
                    self.deliver(self.post.len() - 1, false);
                }
            }
        }
    }

    fn remaining(&self) -> Vec<u32> {
        let remaining = |node: &Node| now(node.limiter.peek(key())).unwrap().quota.remaining;
        self.nodes.iter().map(remaining).collect()
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Requests { node: usize, count: u32 },
    Letter { from: usize, to: usize },
    Delivery { which: prop::sample::Index, again: bool },
    Partition { apart: [bool; NODES] },
    Heal,
    Pause { steps: u32 },
}

fn happens() -> impl Strategy<Value = Happens> {
    let node = 0..NODES;
    prop_oneof![
        6 => (node.clone(), 1..30_u32).prop_map(|(node, count)| Happens::Requests { node, count }),
        8 => (node.clone(), node).prop_map(|(from, to)| Happens::Letter { from, to }),
        8 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, again)| Happens::Delivery { which, again }),
        1 => any::<[bool; NODES]>().prop_map(|apart| Happens::Partition { apart }),
        1 => Just(Happens::Heal),
        1 => (1..200_u32).prop_map(|steps| Happens::Pause { steps }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, late, repeated and out of order: no window admits more than the bound
    /// says, and once everything is healed and told, everybody knows the same.
    #[test]
    fn the_error_is_bounded_and_all_agree_in_the_end(
        story in proptest::collection::vec(happens(), 1..150),
    ) {
        let mut cluster = Cluster::new();
        for happens in story {
            match happens {
                Happens::Requests { node, count } => for _ in 0..count {
                    cluster.step();
                    cluster.check(node);
                },
                Happens::Letter { from, to } => if from != to { cluster.write(from, to) },
                Happens::Delivery { which, again } => if !cluster.post.is_empty() {
                    cluster.deliver(which.index(cluster.post.len()), again);
                },
                Happens::Partition { apart } => {
                    for (from, to) in (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to))) {
                        cluster.linked[from][to] = apart[from] == apart[to];
                    }
                }
                Happens::Heal => cluster.linked = [[true; NODES]; NODES],
                Happens::Pause { steps } => for _ in 0..steps { cluster.step() },
            }
        }
        // Servers x rate x staleness; a node is asked at most once per step.
        let per_node = cluster.stalest_us / STEP.as_micros() as u64 + 1;
        let bound = u64::from(LIMIT) + NODES as u64 * per_node;
        for (window, admitted) in &cluster.admitted {
            prop_assert!(*admitted <= bound, "window {window}: {admitted} admitted, bound {bound}");
            prop_assert!(*admitted <= u64::from(LIMIT) * NODES as u64);
        }
        cluster.linked = [[true; NODES]; NODES];
        cluster.exchange_all();
        let remaining = cluster.remaining();
        prop_assert!(remaining.iter().all(|left| *left == remaining[0]), "{remaining:?}");
    }
}

#[test]
fn with_news_every_tenth_of_a_second_the_limit_is_overrun_by_less_than_the_bound() {
    let mut cluster = Cluster::new();
    for step in 0..20_000_u32 {
        cluster.step();
        // 400 requests per second for a limit of 125: each node one every ten milliseconds.
        if step % 10 < 4 {
            cluster.check(step as usize % 10);
        }
        if step % 100 == 0 {
            cluster.exchange_all();
        }
    }
    let worst = cluster.admitted.iter().map(|(_, count)| *count).max().unwrap();
    let staleness_ms = cluster.stalest_us / 1_000;
    let bound = u64::from(LIMIT) + NODES as u64 * 100 * staleness_ms / 1_000 + NODES as u64;
    println!("worst window {worst} of {LIMIT}, bound {bound}, staleness {staleness_ms} ms");
    assert!(worst <= bound && worst >= u64::from(LIMIT), "{worst}, bound {bound}");
}

const POLICIES: &str = r#"
[policies.api]
limits = [{ algorithm = "fixed-window", rate = 300, per_ms = 31536000000 }]
"#;

/// Three processes; what the others tell one of them passes its proxy.
struct Fleet {
    _servers: Vec<Child>,
    proxies: Vec<Proxy>,
    clients: Vec<Client>,
    _directory: tempfile::TempDir,
}

impl Fleet {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policies.toml");
        std::fs::write(&file, POLICIES).unwrap();
        let listens: Vec<_> = (0..3).map(|_| free_address()).collect();
        let mut proxies = Vec::new();
        for listen in &listens {
            proxies.push(Proxy::start(listen).await.unwrap());
        }
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for (index, listen) in listens.iter().enumerate() {
            let others = proxies.iter().enumerate().filter(|(other, _)| *other != index);
            let peers: Vec<_> = others.map(|(_, proxy)| proxy.addr().to_string()).collect();
            let (listen, peers) = (listen.to_string(), peers.join(","));
            let program = Program::new(env!("CARGO_BIN_EXE_rate-limiter"))
                .args(["serve", "--listen", "127.0.0.1:0", "--gossip-listen", &listen])
                .args(["--gossip-peers", &peers, "--gossip-interval-ms", "20", "--policies"])
                .args([&file]);
            servers.push(program.start());
        }
        for server in &mut servers {
            clients.push(Client::to(address_of(server).await));
        }
        Self { _servers: servers, proxies, clients, _directory: directory }
    }

    async fn remaining(&self, node: usize) -> u64 {
        let look = json!({"policy": "api", "key": "caller", "cost": 0});
        self.clients[node].json("POST", "/v1/check", look).await.json()["remaining"]
            .as_u64()
            .unwrap()
    }

    async fn ask(&self, node: usize, times: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..times {
            let ask = json!({"policy": "api", "key": "caller"});
            admitted +=
                u32::from(self.clients[node].json("POST", "/v1/check", ask).await.status == 200);
        }
        admitted
    }

    async fn all_have(&self, left: u64) {
        wait_until(&format!("every node to know that {left} are left"), PATIENT, async || {
            let mut all = true;
            for node in 0..3 {
                all &= self.remaining(node).await == left;
            }
            all
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_cut_off_each_grant_the_limit_at_most_and_agree_after_the_heal() {
    let fleet = Fleet::start().await;
    assert_eq!(fleet.ask(0, 100).await, 100);
    fleet.all_have(200).await;

    for proxy in &fleet.proxies {
        proxy.cut();
    }
    let mut admitted = 100;
    for node in 0..3 {
        admitted += fleet.ask(node, 120).await;
    }
    assert_eq!(admitted, 460, "each grants what it believes is left: 3 x 300 at the very most");
    assert_eq!(fleet.remaining(0).await, 80, "it has not heard of the others' 240");

    for proxy in &fleet.proxies {
        proxy.heal();
    }
    fleet.all_have(0).await;
    for node in 0..3 {
        assert_eq!(fleet.ask(node, 1).await, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_counted_without_a_store_is_refused_with_the_field() {
    let store = GossipStore::quiet(Arc::new(ManualClock::at(EPOCH)), Actor(1));
    let bucket = Policy::single("api", AlgorithmName::TokenBucket, 1, 1_000, None).unwrap();
    let error = store.accepts(&bucket).unwrap_err().to_string();
    assert!(error.starts_with("limits/0/algorithm must be fixed-window"), "{error}");
    store.accepts(&policy(1, 1_000)).unwrap();
}

/// A member of a cluster that found itself.
struct Found {
    _member: membership::Member,
    limiter: GossipLimiter,
    store: GossipStore,
}

async fn found(listen: std::net::SocketAddr, seed: std::net::SocketAddr) -> Found {
    let counters = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = counters.local_addr().unwrap();
    let member = membership::join(listen, vec![seed.to_string()], at).await.unwrap();
    let store = GossipStore::start(counters, member.peers(), Duration::from_millis(10));
    let limiter = store.limiter(policy(300, 366 * 24 * 3_600_000));
    Found { _member: member, limiter, store }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_one_seed_find_each_other_and_count_together() {
    let udp = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let seed = udp();
    let mut nodes = Vec::new();
    for listen in [seed, udp(), udp()] {
        nodes.push(found(listen, seed).await);
    }
    for node in &nodes {
        assert!(node.limiter.check(key(), 10).await.unwrap().allowed());
    }
    wait_until("everybody to hear of everybody", PATIENT, async || {
        let mut all = true;
        for node in &nodes {
            let left = node.limiter.peek(key()).await.unwrap().quota.remaining;
            all &= left == 270 && node.store.peers_heard() == 2;
        }
        all
    })
    .await;
}
