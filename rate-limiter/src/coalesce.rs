//! Coalescing, as pure functions: many waiting requests become one call, and the reply to the call
//! becomes one answer for each of them.
//!
//! Requests of one caller stay in the order in which they came. Equal checks in a row form a
//! [`Run`] that is charged with one grant: of n checks that cost c each, the first
//! `available / c` are allowed and the others denied, which is what would have happened one by
//! one. A large cost is a run of its own in its place in the line, so small ones cannot slip past
//! it, and what one request is given no other one is given too.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use compact_str::CompactString;

use crate::limiter::{Decision, Outcome, Quota, Source};
use crate::policy::{AlgorithmName, Limit};

/// Callers in one call. A script of this many takes Redis some two hundred microseconds, during
/// which everybody else waits; half as many are a sixth slower.
pub const CALLERS_PER_CALL_MAX: usize = 128;
/// Requests in one call; bounds what one failed call takes down with it.
pub const REQUESTS_PER_CALL_MAX: usize = 4_096;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// [`check`](crate::Limiter::check)
    Check,
    /// [`peek`](crate::Limiter::peek)
    Peek,
    /// [`take_up_to`](crate::Limiter::take_up_to)
    Take,
    /// [`refund`](crate::Limiter::refund)
    Refund,
}

impl Op {
    /// Its name in the scripts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Peek => "peek",
            Self::Take => "take",
            Self::Refund => "refund",
        }
    }
}

/// A request that waits for a call; `reply` is whatever its answer is sent through.
#[derive(Debug)]
pub struct Waiter<T> {
    /// The caller.
    pub key: CompactString,
    /// What it wants.
    pub op: Op,
    /// For how much.
    pub cost: u32,
    /// Where its answer goes.
    pub reply: T,
}

/// Equal requests of one caller, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What each of them wants.
    pub op: Op,
    /// For how much.
    pub cost: u32,
    /// How many they are.
    pub count: u32,
}

/// One caller's part of a call.
#[derive(Debug)]
pub struct Caller<T> {
    /// The caller.
    pub key: CompactString,
    /// Its requests, in the order in which they came.
    pub runs: Vec<Run>,
    /// Where their answers go, in the same order.
    pub replies: Vec<T>,
}

/// Takes the requests that go into the next call from the front of the line: everything up to the
/// first request that would exceed a bound. Those that nobody waits for any more are dropped. With
/// `shares`, equal checks in a row become one run.
pub fn pack<T>(
    line: &mut VecDeque<Waiter<T>>,
    shares: bool,
    is_awaited: impl Fn(&T) -> bool,
) -> Vec<Caller<T>> {
    let mut callers: Vec<Caller<T>> = Vec::new();
    let mut places: HashMap<CompactString, usize, foldhash::fast::RandomState> = HashMap::default();
    for _ in 0..REQUESTS_PER_CALL_MAX {
        let Some(next) = line.front() else { break };
        if !is_awaited(&next.reply) {
            line.pop_front();
            continue;
        }
        let same_as_last = callers.last().filter(|last| last.key == next.key);
        let place = match same_as_last {
            Some(_) => Some(callers.len() - 1),
            None => places.get(&next.key).copied(),
        };
        if place.is_none() && callers.len() == CALLERS_PER_CALL_MAX {
            break;
        }
        let Some(Waiter { key, op, cost, reply }) = line.pop_front() else { break };
        let place = place.unwrap_or_else(|| {
            places.insert(key.clone(), callers.len());
            callers.push(Caller { key, runs: Vec::new(), replies: Vec::new() });
            callers.len() - 1
        });
        callers[place].join(op, cost, reply, shares);
    }
    callers
}

impl<T> Caller<T> {
    fn join(&mut self, op: Op, cost: u32, reply: T, shares: bool) {
        let shares = shares && op == Op::Check && cost > 0;
        match self.runs.last_mut() {
            Some(run) if shares && run.op == op && run.cost == cost => run.count += 1,
            _ => self.runs.push(Run { op, cost, count: 1 }),
        }
        self.replies.push(reply);
    }
}

/// What a script says about one request, and by how many units it rounded `settles_after` up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    pub(crate) outcome: u64,
    pub(crate) limit_index: usize,
    pub(crate) remaining: u32,
    pub(crate) wait_us: u64,
    pub(crate) settles_us: u64,
    pub(crate) delay_us: u64,
    pub(crate) granted: u32,
    pub(crate) rounding: u64,
}

