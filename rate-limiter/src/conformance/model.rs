//! The model: the pure algorithm over a map that never forgets. No lock, no eviction, no expiry,
//! no script; whatever an answer does beyond this must be invisible.

use std::collections::HashMap;
use std::time::Duration;

use crate::algorithm::{Algorithm, Micros, Wait};
use crate::limiter::{Decision, Error, Grant, Key, Limiter, Outcome, Source};
use crate::policy::{AnyAlgorithm, Policy};

/// One step of a random history.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pause_us: u64,
    caller: &'static str,
    op: Op,
    amount: u32,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Check,
    Peek,
    Take,
    Refund,
}

impl Step {
    pub(super) fn random(rng: &mut fastrand::Rng, rate: u32, per_ms: u64) -> Self {
        let per_us = per_ms * 1_000;
        // Forward only: an answer may forget a settled caller, which nobody can notice unless the
        // clock goes backwards, and that has a promise of its own.
        let pause_us = match rng.u8(0..20) {
            0..10 => rng.u64(0..per_us / u64::from(rate) + 2),
            10..16 => rng.u64(0..per_us),
            16..18 => rng.u64(0..5 * per_us),
            _ => 0,
        };
        let op = match rng.u8(0..10) {
            0..6 => Op::Check,
            6 => Op::Peek,
            7..9 => Op::Take,
            _ => Op::Refund,
        };
        let caller = if rng.bool() { "a" } else { "b" };
        Self { pause_us, caller, op, amount: rng.u32(0..=rate + rate / 4 + 1) }
    }

    /// Mostly checks of one, of few callers: what a crowd consists of.
    pub(super) fn in_a_crowd(rng: &mut fastrand::Rng, rate: u32) -> Self {
        let (op, amount) = match rng.u8(0..20) {
            0..13 => (Op::Check, 1),
            13..15 => (Op::Check, rng.u32(0..=rate + 1)),
            15..17 => (Op::Take, rng.u32(0..=rate)),
            17 => (Op::Refund, rng.u32(0..=2)),
            _ => (Op::Peek, 1),
        };
        let caller = if rng.u8(0..4) == 0 { "b" } else { "a" };
        Self { pause_us: 0, caller, op, amount }
    }

    pub(super) fn pause(&self) -> Duration {
        Duration::from_micros(self.pause_us)
    }
}

/// Asks the answer under test.
pub(super) async fn ask<L: Limiter>(limiter: &L, step: &Step) -> Result<(Decision, u32), Error> {
    let key = Key::new(step.caller)?;
    Ok(match step.op {
        Op::Check => (limiter.check(key, step.amount).await?, 0),
        Op::Peek => (limiter.peek(key).await?, 0),
        Op::Take => {
            let Grant { granted, decision } = limiter.take_up_to(key, step.amount).await?;
            (decision, granted)
        }
        Op::Refund => (limiter.refund(key, step.amount).await?, 0),
    })
}

/// A single-limit policy, modelled.
pub(super) struct Model {
    limit: Box<dyn Modelled + Send>,
}

impl Model {
    pub(super) fn new(policy: &Policy) -> Self {
        let limit: Box<dyn Modelled + Send> = match policy.limits()[0].algorithm() {
            AnyAlgorithm::TokenBucket(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::Gcra(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::LeakyBucket(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::LeakyQueue(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::FixedWindow(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::SlidingLog(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::SlidingCounter(a) => Box::new(Callers::new(a)),
            AnyAlgorithm::Concurrency(a) => Box::new(Callers::new(a)),
        };
        Self { limit }
    }

    pub(super) fn apply(&mut self, step: &Step, now: Micros) -> (Decision, u32) {
        self.limit.apply(step, now)
    }
}

trait Modelled {
    fn apply(&mut self, step: &Step, now: Micros) -> (Decision, u32);
}

struct Callers<A: Algorithm> {
    algorithm: A,
    states: HashMap<&'static str, A::State>,
}

impl<A: Algorithm> Callers<A> {
    fn new(algorithm: A) -> Self {
        Self { algorithm, states: HashMap::new() }
    }

    fn state(&self, caller: &'static str, now: Micros) -> A::State {
        self.states.get(caller).cloned().unwrap_or_else(|| self.algorithm.fresh(now))
    }

    fn view(&self, wait: Wait, state: &A::State, now: Micros, delay_us: u64) -> Decision {
        let outcome = match wait {
            Wait::Now => Outcome::Allowed,
            Wait::After(us) => Outcome::Denied { retry_after: Duration::from_micros(us) },
            Wait::Never => Outcome::TooLarge,
        };
        let quota = self.algorithm.quota(state, now);
        let delay_us = if wait == Wait::Now { delay_us } else { 0 };
        let delay = Duration::from_micros(delay_us);
        Decision { outcome, limit_index: 0, quota, delay, source: Source::Store }
    }

    fn check(&mut self, caller: &'static str, now: Micros, cost: u32) -> Decision {
        let mut state = self.state(caller, now);
        let wait = self.algorithm.wait(&state, now, cost);
        let delay_us = self.algorithm.delay(&state, now);
        if wait == Wait::Now && cost > 0 {
            self.algorithm.charge(&mut state, now, cost);
            self.states.insert(caller, state.clone());
        }
        self.view(wait, &state, now, delay_us)
    }

    fn ask(&self, caller: &'static str, now: Micros, cost: u32) -> Decision {
        let state = self.state(caller, now);
        let wait = self.algorithm.wait(&state, now, cost);
        self.view(wait, &state, now, self.algorithm.delay(&state, now))
    }
}

impl<A: Algorithm> Modelled for Callers<A> {
    fn apply(&mut self, step: &Step, now: Micros) -> (Decision, u32) {
        let Step { caller, amount, .. } = *step;
        match step.op {
            Op::Check => (self.check(caller, now, amount), 0),
            Op::Peek => (self.ask(caller, now, 1), 0),
            Op::Take => {
                let available = self.algorithm.available(&self.state(caller, now), now);
                match available.min(amount) {
                    0 => (self.ask(caller, now, amount.min(1)), 0),
                    granted => (self.check(caller, now, granted), granted),
                }
            }
            Op::Refund => {
                if let Some(state) = self.states.get_mut(caller) {
                    self.algorithm.refund(state, now, amount);
                }
                (self.view(Wait::Now, &self.state(caller, now), now, 0), 0)
            }
        }
    }
}
