//! What nodes that count without a store promise each other. News are letters in the suite's hands:
//! it delivers them late, twice, in any order, or never.

use std::sync::Arc;
use std::time::Duration;

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};

use super::{check, key, peek};
use crate::clock::{Clock, ManualClock};
use crate::gossip::{Actor, News};
use crate::limiter::Limiter;
use crate::policy::{AlgorithmName, Policy};
use crate::store::gossip::{GossipLimiter, GossipStore};
use crate::{Decision, Error, Grant, Key, Store};

/// How the suite reaches nodes that gossip.
pub trait GossipFixture: Send + Sync + 'static {
    /// A node, enforcing one policy.
    type Node: Limiter + Correspondent;

    /// The clock all nodes read.
    fn clock(&self) -> &ManualClock;

    /// As many nodes as asked for, which have heard of nobody.
    fn nodes(&self, policy: Policy, count: usize) -> Vec<Self::Node>;

    /// A node whose clock is ahead by so much.
    fn node_ahead(&self, policy: Policy, by: Duration) -> Self::Node;
}

/// A node whose post the suite carries.
pub trait Correspondent {
    /// Everything a node knows, at one moment.
    type Letter: Clone + Send + Sync;

    /// Writes it down.
    fn write(&self) -> Self::Letter;

    /// Reads what another one knew.
    fn read(&self, letter: Self::Letter);
}

/// Our own node: the store and its limiter of one policy.
pub struct Node {
    actor: Actor,
    store: GossipStore<ManualClock>,
    limiter: GossipLimiter<ManualClock>,
}

impl Node {
    /// A node that talks to nobody by itself.
    pub fn new(clock: Arc<ManualClock>, actor: Actor, policy: Policy) -> Self {
        let store = GossipStore::quiet(clock, actor);
        let limiter = store.limiter(policy);
        Self { actor, store, limiter }
    }
}

impl Correspondent for Node {
    type Letter = (Actor, Vec<News>);

    fn write(&self) -> Self::Letter {
        (self.actor, self.store.news(0).0)
    }

    fn read(&self, (from, news): Self::Letter) {
        self.store.hear(from, &news);
    }
}

impl Limiter for Node {
    fn policy(&self) -> &Policy {
        self.limiter.policy()
    }
    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.limiter.check(key, cost).await
    }
    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        self.limiter.peek(key).await
    }
    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        self.limiter.take_up_to(key, at_most).await
    }
    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        self.limiter.refund(key, cost).await
    }
}

/// What nodes promise each other.
pub fn promises<F: GossipFixture>() -> Vec<Promise<F>> {
    promises! { F;
        what_is_told_is_counted => "After a letter its reader has as much less as its writer charged.",
        a_letter_read_twice_counts_once => "Repeating news changes nothing.",
        letters_that_cross_agree => "Whoever has heard of everything knows the same sum.",
        an_old_letter_takes_nothing_back => "News that arrive late, after newer ones, change nothing.",
        news_travel_through_others => "Two nodes that never talk hear of each other through a third.",
        a_new_window_begins_empty_for_everybody => "What others charged in the last window is forgotten with one's own.",
        a_letter_about_the_last_window_is_history => "Late news do not use up the window of today.",
        a_clock_that_is_ahead_is_not_believed => "A node with a wrong clock cannot end everybody's window.",
        refunds_are_news_too => "What is given back at one node can be taken at another.",
    }
}

const LIMIT: u32 = 20;
const WINDOW: Duration = Duration::from_millis(500);

fn policy() -> Policy {
    let per_ms = WINDOW.as_millis() as u64;
    let policy = Policy::single("told", AlgorithmName::FixedWindow, LIMIT, per_ms, None);
    policy.expect("the suite's numbers are legal")
}

fn nodes<F: GossipFixture, const N: usize>(fixture: &F) -> [F::Node; N] {
    let nodes = fixture.nodes(policy(), N).try_into();
    nodes.unwrap_or_else(|_| panic!("{N} nodes were asked for"))
}

async fn left<L: Limiter>(node: &L) -> Result<u32, Broken> {
    Ok(peek(node, "caller").await?.quota.remaining)
}

