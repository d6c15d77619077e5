//! No store at all: every node decides from what it has counted and heard ([`crate::gossip`] has
//! the counters and the bound on the error).
//!
//! Checks touch nothing but memory, and a node that can reach nobody goes on deciding: the answer
//! for limits that protect comfort, where an outage of the limiter would be worse than a limit that
//! is overrun for a moment. Between two ticks everybody hears of everybody; the price is bandwidth
//! that grows with nodes x callers that changed.
//!
//! Windows are calendar windows by each node's clock, so clocks must agree to a small part of the
//! window. Only fixed windows can be counted this way: buckets forget by time, and two copies that
//! forgot differently cannot be merged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Opinion, decide};
use crate::algorithm::fixed_window::{Count, FixedWindow};
use crate::algorithm::{Algorithm, Micros};
use crate::clock::{Clock, Monotonic};
use crate::gossip::{Actor, COUNTERS_MAX, Ledger, News, NoRoom};
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Store};
use crate::policy::{AlgorithmName, Limit, Policy};

#[cfg(feature = "membership")]
pub mod membership;
mod wire;

/// How often a node tells the others what changed.
pub const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

/// Who else there is; it may change at any time.
pub type Peers = watch::Receiver<Vec<SocketAddr>>;

/// One node, and the store it is to its limiters. Dropping the last handle ends the talking.
#[derive(Clone)]
pub struct GossipStore<C = Monotonic>(Arc<Node<C>>);

struct Node<C> {
    clock: Arc<C>,
    ledger: Mutex<Ledger>,
    /// When which other life was last heard.
    heard: Mutex<HashMap<Actor, Micros>>,
    /// Ends the tasks that talk.
    _alive: watch::Sender<()>,
}

impl GossipStore {
    /// A node that listens on `listener` and tells `peers` what it knows, once per `interval`.
    pub fn start(listener: TcpListener, peers: Peers, interval: Duration) -> Self {
        let (alive, ended) = watch::channel(());
        let clock = Arc::new(Monotonic::default());
        let store = Self::node(clock, Actor(fresh_actor()), alive);
        wire::talk(&store.0, listener, peers, interval, ended);
        store
    }
}

impl<C: Clock> GossipStore<C> {
    /// A node that talks to nobody by itself: the caller carries the news. For simulations.
    pub fn quiet(clock: Arc<C>, actor: Actor) -> Self {
        Self::node(clock, actor, watch::channel(()).0)
    }

    fn node(clock: Arc<C>, actor: Actor, alive: watch::Sender<()>) -> Self {
        let ledger = Mutex::new(Ledger::new(actor));
        Self(Arc::new(Node { clock, ledger, heard: Mutex::default(), _alive: alive }))
    }

    /// What changed after change number `after`; see [`Ledger::news`].
    pub fn news(&self, after: u64) -> (Vec<News>, u64) {
        self.0.ledger.lock().news(after)
    }

    /// Joins what another node told.
    pub fn hear(&self, from: Actor, news: &[News]) {
        self.0.hear(from, news);
    }

    /// How long ago the node was last heard that was not heard for longest: the staleness of the
    /// bound, for this node. Zero while it has heard nobody.
    pub fn staleness(&self) -> Duration {
        let (now, heard) = (self.0.clock.now(), self.0.heard.lock());
        let oldest = heard.values().map(|at| now.since(*at)).max();
        Duration::from_micros(oldest.unwrap_or(0))
    }

    /// How many other lives have been heard.
    pub fn peers_heard(&self) -> usize {
        self.0.heard.lock().len()
    }
}

/// Random, so that two lives never share a name.
fn fresh_actor() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

impl<C: Clock> Node<C> {
    fn hear(&self, from: Actor, news: &[News]) {
        let now = self.clock.now();
        let refused = self.ledger.lock().hear(news, now);
        self.heard.lock().insert(from, now);
        if refused > 0 {
            metrics::counter!("rate_limiter_gossip_refused_total").increment(refused as u64);
        }
    }

    /// Lives that have been silent for so long are over, or as good as.
    fn forget(&self, silent_for: Duration) {
        let now = self.clock.now();
        self.ledger.lock().forget_ended(now);
        let most = silent_for.as_micros() as u64;
        self.heard.lock().retain(|_, at| now.since(*at) < most);
    }
}

impl<C: Clock> Store for GossipStore<C> {
    type Limiter = GossipLimiter<C>;

