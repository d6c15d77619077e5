//! What nodes promise that lease tokens from a store they share.

use std::sync::Arc;
use std::time::Duration;

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises, seed::Seed};

use super::{check, key, peek};
use crate::clock::{Clock, ManualClock};
use crate::limiter::Limiter;
use crate::policy::{AlgorithmName, Policy};
use crate::store::lease::LeasedLimiter;

/// How the suite reaches nodes that lease.
pub trait LeaseFixture: Send + Sync + 'static {
    /// What they lease from.
    type Store: Limiter;
    /// A node.
    type Node: Limiter + Leasing;

    /// The clock that nodes and store read.
    fn clock(&self) -> &ManualClock;

    /// How long a lease lives.
    fn life(&self) -> Duration;

    /// A store, and as many nodes as asked for that lease from it.
    fn nodes(&self, policy: Policy, count: usize) -> (Arc<Self::Store>, Vec<Self::Node>);
}

/// What a node has beyond a limiter.
pub trait Leasing {
    /// Tokens it holds for a caller.
    fn holds(&self, caller: &str) -> u32;

    /// Gives back what is left of leases that have ended.
    fn give_back(&self) -> impl Future<Output = ()> + Send;
}

impl<L: Limiter, C: Clock> Leasing for LeasedLimiter<L, C> {
    fn holds(&self, caller: &str) -> u32 {
        self.held(key(caller))
    }

    async fn give_back(&self) {
        self.give_back_ended().await;
    }
}

/// What nodes that lease promise.
pub fn promises<F: LeaseFixture>() -> Vec<Promise<F>> {
    promises! { F;
        tokens_are_conserved => "What was admitted, what is held and what is left never exceed what was granted.",
        most_checks_need_no_store => "A busy caller is decided where it asks.",
        a_lease_is_what_was_granted => "A node holds what the store gave it, not what it asked for.",
        what_is_not_spent_comes_back => "An ended lease returns to the store, once.",
        idle_leases_do_not_add_to_the_burst => "Tokens of a lease that ended long ago cannot be spent on top of a full bucket.",
        a_dead_node_takes_only_what_it_held => "A node that dies costs its lease and nothing else.",
    }
}

const BURST: u32 = 100;
const PER_MS: u64 = 1_000;

fn policy(rate: u32, per_ms: u64) -> Policy {
    let policy = Policy::single("leased", AlgorithmName::TokenBucket, rate, per_ms, Some(BURST));
    policy.expect("the suite's numbers are legal")
}

/// So slow that nothing is refilled during a promise.
fn once_a_day() -> Policy {
    policy(1, 86_400_000)
}

async fn left<L: Limiter>(store: &L) -> Result<u32, Broken> {
    Ok(peek(store, "caller").await?.quota.remaining)
}

async fn take_all<L: Limiter>(limiter: &L) -> Result<u32, Broken> {
    let mut taken = 0;
    while check(limiter, "caller", 1).await?.allowed() {
        taken += 1;
        ensure!(taken <= 10 * BURST, "{taken} were admitted at once of a burst of {BURST}");
    }
    Ok(taken)
}

async fn tokens_are_conserved<F: LeaseFixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let (rate, began) = (BURST, fixture.clock().now());
    let (store, nodes) = fixture.nodes(policy(rate, PER_MS), 3);
    let mut admitted = 0;
    for step in 0..600 {
        let node = &nodes[rng.usize(0..nodes.len())];
        match rng.u8(0..10) {
            0..6 => {
                for _ in 0..rng.u32(1..12) {
                    admitted += u64::from(check(node, "caller", 1).await?.allowed());
                }
            }
            6..8 => node.give_back().await,
            _ => fixture.clock().advance(Duration::from_micros(rng.u64(0..60_000))),
        }
        let held: u64 = nodes.iter().map(|node| u64::from(node.holds("caller"))).sum();
        let left = u64::from(left(&*store).await?);
        let elapsed_us = fixture.clock().now().since(began);
        let most = u64::from(BURST) + elapsed_us * u64::from(rate) / (PER_MS * 1_000);
        ensure!(
            admitted + held + left <= most,
            "step {step}: {admitted} admitted, {held} held and {left} left, of {most} granted"
        );
    }
    Ok(())
}

async fn most_checks_need_no_store<F: LeaseFixture>(fixture: Arc<F>) -> Verdict {
    let (store, nodes) = fixture.nodes(once_a_day(), 1);
    check(&nodes[0], "caller", 1).await?;
    let (before, held) = (left(&*store).await?, nodes[0].holds("caller"));
    ensure!(held > 0, "after its first check a node holds nothing");
    for _ in 0..held {
        let decision = check(&nodes[0], "caller", 1).await?;
        ensure!(decision.allowed(), "a token that is held was not granted");
    }
    let after = left(&*store).await?;
    ensure!(
        after == before,
        "{held} held tokens were spent, and the store went {before} to {after}"
    );
    Ok(())
}

async fn a_lease_is_what_was_granted<F: LeaseFixture>(fixture: Arc<F>) -> Verdict {
    let (store, nodes) = fixture.nodes(once_a_day(), 2);
    store.take_up_to(key("caller"), BURST - 3).await.map_err(super::failed)?;
    let taken = take_all(&nodes[0]).await? + take_all(&nodes[1]).await?;
    ensure!(taken == 3, "3 were left in the store, and {taken} were admitted");
    Ok(())
}

async fn what_is_not_spent_comes_back<F: LeaseFixture>(fixture: Arc<F>) -> Verdict {
    let (store, nodes) = fixture.nodes(once_a_day(), 2);
    check(&nodes[0], "caller", 1).await?;
    check(&nodes[1], "caller", 1).await?;
    // So that a token that is given back twice has room.
    store.check(key("caller"), 50).await.map_err(super::failed)?;
    fixture.clock().advance(fixture.life());
    for _ in 0..2 {
        for node in &nodes {
            node.give_back().await;
        }
    }
    let left = left(&*store).await?;
    ensure!(left == BURST - 52, "52 of {BURST} were spent, and {left} are left after all is back");
    Ok(())
}

async fn idle_leases_do_not_add_to_the_burst<F: LeaseFixture>(fixture: Arc<F>) -> Verdict {
    let (_, nodes) = fixture.nodes(policy(BURST, PER_MS), 3);
    for node in &nodes {
        check(node, "caller", 1).await?;
    }
    fixture.clock().advance(fixture.life() + Duration::from_millis(2 * PER_MS));
    // As each node does by itself once per life of a lease.
    for node in &nodes {
        node.give_back().await;
    }
    let mut taken = 0;
    for node in &nodes {
        taken += take_all(node).await?;
    }
    ensure!(
        taken == BURST,
        "after a long pause {taken} were admitted at once of a burst of {BURST}"
    );
    Ok(())
}

async fn a_dead_node_takes_only_what_it_held<F: LeaseFixture>(fixture: Arc<F>) -> Verdict {
    let (_, mut nodes) = fixture.nodes(once_a_day(), 2);
    check(&nodes[0], "caller", 1).await?;
    let dead = nodes.swap_remove(0);
    let held = dead.holds("caller");
    drop(dead);
    let taken = take_all(&nodes[0]).await?;
    ensure!(
        taken == BURST - 1 - held,
        "{held} were lost with a node; {taken} of {BURST} were left"
    );
    Ok(())
}
