//! What a rate-limiter service promises over HTTP, in real time.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};

use super::wire::{Answer, Wire, at_once, count, refuses_nonsense};

/// In the order in which an interviewer would probe.
pub(super) fn promises() -> Vec<Promise<Wire>> {
    promises! { Wire;
        a_caller_has_the_quota_and_not_one_more => "A caller never seen can take the limit, and not one more.",
        callers_are_independent => "What one caller takes, no other one misses.",
        a_denial_says_when_to_come_back => "429 has Retry-After and retry_after_ms, and they agree.",
        who_waits_as_told_is_served => "After retry_after_ms the same request succeeds.",
        a_crowd_gets_the_limit_exactly => "Of 64 requests at once as many pass as the limit says.",
        a_cost_beyond_the_limit_is_told_apart => "What can never be granted carries no Retry-After.",
        partial_grants_take_what_is_there => "take grants the smaller of what is asked for and what is left.",
        refunds_never_exceed_the_limit => "A refund gives back what was charged and never more.",
        bad_input_is_named => "A wrong field is a 4xx problem that names it.",
    }
}

/// A policy of this run with a bucket of `rate` per `per_ms`.
async fn policy(wire: &Wire, of: &str, rate: u32, per_ms: u64) -> Result<String, Broken> {
    let name = wire.name(of);
    let limit = json!({"algorithm": "token-bucket", "rate": rate, "per_ms": per_ms});
    let path = format!("/v1/policies/{name}");
    let answer = wire.send(Method::PUT, &path, &[], &json!({"limits": [limit]})).await?;
    ensure!([200, 201].contains(&answer.status), "a policy could not be put: {answer}");
    Ok(name)
}

async fn check(wire: &Wire, policy: &str, key: &str, cost: u32) -> Result<Answer, Broken> {
    wire.post("/v1/check", json!({"policy": policy, "key": key, "cost": cost})).await
}

/// Takes everything there is; how much it was.
async fn exhaust(wire: &Wire, policy: &str, key: &str) -> Result<u32, Broken> {
    for taken in 0..200 {
        if check(wire, policy, key, 1).await?.status != 200 {
            return Ok(taken);
        }
    }
    Err(Broken::because("200 requests were admitted at once; the limit is far lower"))
}

async fn a_caller_has_the_quota_and_not_one_more(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "quota", 5, 60_000).await?;
    let first = check(&wire, &policy, "ann", 1).await?.is(200)?.json()?;
    ensure!(first["allowed"] == true && first["remaining"] == 4, "the first of 5 said {first}");
    let taken = 1 + exhaust(&wire, &policy, "ann").await?;
    ensure!(taken == 5, "{taken} of 5 were admitted");
    check(&wire, &policy, "ann", 1).await?.is(429)?;
    Ok(())
}

async fn callers_are_independent(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "alone", 5, 60_000).await?;
    exhaust(&wire, &policy, "ann").await?;
    let taken = exhaust(&wire, &policy, "bob").await?;
    ensure!(taken == 5, "after ann had used up hers, bob could take {taken} of 5");
    Ok(())
}

async fn a_denial_says_when_to_come_back(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "wait", 1, 2_500).await?;
    exhaust(&wire, &policy, "ann").await?;
    let denied = check(&wire, &policy, "ann", 1).await?.is(429)?;
    let body = denied.json()?;
    let ms = body["retry_after_ms"].as_u64().unwrap_or(0);
    ensure!((1..=2_500).contains(&ms), "1 per 2,500 ms, retry_after_ms is {body}");
    let header: u64 = denied.header("retry-after").parse().unwrap_or(0);
    ensure!(header == ms.div_ceil(1_000), "{ms} ms are told as Retry-After: {header}: {denied}");
    Ok(())
}

async fn who_waits_as_told_is_served(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "served", 1, 300).await?;
    exhaust(&wire, &policy, "ann").await?;
    for round in 0..3 {
        let denied = check(&wire, &policy, "ann", 1).await?.is(429)?.json()?;
        let ms = denied["retry_after_ms"].as_u64().unwrap_or(0);
        ensure!((1..=300).contains(&ms), "round {round}: 1 per 300 ms, wait {denied}");
        tokio::time::sleep(Duration::from_millis(ms)).await;
        check(&wire, &policy, "ann", 1).await?.is(200)?;
    }
    Ok(())
}

async fn a_crowd_gets_the_limit_exactly(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "crowd", 20, 600_000).await?;
    let answers = at_once(64, |_| check(&wire, &policy, "ann", 1)).await?;
    let (passed, denied) = (count(&answers, 200), count(&answers, 429));
    ensure!(
        passed == 20 && denied == 44,
        "64 at once: {passed} passed a limit of 20, {denied} not"
    );
    Ok(())
}

async fn a_cost_beyond_the_limit_is_told_apart(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "never", 5, 60_000).await?;
    let answer = check(&wire, &policy, "ann", 6).await?;
    ensure!((400..500).contains(&answer.status), "6 of 5 were granted: {answer}");
    let told = answer.json()?.get("retry_after_ms").cloned().unwrap_or(Value::Null);
    ensure!(
        told.is_null() && answer.header("retry-after").is_empty(),
        "waiting won't help: {answer}"
    );
    let taken = exhaust(&wire, &policy, "ann").await?;
    ensure!(taken == 5, "the request that could never pass was charged: {taken} of 5 are left");
    Ok(())
}

async fn partial_grants_take_what_is_there(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "take", 5, 600_000).await?;
    let take = |at_most: u32| {
        wire.post("/v1/take", json!({"policy": policy, "key": "ann", "at_most": at_most}))
    };
    let granted = take(3).await?.is(200)?.json()?;
    ensure!(granted["granted"] == 3, "3 of 5 were asked for: {granted}");
    let granted = take(8).await?.is(200)?.json()?;
    ensure!(granted["granted"] == 2, "8 were asked for and 2 are left: {granted}");
    take(1).await?.is(429)?;
    Ok(())
}

async fn refunds_never_exceed_the_limit(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "refund", 5, 600_000).await?;
    check(&wire, &policy, "ann", 4).await?.is(200)?;
    let refund =
        |cost: u32| wire.post("/v1/refund", json!({"policy": policy, "key": "ann", "cost": cost}));
    let back = refund(3).await?.is(200)?.json()?;
    ensure!(back["remaining"] == 4, "4 charged and 3 back of 5: {back}");
    refund(1_000).await?.is(200)?;
    let taken = exhaust(&wire, &policy, "ann").await?;
    ensure!(taken == 5, "after too large a refund {taken} of 5 could be taken");
    Ok(())
}

async fn bad_input_is_named(wire: Arc<Wire>) -> Verdict {
    let policy = policy(&wire, "input", 5, 60_000).await?;
    let empty = check(&wire, &policy, "", 1).await?;
    ensure!((400..500).contains(&empty.status), "an empty key: {empty}");
    empty.names("key")?;
    let unknown = check(&wire, &wire.name("nobody-put-this"), "ann", 1).await?.is(404)?;
    unknown.names("policy")?;
    refuses_nonsense(&wire, "/v1/check").await
}
