//! The contract as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by.
//!
//! A [`Fixture`] offers one algorithm over one store, on a clock that the suite moves. The
//! promises come in the order in which an interviewer would probe.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises, seed::Seed, shrink};

use crate::algorithm::Micros;
use crate::clock::{Clock, ManualClock};
use crate::limiter::{Decision, Key, Limiter, Outcome};
use crate::policy::{AlgorithmName, Limit, LimitSpec, OnStoreFailure, Policy, PolicySpec};

#[cfg(feature = "gossip")]
pub mod gossip;
pub mod lease;
mod linearizable;
mod model;

use linearizable::concurrent_histories_are_linearizable;
use model::Model;

/// Where the suite's clock starts: a time of day in 2026 that is no multiple of any window.
pub const EPOCH: Micros = Micros(1_790_000_123_456_789);

/// How the suite reaches the answer under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Limiter: Limiter;

    /// The algorithm that policies of this run use.
    fn algorithm(&self) -> AlgorithmName;

    /// The clock the answer reads. It starts at [`EPOCH`].
    fn clock(&self) -> &ManualClock;

    /// As many servers as asked for that enforce `policy` together, on a store nobody used before
    /// under this policy's name.
    fn servers(&self, policy: Policy, count: usize) -> Vec<Self::Limiter>;
}

/// What every limiter promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    promises! { F;
        a_new_caller_has_the_whole_quota => "A caller never seen can take the limit, and not one more.",
        callers_are_independent => "What one caller takes, no other one misses.",
        never_admits_more_than_the_bound => "In no window is more admitted than the algorithm's bound.",
        steady_demand_is_not_starved => "Who waits as told gets the full rate, period after period.",
        a_denial_changes_nothing => "A denied request leaves no trace, however often it is repeated.",
        retry_after_is_tight => "A denied request succeeds at retry_after and not a microsecond before.",
        remaining_is_honest => "As many requests of cost one as remain succeed, and the next does not.",
        a_cost_beyond_the_limit_is_never_possible => "What can never be granted is told apart from what must wait.",
        partial_grants_take_what_is_there => "take_up_to charges the smaller of what is asked for and what is left.",
        refunds_never_exceed_the_limit => "A refund gives back what was charged and never more than the limit.",
        a_refund_ends_a_denial => "What one server gives back, a caller that another one denied can take at once.",
        limits_are_all_or_nothing => "A policy charges all of its limits or none of them.",
        concurrent_callers_share_one_quota => "Many tasks on many servers together get the limit, exactly.",
        servers_agree_on_the_time => "A quota used up at one server is used up at all of them.",
        time_going_backwards_admits_nothing => "A clock that jumps back and forth again mints nothing.",
        a_flood_of_callers_gives_nobody_a_fresh_quota => "Strangers cannot push a limited caller out of the table.",
        extreme_rates_neither_drift_nor_overflow => "Once a year and a million per millisecond are both exact.",
        a_crowd_is_answered_as_if_one_by_one => "Requests made at once at one server are decided in the order they were made.",
        concurrent_histories_are_linearizable => "What many tasks at many servers were told is explained by some order of their requests.",
        agrees_with_the_model => "Every decision of a random history equals the pure algorithm's.",
    }
}

/// The limit most promises use: 5 per 7 ms. The numbers are coprime, so that rounding shows.
const RATE: u32 = 5;
const PER_MS: u64 = 7;

fn policy<F: Fixture>(fixture: &F, name: &str, rate: u32, per_ms: u64) -> Policy {
    Policy::single(name, fixture.algorithm(), rate, per_ms, None)
        .expect("the suite's numbers are legal")
}

fn one_server<F: Fixture>(fixture: &F, policy: Policy) -> F::Limiter {
    fixture.servers(policy, 1).pop().expect("one server was asked for")
}

fn key(name: &str) -> Key<'_> {
    Key::new(name).expect("the suite's keys are legal")
}

async fn check<L: Limiter>(limiter: &L, caller: &str, cost: u32) -> Result<Decision, Broken> {
    limiter.check(key(caller), cost).await.map_err(failed)
}

async fn peek<L: Limiter>(limiter: &L, caller: &str) -> Result<Decision, Broken> {
    limiter.peek(key(caller)).await.map_err(failed)
}

fn failed(error: crate::Error) -> Broken {
    Broken::because(format!("the limiter failed: {error}"))
}

