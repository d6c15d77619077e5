//! The quickest call there is: checks of one cost against a GCRA limit whose state is one number.
//!
//! GCRA remembers the moment at which a caller has everything back. Where the rate's interval is a
//! whole number of microseconds that moment is one integer, so a script reads the states of all
//! callers with one `MGET`, and charges one with an addition. It returns the new state, and what a
//! caller sees of it is worked out here. `lua/batch_one_word.lua` is the other half.

use redis::{Cmd, Script};

use super::RedisLimiter;
use crate::coalesce::{Caller, Op, Run, Shared, View};
use crate::limiter::{Error, Key};
use crate::policy::{AlgorithmName, Policy};

/// Whether a caller's whole state is one whole number of microseconds.
pub(super) fn counts_in_one_word(policy: &Policy) -> bool {
    let [limit] = policy.limits() else { return false };
    limit.spec().algorithm == AlgorithmName::Gcra && limit.ratio().units_per_us == 1
}

impl RedisLimiter {
    /// What every request of a call costs, if they are all checks that cost the same and can
    /// succeed: the only ones the quick script knows.
    pub(super) fn common_cost<T>(&self, callers: &[&Caller<T>]) -> Option<u32> {
        let cost = callers.first()?.runs.first()?.cost;
        let burst = self.policy.limits()[0].burst();
        let alike = |caller: &&Caller<T>| matches!(caller.runs[..], [Run { op: Op::Check, cost: same, .. }] if same == cost);
        ((1..=burst).contains(&cost) && callers.iter().all(alike)).then_some(cost)
    }

    /// The call, and one of its keys.
    pub(super) fn one_word_call<T>(
        &self,
        script: &Script,
        callers: &[&Caller<T>],
        cost: u32,
    ) -> Result<(Cmd, String), Error> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(callers.len());
        let mut one = Vec::new();
        for caller in callers {
            one = self.state_keys(Key::new(&caller.key)?);
            call.arg(&one[..]);
        }
        let counts = || callers.iter().map(|caller| caller.runs[0].count);
        // What is not said need not be read: most callers have one check in a call.
        let told = counts().rposition(|count| count > 1).map_or(0, |last| last + 1);
        call.arg(&self.parameters[0][..]).arg(cost).arg(told);
        for count in counts().take(told) {
            call.arg(count);
        }
        Ok((call, one.pop().unwrap_or_default()))
    }

    /// What one caller's run sees; `None` when the reply is not all there.
    pub(super) fn one_word_shared(
        &self,
        run: &Run,
        numbers: &mut impl Iterator<Item = i64>,
    ) -> Option<Shared> {
        let (allowed, settles_us) = match numbers.next()? {
            settles_us @ 0.. => (run.count, settles_us),
            fewer => (u32::try_from(-1 - fewer).ok()?, numbers.next()?),
        };
        let (cost, settles_us) = (run.cost, settles_us as u64);
        let limit = &self.policy.limits()[0];
        let (rate, capacity_us) = (limit.ratio(), limit.ratio().units(limit.burst()));
        let remaining = rate.tokens(capacity_us.saturating_sub(settles_us));
        let last = View { remaining, settles_us, granted: cost, ..View::default() };
        // One more fits once so much has come back that its charge does.
        let wait_us = (settles_us + rate.units(cost)).saturating_sub(capacity_us);
        let others = View { outcome: 1, wait_us, granted: 0, ..last };
        Some(Shared { allowed, last, others })
    }
}
