//! One caller sends most of the traffic.

use std::sync::Arc;
use std::time::Duration;

use rate_limiter::store::memory::Memory;
use rate_limiter::{Key, Limiter, Store};

use super::{servers, token_bucket};
use measure::harness::{ClosedLoop, Keys, Outcome, Run, Shot};
use measure::units::rate;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "hot-key",
        asks: "One caller sends 90 % of the traffic. Does it slow everybody else down, and where \
               does it hurt first?",
        explanation: "In one Redis a hot key costs what any other key costs: commands run one \
            after the other anyway, and the state is one small value. What is spent is Redis's one \
            core, so the caller that is refused most costs as much as the one that is served. On a \
            cluster the hot caller's slot, and with it one node, becomes the limit. In process the \
            hot key keeps one lock of 64 busy. The way out is to stop asking: coalesce the checks \
            of one caller into one call, lease tokens to the servers, or remember a denial until \
            its retry_after.",
        run: |stage| Box::pin(run(stage)),
    }
}

const KEYS: u64 = 10_000;
const BURST: u32 = 50;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let redis = infra::redis().await?;
    stage
        .scene(format!("4 servers, one Redis {}, 100/s burst {BURST} per caller", redis.version()));
    let policy = token_bucket(100, 1_000, BURST);
    let through_redis = Arc::new(servers(redis.url(), &policy, 4)?);
    let in_process = Arc::new(vec![Arc::new(Memory::default().limiter(policy))]);
    let duration = Duration::from_secs(stage.pick(2, 10));
    let mut figures = Vec::new();
    for keys in [Keys::uniform(KEYS), Keys::hot(KEYS, 0.9)] {
        stage.load(format!("64 callers at a time, as fast as it goes: {}", keys.describe()));
        let load = ClosedLoop { workers: 64, duration, seed: stage.seed() };
        let run = load.run(op(&through_redis, keys)).await;
        let name = format!("Redis, {}", keys.describe());
        figures.push(observe(&stage, &name, &run));
        let run = load.run(op(&in_process, keys)).await;
        observe(&stage, &format!("in process, {}", keys.describe()), &run);
        let grant = through_redis[0].take_up_to(Key::new("somebody new")?, 2 * BURST).await?;
        let fair = grant.granted == BURST;
        stage.expect("somebody new gets the whole burst", fair, grant.granted);
        through_redis[0].refund(Key::new("somebody new")?, BURST).await?;
    }
    let (uniform, hot) = (figures[0], figures[1]);
    let ratio = hot / uniform;
    stage.expect("a hot key costs Redis no more than others", ratio > 0.7, format!("{ratio:.2}x"));
    stage.because(
        "Redis runs one script at a time whichever key it is for; its core is what is shared",
    );
    Ok(())
}

fn op<L: Limiter>(
    servers: &Arc<Vec<Arc<L>>>,
    keys: Keys,
) -> impl Fn(Shot) -> futures::future::BoxFuture<'static, Outcome> + Send + Sync + 'static + use<L>
{
    let servers = Arc::clone(servers);
    move |shot| {
        let server = Arc::clone(&servers[shot.n as usize % servers.len()]);
        Box::pin(async move {
            let name = format!("user:{}", keys.pick(&mut shot.rng()));
            let key = Key::new(&name).map_err(|_| "bad key")?;
            super::check(&*server, key).await
        })
    }
}

fn observe(stage: &Stage, name: &str, run: &Run) -> f64 {
    let per_s = run.achieved_per_s();
    stage.observe(name, format!("{} checks, {} allowed", rate(per_s), run.count("allowed")));
    per_s
}