/// Takes everything the caller has left.
async fn exhaust<L: Limiter>(limiter: &L, caller: &str) -> Result<u32, Broken> {
    let limit = limiter.policy().limits()[0].burst();
    let mut taken = 0;
    while check(limiter, caller, 1).await?.allowed() {
        taken += 1;
        ensure!(taken <= limit, "{taken} were admitted at once although the limit is {limit}");
    }
    Ok(taken)
}

async fn a_new_caller_has_the_whole_quota<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "whole", RATE, PER_MS));
    let quota = peek(&limiter, "new").await?.quota;
    ensure!(quota.remaining == RATE, "a new caller has {} of {RATE} left", quota.remaining);
    ensure!(quota.limit == RATE, "the limit {RATE} is reported as {}", quota.limit);
    let taken = exhaust(&limiter, "new").await?;
    ensure!(taken == RATE, "a new caller could take {taken}, not {RATE}");
    Ok(())
}

async fn callers_are_independent<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "callers", RATE, PER_MS));
    exhaust(&limiter, "first").await?;
    for caller in ["second", "first ", "FIRST", "{first}", "first}{"] {
        let taken = exhaust(&limiter, caller).await?;
        ensure!(
            taken == RATE,
            "{caller:?} could take {taken}, not {RATE}, after \"first\" took all"
        );
    }
    Ok(())
}

/// The most that may be admitted from `first` to `last`, both included.
fn most_admitted(limit: &Limit, first: Micros, last: Micros) -> u64 {
    let (rate, per_us) = (u64::from(limit.spec().rate), limit.spec().per_ms * 1_000);
    let elapsed = last.since(first);
    match limit.spec().algorithm {
        AlgorithmName::FixedWindow => rate * (last.0 / per_us - first.0 / per_us + 1),
        AlgorithmName::SlidingLog | AlgorithmName::Concurrency => rate * (elapsed / per_us + 1),
        AlgorithmName::SlidingCounter => rate * (elapsed / per_us + 2),
        _ => u64::from(limit.burst()) + elapsed * rate / per_us,
    }
}

async fn never_admits_more_than_the_bound<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let limiter = one_server(&*fixture, policy(&*fixture, "bound", RATE, PER_MS));
    let limit = limiter.policy().limits()[0].clone();
    let mut admitted: Vec<(Micros, u64)> = Vec::new();
    for _ in 0..400 {
        // Mostly crowding, sometimes a pause about as long as a window: the two patterns that
        // catch a limiter that forgets, and one that lets idlers save up.
        let pause_us = match rng.u8(0..10) {
            0..6 => rng.u64(0..200),
            6..9 => rng.u64(0..3_000),
            _ => rng.u64(0..4 * PER_MS * 1_000),
        };
        fixture.clock().advance(Duration::from_micros(pause_us));
        let cost = rng.u32(1..=2);
        if check(&limiter, "caller", cost).await?.allowed() {
            admitted.push((fixture.clock().now(), u64::from(cost)));
        }
    }
    for (index, &(first, _)) in admitted.iter().enumerate() {
        let mut sum = 0;
        for &(last, cost) in &admitted[index..] {
            sum += cost;
            let most = most_admitted(&limit, first, last);
            ensure!(
                sum <= most,
                "{sum} were admitted within {} us although at most {most} may be",
                last.since(first)
            );
        }
    }
    Ok(())
}

async fn steady_demand_is_not_starved<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "steady", RATE, PER_MS));
    exhaust(&limiter, "caller").await?;
    let periods = 40;
    let end = Micros(fixture.clock().now().0 + periods * PER_MS * 1_000);
    let mut admitted = 0;
    while fixture.clock().now() <= end {
        match check(&limiter, "caller", 1).await?.outcome {
            Outcome::Allowed => admitted += 1,
            Outcome::Denied { retry_after } => {
                fixture.clock().advance(retry_after.max(Duration::from_micros(1)))
            }
            Outcome::TooLarge => return Err(Broken::because("a cost of one was called too large")),
        }
    }
    // One request per period may fall to rounding where an algorithm weighs in milliseconds.
    let least = periods * u64::from(RATE) - periods - 1;
    ensure!(
        admitted >= least,
        "{admitted} were admitted in {periods} periods; at least {least} are due"
    );
    Ok(())
}

async fn a_denial_changes_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "denial", RATE, PER_MS));
    check(&limiter, "caller", RATE - 1).await?;
    fixture.clock().advance(Duration::from_micros(10));
    let before = peek(&limiter, "caller").await?;
    for cost in [3, 4, 5, 6, u32::MAX] {
        let denied = check(&limiter, "caller", cost).await?;
        ensure!(!denied.allowed(), "a cost of {cost} was allowed with one of {RATE} left");
        let after = peek(&limiter, "caller").await?;
        ensure!(after == before, "a denied cost of {cost} changed {before:?} into {after:?}");
    }
    Ok(())
}