impl View {
    /// The decision and what was granted.
    pub(crate) fn decision(&self, limits: &[Limit]) -> (Decision, u32) {
        let outcome = match self.outcome {
            0 => Outcome::Allowed,
            1 => Outcome::Denied { retry_after: Duration::from_micros(self.wait_us) },
            _ => Outcome::TooLarge,
        };
        let quota = Quota {
            limit: limits[self.limit_index].burst(),
            remaining: self.remaining,
            reset_after: Duration::from_micros(self.settles_us),
        };
        let (limit_index, delay) = (self.limit_index, Duration::from_micros(self.delay_us));
        (Decision { outcome, limit_index, quota, delay, source: Source::Store }, self.granted)
    }
}

/// The reply to a run: the first `allowed` of it were allowed, `last` is what the last of those
/// sees, `others` what everybody after them sees.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) allowed: u32,
    pub(crate) last: View,
    pub(crate) others: View,
}

impl Shared {
    /// What request `index` of the run sees: counted back from the last one that was allowed.
    /// Each charge between them took `cost` tokens, exactly; only the time at which the quota is
    /// whole again was rounded, and `rounding` says by how much.
    pub(crate) fn view(&self, index: u32, run: Run, limit: &Limit) -> View {
        if index >= self.allowed {
            return self.others;
        }
        let after_us = |back: u32| {
            if !limit.spec().algorithm.has_burst() || back == 0 {
                return self.last.settles_us;
            }
            let rate = limit.ratio();
            let earlier = self.last.rounding + rate.units(back * run.cost);
            self.last.settles_us.saturating_sub(earlier / rate.units_per_us)
        };
        let back = self.allowed - 1 - index;
        let queues = limit.spec().algorithm == AlgorithmName::LeakyQueue;
        View {
            remaining: self.last.remaining + back * run.cost,
            settles_us: after_us(back),
            // A queue holds each request back for the work that was ahead of it.
            delay_us: if index > 0 && queues { after_us(back + 1) } else { self.last.delay_us },
            ..self.last
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(requests: &[(&str, Op, u32)]) -> VecDeque<Waiter<usize>> {
        let waiter = |(reply, &(key, op, cost)): (usize, &(&str, Op, u32))| Waiter {
            key: key.into(),
            op,
            cost,
            reply,
        };
        requests.iter().enumerate().map(waiter).collect()
    }

    #[test]
    fn equal_checks_in_a_row_share_and_nobody_is_overtaken() {
        use Op::{Check, Take};
        let requests = [
            ("a", Check, 1),
            ("b", Check, 1),
            ("a", Check, 1),
            ("a", Check, 5),
            ("a", Check, 1),
            ("a", Take, 1),
            ("a", Take, 1),
        ];
        let callers = pack(&mut line(&requests), true, |_| true);
        let run = |op, cost, count| Run { op, cost, count };
        assert_eq!(callers.len(), 2);
        assert_eq!(
            callers[0].runs,
            [
                run(Check, 1, 2),
                run(Check, 5, 1),
                run(Check, 1, 1),
                run(Take, 1, 1),
                run(Take, 1, 1)
            ]
        );
        assert_eq!(callers[0].replies, [0, 2, 3, 4, 5, 6]);
        assert_eq!(callers[1].replies, [1]);
        let apart = pack(&mut line(&requests), false, |_| true);
        assert!(apart.iter().flat_map(|caller| &caller.runs).all(|run| run.count == 1));
    }

    #[test]
    fn a_call_is_bounded_and_the_rest_keeps_its_place() {
        let names: Vec<String> = (0..CALLERS_PER_CALL_MAX + 3).map(|n| format!("k{n}")).collect();
        let requests: Vec<_> = names.iter().map(|name| (name.as_str(), Op::Check, 1)).collect();
        let mut line = line(&requests);
        assert_eq!(pack(&mut line, true, |_| true).len(), CALLERS_PER_CALL_MAX);
        let rest: Vec<_> = line.iter().map(|waiter| &*waiter.key).collect();
        assert_eq!(rest, ["k128", "k129", "k130"]);
        let awaited = pack(&mut line, true, |&reply| reply != CALLERS_PER_CALL_MAX + 1);
        assert_eq!(awaited.iter().map(|caller| &*caller.key).collect::<Vec<_>>(), ["k128", "k130"]);
    }
}