    fn limiter(&self, policy: Policy) -> GossipLimiter<C> {
        let windows = policy.limits().iter().map(|limit| window_of(&policy, limit)).collect();
        GossipLimiter { node: Arc::clone(&self.0), policy, windows }
    }

    fn accepts(&self, policy: &Policy) -> Result<(), Error> {
        for (index, limit) in policy.limits().iter().enumerate() {
            if limit.spec().algorithm != AlgorithmName::FixedWindow {
                let field = format!("limits/{index}/algorithm");
                let reason = "must be fixed-window: nothing else can be counted without a store";
                return Err(Error::invalid(field, reason));
            }
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// One policy, enforced by what this node knows.
pub struct GossipLimiter<C = Monotonic> {
    node: Arc<Node<C>>,
    policy: Policy,
    windows: Vec<Window>,
}

struct Window {
    algorithm: FixedWindow,
    limit: u32,
    window_us: u64,
    prefix: String,
}

fn window_of(policy: &Policy, limit: &Limit) -> Window {
    let (limit, window_us) = (limit.spec().rate, limit.spec().per_ms * 1_000);
    let algorithm = FixedWindow::new(limit, window_us);
    let prefix = format!("{}/{limit}/{window_us}:", policy.name());
    Window { algorithm, limit, window_us, prefix }
}

impl Window {
    fn key(&self, caller: Key<'_>) -> String {
        format!("{}{}", self.prefix, caller.as_str())
    }

    fn opinion(&self, count: Count, now: Micros, cost: u32) -> Opinion {
        let (wait, quota) =
            (self.algorithm.wait(&count, now, cost), self.algorithm.quota(&count, now));
        Opinion { wait, quota, delay_us: 0 }
    }

    fn ask(&self, ledger: &Ledger, key: &str, now: Micros, cost: u32) -> Opinion {
        self.opinion(ledger.count(key, self.window_us, self.limit, now), now, cost)
    }
}

impl<C: Clock> GossipLimiter<C> {
    /// [`Limiter::check`] without the future.
    ///
    /// # Errors
    /// [`Error::Full`] for a new caller when there is no room for another counter.
    pub fn check_now(&self, caller: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.charge(caller, |_| cost).map(|(decision, _)| decision)
    }

    /// Charges what `cost` makes of what is available, if it is available in all windows.
    fn charge(
        &self,
        caller: Key<'_>,
        cost: impl FnOnce(u32) -> u32,
    ) -> Result<(Decision, u32), Error> {
        let keys: Vec<_> = self.windows.iter().map(|window| window.key(caller)).collect();
        let now = self.node.clock.now();
        let mut ledger = self.node.ledger.lock();
        let ask = |ledger: &Ledger, cost| {
            let each = self.windows.iter().zip(&keys);
            each.map(|(window, key)| window.ask(ledger, key, now, cost)).collect::<Vec<_>>()
        };
        let available = ask(&ledger, 0).iter().map(|opinion| opinion.quota.remaining).min();
        let cost = cost(available.unwrap_or(0));
        let asked = decide(ask(&ledger, cost).into_iter());
        if !asked.allowed() || cost == 0 {
            return Ok((asked, 0));
        }
        for key in &keys {
            let full = |NoRoom| Error::Full { keys_max: COUNTERS_MAX };
            ledger.has_room(key, now).map_err(full)?;
        }
        for (window, key) in self.windows.iter().zip(&keys) {
            ledger.charge(key, window.window_us, now, cost);
        }
        Ok((decide(ask(&ledger, 0).into_iter()), cost))
    }
}

impl<C: Clock> Limiter for GossipLimiter<C> {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.check_now(key, cost)
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        let now = self.node.clock.now();
        let ledger = self.node.ledger.lock();
        let each = self.windows.iter();
        Ok(decide(each.map(|window| window.ask(&ledger, &window.key(key), now, 1))))
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        let (decision, granted) = self.charge(key, |available| available.min(at_most))?;
        if granted == 0 && at_most > 0 {
            return Ok(Grant { granted, decision: self.peek(key).await? });
        }
        Ok(Grant { granted, decision })
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let now = self.node.clock.now();
        let mut ledger = self.node.ledger.lock();
        let mut opinions = Vec::with_capacity(self.windows.len());
        for window in &self.windows {
            let key = window.key(key);
            ledger.refund(&key, window.window_us, now, cost);
            opinions.push(window.ask(&ledger, &key, now, 0));
        }
        Ok(decide(opinions.into_iter()))
    }
}