async fn retry_after_is_tight<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let limiter = one_server(&*fixture, policy(&*fixture, "tight", RATE, PER_MS));
    for round in 0..60 {
        fixture.clock().advance(Duration::from_micros(rng.u64(0..2_000)));
        exhaust(&limiter, "caller").await?;
        let cost = rng.u32(1..=RATE);
        let decision = check(&limiter, "caller", cost).await?;
        let Some(retry_after) = decision.retry_after() else {
            return Err(Broken::because(format!(
                "round {round}: {cost} after exhaustion: {decision:?}"
            )));
        };
        ensure!(!retry_after.is_zero(), "a denial says to retry at once");
        fixture.clock().advance(retry_after - Duration::from_micros(1));
        let early = check(&limiter, "caller", cost).await?;
        ensure!(
            !early.allowed(),
            "round {round}: {cost} was allowed a microsecond before {retry_after:?}"
        );
        fixture.clock().advance(Duration::from_micros(1));
        let due = check(&limiter, "caller", cost).await?;
        ensure!(due.allowed(), "round {round}: {cost} was denied after {retry_after:?}: {due:?}");
    }
    Ok(())
}

async fn remaining_is_honest<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let limiter = one_server(&*fixture, policy(&*fixture, "honest", RATE, PER_MS));
    for _ in 0..60 {
        fixture.clock().advance(Duration::from_micros(rng.u64(0..6_000)));
        let spent = check(&limiter, "caller", rng.u32(1..=2)).await?;
        let remaining = spent.quota.remaining;
        ensure!(remaining <= RATE, "{remaining} of {RATE} are said to remain");
        let taken = exhaust(&limiter, "caller").await?;
        ensure!(taken == remaining, "{remaining} were said to remain, {taken} could be taken");
    }
    Ok(())
}

async fn a_cost_beyond_the_limit_is_never_possible<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "beyond", RATE, PER_MS));
    for cost in [RATE + 1, u32::MAX] {
        let decision = check(&limiter, "caller", cost).await?;
        ensure!(
            decision.outcome == Outcome::TooLarge,
            "a cost of {cost} with a limit of {RATE} can never pass, but the answer is {:?}",
            decision.outcome
        );
    }
    let whole = check(&limiter, "caller", RATE).await?;
    ensure!(whole.allowed(), "a cost of exactly the limit was refused: {whole:?}");
    Ok(())
}

async fn partial_grants_take_what_is_there<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "partial", RATE, PER_MS));
    let take = async |at_most| limiter.take_up_to(key("caller"), at_most).await.map_err(failed);
    let (some, rest, none) = (take(2).await?, take(RATE).await?, take(1).await?);
    ensure!(some.granted == 2, "2 of {RATE} were asked for, {} granted", some.granted);
    ensure!(rest.granted == RATE - 2, "{} were left, {} granted", RATE - 2, rest.granted);
    ensure!(none.granted == 0, "nothing was left, {} granted", none.granted);
    let wait = none.decision.retry_after();
    ensure!(wait.is_some(), "an empty grant does not say when to retry: {:?}", none.decision);
    Ok(())
}

async fn refunds_never_exceed_the_limit<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "refund", RATE, PER_MS));
    check(&limiter, "caller", 4).await?;
    let returned = limiter.refund(key("caller"), 3).await.map_err(failed)?;
    let remaining = returned.quota.remaining;
    ensure!(remaining == RATE - 1, "4 were charged and 3 refunded, {remaining} of {RATE} remain");
    limiter.refund(key("caller"), u32::MAX).await.map_err(failed)?;
    limiter.refund(key("stranger"), 3).await.map_err(failed)?;
    for caller in ["caller", "stranger"] {
        let taken = exhaust(&limiter, caller).await?;
        ensure!(
            taken == RATE,
            "{caller} could take {taken} after a refund of more than was charged"
        );
    }
    Ok(())
}

async fn a_refund_ends_a_denial<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(policy(&*fixture, "forgiven", RATE, 60_000), 2);
    exhaust(&servers[0], "caller").await?;
    servers[1].refund(key("caller"), 1).await.map_err(failed)?;
    let decision = check(&servers[0], "caller", 1).await?;
    ensure!(
        decision.allowed(),
        "one was given back after a denial, and the answer is {decision:?}"
    );
    Ok(())
}

