//! Every answer against every promise, and every wrong limiter against the promise that must
//! catch it. A new answer is one line.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::{EPOCH, Fixture, gossip, lease, promises};
use rate_limiter::gossip::Actor;
use rate_limiter::store::coalesced::CoalescedLimiter;
use rate_limiter::store::gossip::{GossipLimiter, GossipStore};
use rate_limiter::store::lease::LeasedLimiter;
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, Memory, MemoryLimiter};
use rate_limiter::store::redis::{RESPONSE_TIMEOUT_DEFAULT, RedisLimiter, RedisStore, ScriptClock};
use rate_limiter::{AlgorithmName, Policy, Store};
use testkit::Suite;

mod naive;
mod naive_coalescer;
mod naive_gossip;
mod naive_lease;

use naive::{Bug, Naive};
use naive_coalescer::{Mistake, NaiveCoalescer};
use naive_gossip::{NaiveGossip, Rumour};
use naive_lease::{Lapse, NaiveLease};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for algorithm in AlgorithmName::ALL {
        let name = algorithm.as_str();
        suite.answer(&format!("memory/{name}"), promises, move || {
            MemoryFixture::new(algorithm, KEYS_MAX_DEFAULT)
        });
        suite.answer(&format!("redis/{name}"), promises, move || RedisFixture::new(algorithm));
        suite.answer(&format!("redis-coalesced/{name}"), promises, move || async move {
            CoalescedFixture(RedisFixture::new(algorithm).await)
        });
    }
    // A table far too small for the flood: strangers are refused, the limited stay limited.
    let small = AlgorithmName::TokenBucket;
    suite.answer("memory-small/token-bucket", promises, move || MemoryFixture::new(small, 200));
    // Alone, a node that gossips is as exact as any.
    suite.answer("gossip-alone/fixed-window", promises, || async { GossipFixture::new() });
    // The wrong limiters differ from this one by one line each, and this one is right.
    suite.answer("naive", promises, || async { Naive::with(None) });
    for &(bug, caught_by) in Bug::ALL {
        suite.wrong(
            &bug.name(),
            caught_by,
            promises,
            move || async move { Naive::with(Some(bug)) },
        );
    }
    suite.answer("naive-coalescer", promises, || async { NaiveCoalescer::with(None) });
    for &(mistake, caught_by) in Mistake::ALL {
        let make = move || async move { NaiveCoalescer::with(Some(mistake)) };
        suite.wrong(&format!("coalescer_{}", mistake.name()), caught_by, promises, make);
    }
    gossips(&mut suite);
    leases(&mut suite);
    suite.run()
}

/// Nodes that count without a store, by what they promise each other.
fn gossips(suite: &mut Suite) {
    suite.answer("gossip", gossip::promises, || async { GossipFixture::new() });
    suite.answer("naive-gossip", gossip::promises, || async { NaiveGossip::with(None) });
    for &(rumour, caught_by) in Rumour::ALL {
        let make = move || async move { NaiveGossip::with(Some(rumour)) };
        suite.wrong(&format!("gossip_{}", rumour.name()), caught_by, gossip::promises, make);
    }
}

/// Nodes that lease from a store.
fn leases(suite: &mut Suite) {
    suite.answer("lease", lease::promises, || async { LeaseFixture::new() });
    suite.answer("naive-lease", lease::promises, || async { NaiveLease::with(None) });
    for &(lapse, caught_by) in Lapse::ALL {
        let make = move || async move { NaiveLease::with(Some(lapse)) };
        suite.wrong(&format!("lease_{}", lapse.name()), caught_by, lease::promises, make);
    }
}

struct MemoryFixture {
    algorithm: AlgorithmName,
    clock: Arc<ManualClock>,
    store: Memory<ManualClock>,
}

impl MemoryFixture {
    async fn new(algorithm: AlgorithmName, keys_max: usize) -> Self {
        let clock = Arc::new(ManualClock::at(EPOCH));
        Self { algorithm, clock: Arc::clone(&clock), store: Memory::new(clock, keys_max) }
    }
}

impl Fixture for MemoryFixture {
    type Limiter = Arc<MemoryLimiter<ManualClock>>;

