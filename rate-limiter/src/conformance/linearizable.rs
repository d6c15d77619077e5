//! Concurrent histories: whatever the servers answered must be explained by some order in which one
//! limiter, doing one thing at a time, would have answered the same.

use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::history::Recorder;
use testkit::linearizable::{Model, must_be_linearizable};
use testkit::seed::Seed;

use super::{Fixture, key, peek, policy};
use crate::limiter::Limiter;

/// Small, so that everybody fights for the last tokens.
const LIMIT: u32 = 9;
const SERVERS: usize = 3;
const TASKS_PER_SERVER: usize = 2;
const STEPS_PER_TASK: usize = 4;
const ROUNDS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Op {
    Check(u32),
    Take(u32),
    Refund(u32),
}

/// What was charged (for a check its cost or nothing), and what was left then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    charged: u32,
    remaining: u32,
}

/// While the clock stands still every algorithm is a counter that stops at its limit.
struct Counter;

impl Model for Counter {
    type Op = Op;
    type Ret = Answer;
    type State = u32;

    fn initial(&self) -> u32 {
        0
    }

    fn step(&self, used: &u32, op: &Op, answer: Option<&Answer>) -> Option<u32> {
        let left = LIMIT - used;
        let (charged, used) = match *op {
            Op::Check(cost) if cost <= left => (cost, used + cost),
            Op::Check(_) => (0, *used),
            Op::Take(most) => (most.min(left), used + most.min(left)),
            Op::Refund(cost) => (0, used.saturating_sub(cost)),
        };
        let expected = Answer { charged, remaining: LIMIT - used };
        answer.is_none_or(|answer| *answer == expected).then_some(used)
    }
}

pub(super) async fn concurrent_histories_are_linearizable<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    for round in 0..ROUNDS {
        let policy = policy(&*fixture, &format!("history-{round}"), LIMIT, 60_000);
        let servers: Vec<_> = fixture.servers(policy, SERVERS).into_iter().map(Arc::new).collect();
        for server in &servers {
            peek(&**server, "warm").await?; // Connected, and the script is there.
        }
        let history = Recorder::new();
        let mut tasks = tokio::task::JoinSet::new();
        for process in 0..SERVERS * TASKS_PER_SERVER {
            let server = Arc::clone(&servers[process % SERVERS]);
            let (history, rng) = (history.clone(), rng.fork());
            tasks.spawn(work(server, history, process as u64, rng));
        }
        while let Some(task) = tasks.join_next().await {
            task.map_err(|error| Broken::because(error.to_string()))?;
        }
        must_be_linearizable(&Counter, &history.history())?;
    }
    Ok(())
}

async fn work<L: Limiter>(
    server: Arc<L>,
    history: Recorder<Op, Answer>,
    process: u64,
    mut rng: fastrand::Rng,
) {
    for _ in 0..STEPS_PER_TASK {
        let op = match rng.u8(0..8) {
            0..5 => Op::Check(rng.u32(1..=3)),
            5..7 => Op::Take(rng.u32(1..=4)),
            _ => Op::Refund(rng.u32(1..=2)),
        };
        let pending = history.invoke(process, op);
        match perform(&*server, op).await {
            Ok(answer) => pending.ok(answer),
            Err(error) => pending.info(error),
        }
        tokio::task::yield_now().await;
    }
}

async fn perform<L: Limiter>(server: &L, op: Op) -> Result<Answer, crate::Error> {
    let caller = key("caller");
    let (charged, decision) = match op {
        Op::Check(cost) => {
            let decision = server.check(caller, cost).await?;
            (if decision.allowed() { cost } else { 0 }, decision)
        }
        Op::Take(most) => {
            let grant = server.take_up_to(caller, most).await?;
            (grant.granted, grant.decision)
        }
        Op::Refund(cost) => (0, server.refund(caller, cost).await?),
    };
    Ok(Answer { charged, remaining: decision.quota.remaining })
}