async fn limits_are_all_or_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limit = |name: &str, rate, per_ms| LimitSpec {
        name: Some(name.to_owned()),
        algorithm: fixture.algorithm(),
        rate,
        per_ms,
        burst: None,
    };
    let limits = vec![limit("tight", 2, PER_MS), limit("loose", 7, 1_000)];
    let spec = PolicySpec { limits, on_store_failure: OnStoreFailure::Closed };
    let policy = Policy::new("both", &spec).expect("the suite's numbers are legal");
    let limiter = one_server(&*fixture, policy);
    let mut admitted = 0;
    // The tight limit denies most of these; what it denies must not use up the loose one.
    for _ in 0..3 {
        for _ in 0..10 {
            admitted += u32::from(check(&limiter, "caller", 1).await?.allowed());
        }
        fixture.clock().advance(Duration::from_millis(2 * PER_MS));
    }
    ensure!(admitted == 6, "2 at a time pass the tight limit, 6 in all; {admitted} did");
    let last = check(&limiter, "caller", 1).await?;
    ensure!(last.allowed(), "the loose limit was charged for denied requests: {last:?}");
    let denied = check(&limiter, "caller", 1).await?;
    ensure!(
        denied.limit_index == 1,
        "the loose limit is used up, but limit {} was blamed",
        denied.limit_index
    );
    Ok(())
}

async fn concurrent_callers_share_one_quota<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limit = 100;
    let servers = fixture.servers(policy(&*fixture, "crowd", limit, 1_000), 4);
    let mut tasks = tokio::task::JoinSet::new();
    for server in servers.into_iter().map(Arc::new) {
        for _ in 0..16 {
            let server = Arc::clone(&server);
            tasks.spawn(async move {
                let mut admitted = 0;
                for _ in 0..10 {
                    admitted += u32::from(check(&*server, "caller", 1).await?.allowed());
                }
                Ok::<_, Broken>(admitted)
            });
        }
    }
    let mut admitted = 0;
    while let Some(task) = tasks.join_next().await {
        admitted += task.map_err(|error| Broken::because(error.to_string()))??;
    }
    ensure!(
        admitted == limit,
        "64 tasks made 640 requests at once; {admitted} passed a limit of {limit}"
    );
    Ok(())
}

async fn servers_agree_on_the_time<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(policy(&*fixture, "servers", RATE, PER_MS), 3);
    for round in 0..3 {
        exhaust(&servers[round], "caller").await?;
        for (index, server) in servers.iter().enumerate() {
            let decision = check(server, "caller", 1).await?;
            ensure!(!decision.allowed(), "server {index} admitted what server {round} had used up");
        }
        fixture.clock().advance(Duration::from_millis(2 * PER_MS));
    }
    Ok(())
}

async fn time_going_backwards_admits_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "backwards", RATE, PER_MS));
    exhaust(&limiter, "caller").await?;
    let now = fixture.clock().now();
    for back_us in [1, 1_000, 7_000, 3_600_000_000] {
        for at in [now.0 - back_us, now.0] {
            fixture.clock().set(Micros(at));
            let decision = check(&limiter, "caller", 1).await?;
            ensure!(!decision.allowed(), "a clock {back_us} us behind and back minted a token");
        }
    }
    Ok(())
}

async fn a_flood_of_callers_gives_nobody_a_fresh_quota<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let limiter = one_server(&*fixture, policy(&*fixture, "flood", RATE, 60_000));
    exhaust(&limiter, "victim").await?;
    for stranger in 0..3_000 {
        // A full table may refuse strangers; it may not forget the one who is limited.
        let _ = limiter.check(key(&format!("stranger-{stranger}")), 1).await;
    }
    let decision = check(&limiter, "victim", 1).await?;
    ensure!(!decision.allowed(), "3,000 strangers gave a limited caller a fresh quota");
    Ok(())
}

