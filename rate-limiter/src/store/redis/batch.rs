//! The call that carries many callers: see `lua/batch.lua`.

use redis::{Cmd, FromRedisValue};

use super::{RedisLimiter, ScriptClock, state_key, unavailable, view};
use crate::clock::Clock;
use crate::coalesce::{Caller, Run, Shared};
use crate::limiter::{Error, Key};

impl RedisLimiter {
    /// Decides all requests of `callers` in one atomic step and returns, for each caller and run,
    /// what they see.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no whole reply came: all of them were charged, or none.
    pub(in crate::store) async fn batch<T>(
        &self,
        callers: &[Caller<T>],
    ) -> Result<Vec<Vec<Shared>>, Error> {
        let call = self.batch_call(callers)?;
        let reply = self.store.call(&self.batch, &call).await?;
        let reply =
            Vec::<i64>::from_redis_value(reply).map_err(|error| unavailable(error.into()))?;
        let mut numbers = reply.into_iter().map(|number| number as u64);
        callers
            .iter()
            .map(|caller| caller.runs.iter().map(|run| shared(run, &mut numbers)).collect())
            .collect::<Option<_>>()
            .ok_or_else(|| Error::Unavailable { what: "a reply cut short".into(), source: None })
    }

    fn batch_call<T>(&self, callers: &[Caller<T>]) -> Result<Cmd, Error> {
        let limits = self.policy.limits();
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.batch.get_hash()).arg(callers.len() * limits.len());
        for caller in callers {
            let key = Key::new(&caller.key)?;
            for limit in limits {
                call.arg(state_key(&self.policy, limit, key));
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
        if let ScriptClock::Injected(clock) = &self.store.clock {
            call.arg(clock.now().0);
        }
        Ok(call)
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