    fn algorithm(&self) -> AlgorithmName {
        self.algorithm
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<Self::Limiter> {
        let limiter = Arc::new(self.store.limiter(policy));
        (0..count).map(|_| Arc::clone(&limiter)).collect()
    }
}

/// One node that has nobody to talk to.
struct GossipFixture {
    clock: Arc<ManualClock>,
    store: GossipStore<ManualClock>,
}

impl GossipFixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(EPOCH));
        Self { clock: Arc::clone(&clock), store: GossipStore::quiet(clock, Actor(1)) }
    }
}

impl Fixture for GossipFixture {
    type Limiter = Arc<GossipLimiter<ManualClock>>;

    fn algorithm(&self) -> AlgorithmName {
        AlgorithmName::FixedWindow
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<Self::Limiter> {
        let limiter = Arc::new(self.store.limiter(policy));
        (0..count).map(|_| Arc::clone(&limiter)).collect()
    }
}

impl gossip::GossipFixture for GossipFixture {
    type Node = gossip::Node;

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn nodes(&self, policy: Policy, count: usize) -> Vec<gossip::Node> {
        let node = |name| gossip::Node::new(Arc::clone(&self.clock), Actor(name), policy.clone());
        (0..count as u64).map(node).collect()
    }

    fn node_ahead(&self, policy: Policy, by: Duration) -> gossip::Node {
        let ahead = ManualClock::at(self.clock.now());
        ahead.advance(by);
        gossip::Node::new(Arc::new(ahead), Actor(99), policy)
    }
}

/// Nodes in front of an in-process store.
struct LeaseFixture {
    clock: Arc<ManualClock>,
}

impl LeaseFixture {
    const LIFE: Duration = Duration::from_millis(50);

    fn new() -> Self {
        Self { clock: Arc::new(ManualClock::at(EPOCH)) }
    }
}

impl lease::LeaseFixture for LeaseFixture {
    type Store = MemoryLimiter<ManualClock>;
    type Node = LeasedLimiter<Arc<Self::Store>, ManualClock>;

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn life(&self) -> Duration {
        Self::LIFE
    }

    fn nodes(&self, policy: Policy, count: usize) -> (Arc<Self::Store>, Vec<Self::Node>) {
        let store = Memory::new(Arc::clone(&self.clock), KEYS_MAX_DEFAULT).limiter(policy);
        let store = Arc::new(store);
        let node = |_| LeasedLimiter::new(Arc::clone(&store), Arc::clone(&self.clock), Self::LIFE);
        let nodes = (0..count).map(node).collect();
        (store, nodes)
    }
}

/// A real Redis of its own, with the scripts on the suite's clock.
struct RedisFixture {
    algorithm: AlgorithmName,
    clock: Arc<ManualClock>,
    redis: infra::Redis,
}

impl RedisFixture {
    async fn new(algorithm: AlgorithmName) -> Self {
        let redis = infra::redis().await.expect("a Redis to test against");
        Self { algorithm, clock: Arc::new(ManualClock::at(EPOCH)), redis }
    }
}

impl Fixture for RedisFixture {
    type Limiter = RedisLimiter;

    fn algorithm(&self) -> AlgorithmName {
        self.algorithm
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Each server has a connection of its own.
    fn servers(&self, policy: Policy, count: usize) -> Vec<RedisLimiter> {
        let clock = ScriptClock::Injected(Arc::clone(&self.clock));
        let server = |_| {
            let store = RedisStore::connect(self.redis.url(), RESPONSE_TIMEOUT_DEFAULT * 20);
            store.expect("a URL from infra").with_clock(clock.clone()).limiter(policy.clone())
        };
        (0..count).map(server).collect()
    }
}

/// The same Redis behind servers that coalesce.
struct CoalescedFixture(RedisFixture);

impl Fixture for CoalescedFixture {
    type Limiter = CoalescedLimiter;

    fn algorithm(&self) -> AlgorithmName {
        self.0.algorithm
    }

    fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<CoalescedLimiter> {
        self.0.servers(policy, count).into_iter().map(CoalescedLimiter::new).collect()
    }
}