async fn extreme_rates_neither_drift_nor_overflow<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let year_ms = 365 * 24 * 60 * 60 * 1_000;
    let yearly = one_server(&*fixture, policy(&*fixture, "yearly", 1, year_ms));
    let first = check(&yearly, "caller", 1).await?;
    ensure!(first.allowed(), "the first request of the year was denied: {first:?}");
    let second = check(&yearly, "caller", 1).await?;
    let Some(wait) = second.retry_after() else {
        return Err(Broken::because(format!("a second request of the year: {second:?}")));
    };
    fixture.clock().advance(wait);
    let next = check(&yearly, "caller", 1).await?;
    ensure!(next.allowed(), "denied after waiting {wait:?} as told: {next:?}");

    let windowed =
        matches!(fixture.algorithm(), AlgorithmName::SlidingLog | AlgorithmName::Concurrency);
    let (rate, per_ms) = if windowed { (1_000, 1) } else { (1_000_000, 1) };
    let fast = one_server(&*fixture, policy(&*fixture, "fast", rate, per_ms));
    for round in 0..20 {
        let all = check(&fast, "caller", rate).await?;
        ensure!(all.allowed(), "round {round}: {rate} per {per_ms} ms were not back: {all:?}");
        let more = check(&fast, "caller", 1).await?;
        ensure!(!more.allowed(), "round {round}: more than {rate} at once: {more:?}");
        fixture.clock().advance(Duration::from_millis(2 * per_ms));
    }
    Ok(())
}

/// How many requests are made at once.
const CROWD: usize = 24;

async fn a_crowd_is_answered_as_if_one_by_one<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    for (round, (rate, per_ms)) in [(5, 7), (40, 3), (97, 60_000)].into_iter().enumerate() {
        let policy = policy(&*fixture, &format!("crowd-{round}"), rate, per_ms);
        let limiter = one_server(&*fixture, policy.clone());
        let mut model = Model::new(&policy);
        // The first call may have a connection to make and a script to load: nobody's order.
        peek(&limiter, "nobody").await?;
        for _ in 0..12 {
            let pause_us = rng.u64(0..3 * per_ms * 1_000 / u64::from(rate) * 2 + 2);
            fixture.clock().advance(Duration::from_micros(pause_us));
            let crowd: Vec<_> =
                (0..CROWD).map(|_| model::Step::in_a_crowd(&mut rng, rate)).collect();
            // All of them are under way before the first one is answered.
            let asked = crowd.iter().map(|step| model::ask(&limiter, step));
            let answers = futures::future::join_all(asked).await;
            let mut history = Vec::new();
            for (step, answer) in crowd.iter().zip(answers) {
                let expected = model.apply(step, fixture.clock().now());
                let actual = answer.map_err(failed)?;
                history.push(format!("{step:?}: {actual:?}"));
                if actual != expected {
                    let what = format!(
                        "{rate} per {per_ms} ms: one by one it is {expected:?}, in a crowd {actual:?}"
                    );
                    return Err(Broken::because(what).with_history(history));
                }
            }
        }
    }
    Ok(())
}

async fn agrees_with_the_model<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    for (round, (rate, per_ms)) in
        [(5, 7), (1, 1), (1_000, 3), (97, 60_000)].into_iter().enumerate()
    {
        let steps: Vec<_> = (0..150).map(|_| model::Step::random(&mut rng, rate, per_ms)).collect();
        let fixture = &*fixture;
        // Each time under another name, for what was counted under the first would be remembered.
        let mut times = 0;
        let mut play = |steps| {
            times += 1;
            let policy = policy(fixture, &format!("model-{round}-{times}"), rate, per_ms);
            as_the_model_says(fixture, policy, steps)
        };
        let Err(broken) = play(steps.clone()).await else { continue };
        let short = shrink::shortest(steps, |steps| play(steps).map(|kept| kept.is_err())).await;
        return Err(play(short).await.err().unwrap_or(broken));
    }
    Ok(())
}

/// Plays a history from [`EPOCH`] on; broken where a decision differs from the pure algorithm's.
async fn as_the_model_says<F: Fixture>(
    fixture: &F,
    policy: Policy,
    steps: Vec<model::Step>,
) -> Verdict {
    fixture.clock().set(EPOCH);
    let limiter = one_server(fixture, policy.clone());
    let mut model = Model::new(&policy);
    let mut history = Vec::new();
    for step in steps {
        fixture.clock().advance(step.pause());
        let now = fixture.clock().now();
        let expected = model.apply(&step, now);
        let actual = model::ask(&limiter, &step).await.map_err(failed)?;
        history.push(format!("at {} {step:?}: {actual:?}", now.0));
        if actual != expected {
            let LimitSpec { rate, per_ms, .. } = policy.limits()[0].spec();
            let what = format!(
                "{rate} per {per_ms} ms: the model says {expected:?}, the answer {actual:?}"
            );
            let recent = history.split_off(history.len().saturating_sub(8));
            return Err(Broken::because(what).with_history(recent));
        }
    }
    Ok(())
}
