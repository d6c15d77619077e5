//! The call that carries many callers: see `lua/batch.lua`.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::{Cmd, FromRedisValue};

use super::{Receipt, RedisLimiter, unavailable, view};
use crate::coalesce::{Caller, Run, Shared};
use crate::limiter::{Error, Key};

/// For each caller of a call what its runs see, or why nobody knows.
pub(in crate::store) type Replies = Vec<Reply>;
/// For each run of one caller what it sees.
pub(in crate::store) type Reply = Result<Vec<Shared>, Arc<Error>>;

impl RedisLimiter {
    /// Decides all requests of `callers`, those of one slot in one atomic step, and returns for
    /// each caller what its runs see. They may be told once the receipts are
    /// [confirmed](Self::confirm).
    ///
    /// # Errors
    /// Per caller: [`Error::Unavailable`] when no whole reply came for its step. All requests of
    /// the step were charged, or none.
    pub(in crate::store) async fn batch<T>(
        &self,
        callers: &[Caller<T>],
    ) -> (Replies, Vec<Receipt>) {
        if !self.is_clustered() {
            return self.step_of(callers.iter().collect()).await;
        }
        let mut steps: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (index, caller) in callers.iter().enumerate() {
            steps.entry(self.slot(&caller.key)).or_default().push(index);
        }
        let of = |step: &Vec<usize>| step.iter().map(|&index| &callers[index]).collect();
        let under_way = steps.values().map(|step| self.step_of(of(step)));
        let (replies, receipts): (Vec<_>, Vec<_>) =
            futures::future::join_all(under_way).await.into_iter().unzip();
        let order = steps.into_values().flatten();
        let mut sorted: Vec<_> = order.zip(replies.into_iter().flatten()).collect();
        sorted.sort_unstable_by_key(|(index, _)| *index);
        let replies = sorted.into_iter().map(|(_, reply)| reply).collect();
        (replies, receipts.into_iter().flatten().collect())
    }

    async fn step_of<T>(&self, callers: Vec<&Caller<T>>) -> (Replies, Vec<Receipt>) {
        match self.step_reply(&callers).await {
            Ok((shared, receipt)) => (shared.into_iter().map(Ok).collect(), vec![receipt]),
            Err(error) => {
                let error = Arc::new(error);
                (callers.iter().map(|_| Err(Arc::clone(&error))).collect(), Vec::new())
            }
        }
    }

    async fn step_reply<T>(
        &self,
        callers: &[&Caller<T>],
    ) -> Result<(Vec<Vec<Shared>>, Receipt), Error> {
        let quick = self.one_word.as_ref().zip(self.common_cost(callers));
        let (script, (call, key)) = match quick {
            Some((script, cost)) => (script, self.one_word_call(script, callers, cost)?),
            None => (&self.batch, self.batch_call(callers)?),
        };
        let (reply, receipt) = self.store.call(script, call, &key).await?;
        let reply =
            Vec::<i64>::from_redis_value(reply).map_err(|error| unavailable(error.into()))?;
        let mut numbers = reply.into_iter();
        let mut of_run = |run: &Run| match quick {
            Some(_) => self.one_word_shared(run, &mut numbers),
            None => shared(run, &mut (&mut numbers).map(|number| number as u64)),
        };
        let of = |caller: &&Caller<T>| caller.runs.iter().map(&mut of_run).collect();
        let whole = callers.iter().map(of).collect::<Option<_>>();
        whole.map(|replies| (replies, receipt)).ok_or_else(|| {
            let what = "a reply cut short";
            Error::Unavailable { what: what.to_owned(), source: Some(what.into()) }
        })
    }

    /// The call, and one of its keys.
    fn batch_call<T>(&self, callers: &[&Caller<T>]) -> Result<(Cmd, String), Error> {
        let limits = self.policy.limits();
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.batch.get_hash()).arg(callers.len() * limits.len());
        let mut one = String::new();
        for caller in callers {
            for key in self.state_keys(Key::new(&caller.key)?) {
                call.arg(&key);
                one = key;
            }
        }
        call.arg(limits.len());
        for parameters in &self.parameters {
            call.arg(&parameters[..]);
        }
        for caller in callers {
            call.arg(caller.runs.len());
            for Run { op, cost, count } in &caller.runs {
                call.arg(op.as_str()).arg(cost).arg(count);
            }
        }
        Ok((call, one))
    }
}

/// Reads the reply to one run; `None` when it is not all there.
fn shared(run: &Run, numbers: &mut impl Iterator<Item = u64>) -> Option<Shared> {
    let allowed = u32::try_from(numbers.next()?).ok()?;
    let mut read = || {
        let mut reply = [0; 7];
        for number in &mut reply {
            *number = numbers.next()?;
        }
        Some(view(reply, numbers.next()?))
    };
    let mut shared = Shared { allowed, ..Shared::default() };
    if allowed > 0 {
        shared.last = read()?;
    }
    if allowed < run.count {
        shared.others = read()?;
    }
    Some(shared)
}
