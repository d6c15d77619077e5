//! One tenant is 90 % of the traffic, and there is more of it than calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rate_limiter::clock::Monotonic;
use rate_limiter::store::coalesced::CoalescedLimiter;
use rate_limiter::store::lease::{LEASE_TIME_DEFAULT, LeasedLimiter};
use rate_limiter::store::redis::RedisStore;
use rate_limiter::{Key, Limiter, Store};

use super::{PATIENT, token_bucket};
use measure::harness::{ClosedLoop, Keys, Shot};
use measure::units::rate;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "hot-tenant",
        asks: "One tenant is 90 % of the traffic. Redis has one core. How do you decide more \
               checks than Redis can run scripts, and stay exact?",
        explanation: "Stop asking once per check. While a call is in flight, the checks that come \
            wait in line, and the reply sends the whole line as one call: equal checks of one \
            tenant are charged with one partial grant, in the order in which they came, so the \
            answers are the ones that one call per check could have given. The hotter the key, the \
            more of its checks share a grant; there is no timer, so at low load nothing waits. \
            Leases go further: a node takes some of the tenant's tokens in advance and spends them \
            without asking. The sum stays exact, because what is leased is charged already, but a \
            token may be spent later than it was charged, and every denial is still asked for.",
        run: |stage| Box::pin(run(stage)),
    }
}

const TENANTS: u64 = 10_000;
const WORKERS: usize = 512;
const RATE: u32 = 20_000;
const BURST: u32 = 2_000;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let redis = infra::redis().await?;
    stage.scene(format!(
        "one server with {WORKERS} requests in flight, one Redis {}, {RATE}/s burst {BURST} per tenant",
        redis.version()
    ));
    let store = RedisStore::connect(redis.url(), PATIENT)?;
    let limiter = |name| -> anyhow::Result<_> {
        let limit = token_bucket(RATE, 1_000, BURST).limits()[0].spec().clone();
        let policy = rate_limiter::Policy::single(
            name,
            limit.algorithm,
            limit.rate,
            limit.per_ms,
            limit.burst,
        )?;
        Ok(store.limiter(policy))
    };
    let single = measure(&stage, "one call per check", limiter("single")?).await?;
    let coalesced = CoalescedLimiter::new(limiter("coalesced")?);
    let coalesced = measure(&stage, "coalesced", coalesced).await?;
    let leased = LeasedLimiter::new(
        CoalescedLimiter::new(limiter("leased")?),
        Arc::new(Monotonic::default()),
        LEASE_TIME_DEFAULT,
    );
    measure(&stage, "leased, and coalesced behind it", leased).await?;
    let ratio = coalesced / single;
    let promise = "coalescing decides at least twice as many checks";
    stage.expect(promise, ratio >= 2.0, format!("{ratio:.1}x"));
    stage.because("equal checks in line are one charge, and one script carries many tenants");
    Ok(())
}

/// Drives the limiter, checks what the hot tenant was given, and returns checks per second.
async fn measure<L: Limiter>(stage: &Stage, name: &str, limiter: L) -> anyhow::Result<f64> {
    let limiter = Arc::new(limiter);
    let keys = Keys::hot(TENANTS, 0.9);
    let duration = Duration::from_secs(stage.pick(2, 10));
    let load = ClosedLoop { workers: WORKERS, duration, seed: stage.seed() };
    stage.load(format!("{name}: as fast as it goes, {}", keys.describe()));
    let asked = Arc::clone(&limiter);
    let started = Instant::now();
    let run = load
        .run(move |shot: Shot| {
            let limiter = Arc::clone(&asked);
            async move {
                let tenant = keys.pick(&mut shot.rng());
                let tenant_name = format!("tenant:{tenant}");
                let key = Key::new(&tenant_name).map_err(|_| "bad key")?;
                let decision = limiter.check(key, 1).await.map_err(|_| "unavailable")?;
                Ok(match (tenant, decision.allowed()) {
                    (0, true) => "hot allowed",
                    (0, false) => "hot denied",
                    (_, true) => "other allowed",
                    (_, false) => "other denied",
                })
            }
        })
        .await;
    let elapsed_ms = started.elapsed().as_millis() as u64 + 1;
    let most = u64::from(BURST) + elapsed_ms * u64::from(RATE) / 1_000;
    let per_s = run.achieved_per_s();
    let admitted = run.count("hot allowed");
    stage.observe(name, format!("{} checks decided", rate(per_s)));
    let exact = admitted <= most && admitted > u64::from(BURST) && run.error_count() == 0;
    stage.expect(
        format!("{name}: the hot tenant gets its limit and not one more"),
        exact,
        format!("{admitted} admitted, at most {most} may be"),
    );
    let grant = limiter.take_up_to(Key::new("somebody new")?, 2 * BURST).await?;
    let fair = grant.granted == BURST;
    stage.expect(format!("{name}: somebody new has the whole burst"), fair, grant.granted);
    Ok(per_s)
}