async fn what_is_told_is_counted<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b] = nodes(&*fixture);
    check(&a, "caller", 3).await?;
    ensure!(left(&b).await? == LIMIT, "a node knew of a charge that nobody told it");
    b.read(a.write());
    let left = left(&b).await?;
    ensure!(left == LIMIT - 3, "another node charged 3 of {LIMIT}, and {left} are left");
    Ok(())
}

async fn a_letter_read_twice_counts_once<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b] = nodes(&*fixture);
    check(&a, "caller", 3).await?;
    let letter = a.write();
    for time in 1..=3 {
        b.read(letter.clone());
        let left = left(&b).await?;
        ensure!(
            left == LIMIT - 3,
            "after reading {time} times that 3 were charged, {left} are left"
        );
    }
    Ok(())
}

async fn letters_that_cross_agree<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b, c] = nodes(&*fixture);
    for (node, cost) in [(&a, 3), (&b, 2), (&c, 4), (&a, 1)] {
        check(node, "caller", cost).await?;
    }
    let letters = [a.write(), b.write(), c.write()];
    for letter in letters {
        a.read(letter.clone());
        b.read(letter.clone());
        c.read(letter);
    }
    for (name, node) in [("first", &a), ("second", &b), ("third", &c)] {
        let left = left(node).await?;
        ensure!(left == LIMIT - 10, "10 were charged in all; the {name} node has {left} left");
    }
    Ok(())
}

async fn an_old_letter_takes_nothing_back<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b] = nodes(&*fixture);
    check(&a, "caller", 3).await?;
    let old = a.write();
    check(&a, "caller", 4).await?;
    b.read(a.write());
    b.read(old);
    let left = left(&b).await?;
    ensure!(left == LIMIT - 7, "7 were charged; after an old letter {left} are left");
    Ok(())
}

async fn news_travel_through_others<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b, c] = nodes(&*fixture);
    check(&a, "caller", 3).await?;
    b.read(a.write());
    c.read(b.write());
    let left = left(&c).await?;
    ensure!(left == LIMIT - 3, "3 were charged two letters away, and {left} are left");
    Ok(())
}

/// Into the middle of the next window.
fn next_window<F: GossipFixture>(fixture: &F) {
    let window_us = WINDOW.as_micros() as u64;
    let into = fixture.clock().now().0 % window_us;
    fixture.clock().advance(Duration::from_micros(window_us - into + window_us / 2));
}

async fn a_new_window_begins_empty_for_everybody<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b] = nodes(&*fixture);
    check(&a, "caller", 3).await?;
    check(&b, "caller", 2).await?;
    b.read(a.write());
    next_window(&*fixture);
    check(&b, "caller", 1).await?;
    let left = left(&b).await?;
    ensure!(left == LIMIT - 1, "one was charged in this window, and {left} are left");
    Ok(())
}

async fn a_letter_about_the_last_window_is_history<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b] = nodes(&*fixture);
    check(&a, "caller", 3).await?;
    let late = a.write();
    next_window(&*fixture);
    check(&b, "caller", 1).await?;
    b.read(late);
    let left = left(&b).await?;
    ensure!(left == LIMIT - 1, "one was charged in this window; after late news {left} are left");
    Ok(())
}

async fn a_clock_that_is_ahead_is_not_believed<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [b] = nodes(&*fixture);
    let ahead = fixture.node_ahead(policy(), 10 * WINDOW);
    check(&b, "caller", 5).await?;
    check(&ahead, "caller", 1).await?;
    b.read(ahead.write());
    let left = left(&b).await?;
    ensure!(left == LIMIT - 5, "5 were charged; after a letter from the future {left} are left");
    Ok(())
}

async fn refunds_are_news_too<F: GossipFixture>(fixture: Arc<F>) -> Verdict {
    let [a, b] = nodes(&*fixture);
    check(&a, "caller", 6).await?;
    b.read(a.write());
    a.refund(key("caller"), 4).await.map_err(super::failed)?;
    b.read(a.write());
    let left = left(&b).await?;
    ensure!(left == LIMIT - 2, "6 were charged and 4 given back, and {left} are left");
    Ok(())
}
