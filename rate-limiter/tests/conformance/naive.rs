//! The token bucket as a candidate writes it, right when nothing is switched on, and every
//! mistake we have seen candidates (and shipped libraries) make, one switch each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rate_limiter::algorithm::rate::Rate;
use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::{EPOCH, Fixture};
use rate_limiter::{
    AlgorithmName, Decision, Error, Grant, Key, Limiter, Outcome, Policy, Quota, Source,
};

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Bug {
        TwoStepReadThenWrite => concurrent_callers_share_one_quota,
        EachServerCountsAlone => servers_agree_on_the_time,
        OneBucketForEverybody => callers_are_independent,
        ChargesDenials => a_denial_changes_nothing,
        DoubleBurstAtTheWindowEdge => never_admits_more_than_the_bound,
        IdlersSaveUp => never_admits_more_than_the_bound,
        IdleDebtClampedToTheBurst => never_admits_more_than_the_bound,
        FloatDrift => agrees_with_the_model,
        RoundsTheIntervalUp => agrees_with_the_model,
        RefillOnEviction => a_flood_of_callers_gives_nobody_a_fresh_quota,
        ClientClock => servers_agree_on_the_time,
        ClockGoingBackwardsRefills => time_going_backwards_admits_nothing,
        ExpiresTooEarly => never_admits_more_than_the_bound,
        RetryAfterInWholeSeconds => steady_demand_is_not_starved,
        RemainingBeforeTheCharge => remaining_is_honest,
        TooLargeIsToldToRetry => a_cost_beyond_the_limit_is_never_possible,
        ChargesPartially => limits_are_all_or_nothing,
        RefundsBeyondTheLimit => refunds_never_exceed_the_limit,
        GrantsMoreThanIsThere => partial_grants_take_what_is_there,
        DenyCacheWithoutGeneration => a_refund_ends_a_denial,
    }
}

/// The fixture.
pub(crate) struct Naive {
    clock: Arc<ManualClock>,
    bug: Option<Bug>,
}

impl Naive {
    pub(crate) fn with(bug: Option<Bug>) -> Self {
        Self { clock: Arc::new(ManualClock::at(EPOCH)), bug }
    }
}

impl Fixture for Naive {
    type Limiter = NaiveLimiter;

    fn algorithm(&self) -> AlgorithmName {
        AlgorithmName::TokenBucket
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<NaiveLimiter> {
        let shared = Arc::new(Mutex::new(HashMap::new()));
        let server = |index| NaiveLimiter {
            policy: policy.clone(),
            clock: Arc::clone(&self.clock),
            skew_us: if self.bug == Some(Bug::ClientClock) { index as u64 * 10_000 } else { 0 },
            bug: self.bug,
            buckets: match self.bug {
                Some(Bug::EachServerCountsAlone) => Arc::default(),
                _ => Arc::clone(&shared),
            },
            touched: AtomicUsize::new(0),
            denied: Mutex::default(),
        };
        (0..count).map(server).collect()
    }
}

/// A bucket: units in it, as of when.
type Bucket = (u64, u64);

pub(crate) struct NaiveLimiter {
    policy: Policy,
    clock: Arc<ManualClock>,
    skew_us: u64,
    bug: Option<Bug>,
    buckets: Arc<Mutex<HashMap<(usize, String), Bucket>>>,
    touched: AtomicUsize,
    /// Until when which caller was denied which cost; only for the bug that never forgets it.
    denied: Mutex<HashMap<(String, u32), u64>>,
}

/// How one limit stands for one caller.
struct Standing {
    units: u64,
    as_of: u64,
    capacity: u64,
    rate: Rate,
    behind_us: u64,
}

impl Standing {
    fn wait_us(&self, cost: u32) -> u64 {
        match self.rate.units(cost).saturating_sub(self.units) {
            0 => 0,
            missing => self.behind_us + self.rate.time_for(missing),
        }
    }

    fn quota(&self, burst: u32) -> Quota {
        let missing = self.capacity.saturating_sub(self.units);
        let behind_us = if missing == 0 { 0 } else { self.behind_us };
        Quota {
            limit: burst,
            remaining: self.rate.tokens(self.units),
            reset_after: Duration::from_micros(behind_us + self.rate.time_for(missing)),
        }
    }
}

impl NaiveLimiter {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn slot(&self, index: usize, key: Key<'_>) -> (usize, String) {
        let one_for_all = self.has(Bug::OneBucketForEverybody);
        (index, if one_for_all { String::new() } else { key.as_str().to_owned() })
    }

    /// Reads the caller's bucket and refills it on paper.
    fn standing(&self, index: usize, key: Key<'_>) -> Standing {
        let limit = &self.policy.limits()[index];
        let spec = limit.spec();
        let rate = match self.bug {
            Some(Bug::RoundsTheIntervalUp) => {
                Rate::new(1, (spec.per_ms * 1_000).div_ceil(u64::from(spec.rate)))
            }
            _ => limit.ratio(),
        };
        let capacity = rate.units(limit.burst());
        let now = self.clock.now().0 + self.skew_us;
        let mut stored = self.buckets.lock().unwrap().get(&self.slot(index, key)).copied();
        if self.has(Bug::ExpiresTooEarly)
            && stored.is_some_and(|(_, as_of)| now.saturating_sub(as_of) >= 1_000)
        {
            stored = None; // A time to live in whole milliseconds, rounded down.
        }
        let (units, as_of) = stored.unwrap_or((capacity, now));
        let units = self.refilled(units, as_of, now, rate, capacity, spec.per_ms * 1_000);
        Standing {
            units,
            as_of: as_of.max(now),
            capacity,
            rate,
            behind_us: as_of.saturating_sub(now),
        }
    }

    fn refilled(
        &self,
        units: u64,
        as_of: u64,
        now: u64,
        rate: Rate,
        capacity: u64,
        per_us: u64,
    ) -> u64 {
        let elapsed_us = match self.bug {
            Some(Bug::ClockGoingBackwardsRefills) => now.abs_diff(as_of),
            _ => now.saturating_sub(as_of),
        };
        let room = capacity.saturating_sub(units);
        match self.bug {
            Some(Bug::DoubleBurstAtTheWindowEdge) if now / per_us != as_of / per_us => capacity,
            Some(Bug::DoubleBurstAtTheWindowEdge) => units,
            Some(Bug::IdlersSaveUp) => units + rate.accrued(elapsed_us, 4 * capacity),
            // throttlecrab 0.4.40: a long idle caller is treated as owed a burst on top.
            Some(Bug::IdleDebtClampedToTheBurst) if elapsed_us > 2 * per_us => 2 * capacity - 1,
            Some(Bug::FloatDrift) => {
                let tokens = units as f32 / rate.units_per_token as f32
                    + elapsed_us as f32 * rate.units_per_us as f32 / rate.units_per_token as f32;
                ((tokens * rate.units_per_token as f32) as u64).min(capacity)
            }
            _ => units + rate.accrued(elapsed_us, room),
        }
    }

    fn write(&self, index: usize, key: Key<'_>, standing: &Standing, units: u64) {
        let mut buckets = self.buckets.lock().unwrap();
        buckets.insert(self.slot(index, key), (units, standing.as_of));
        let crowded = self.touched.fetch_add(1, Ordering::Relaxed) > 1_000;
        if self.has(Bug::RefillOnEviction) && crowded {
            buckets.retain(|(_, caller), _| caller == key.as_str());
        }
    }

    fn decide(&self, key: Key<'_>, cost: u32, standings: &[Standing]) -> Decision {
        let _ = key;
        let bursts = self.policy.limits().iter().map(|limit| limit.burst());
        let ranked = standings.iter().zip(bursts).enumerate().map(|(index, (standing, burst))| {
            let never = cost > burst && !self.has(Bug::TooLargeIsToldToRetry);
            let wait_us = standing.wait_us(cost);
            let rank = match (never, wait_us) {
                (true, _) => (2, 0),
                (false, 0) => (0, u64::from(u32::MAX - standing.quota(burst).remaining)),
                (false, us) => (1, us),
            };
            (rank, std::cmp::Reverse(index), standing.quota(burst))
        });
        let ((kind, wait_us), index, quota) =
            ranked.max_by_key(|&(rank, index, _)| (rank, index)).expect("a limit");
        let mut retry_after = Duration::from_micros(wait_us);
        if self.has(Bug::RetryAfterInWholeSeconds) {
            retry_after = Duration::from_secs(wait_us.div_ceil(1_000_000));
        }
        let outcome = match kind {
            0 => Outcome::Allowed,
            1 => Outcome::Denied { retry_after },
            _ => Outcome::TooLarge,
        };
        Decision {
            outcome,
            limit_index: index.0,
            quota,
            delay: Duration::ZERO,
            source: Source::Store,
        }
    }

    async fn charge(&self, key: Key<'_>, cost: u32) -> Decision {
        let indices = 0..self.policy.limits().len();
        // The answer locks around reading and writing; the two-step bug lets others in between.
        let mut standings: Vec<_> =
            indices.clone().map(|index| self.standing(index, key)).collect();
        let decision = self.decide(key, cost, &standings);
        if self.has(Bug::TwoStepReadThenWrite) {
            tokio::task::yield_now().await;
        }
        let anyway = self.has(Bug::ChargesDenials);
        for (index, standing) in standings.iter_mut().enumerate() {
            let alone = self.has(Bug::ChargesPartially) && standing.wait_us(cost) == 0;
            if cost > 0 && (decision.allowed() || anyway || alone) {
                let left = standing.units.saturating_sub(standing.rate.units(cost.min(1 << 20)));
                self.write(index, key, standing, left);
                if !self.has(Bug::RemainingBeforeTheCharge) {
                    standing.units = left;
                }
            }
        }
        match decision.outcome {
            Outcome::Allowed => self.decide(key, 0, &standings),
            _ => decision,
        }
    }
}

impl NaiveLimiter {
    /// A denial is remembered until its `retry_after`. Nothing that happens meanwhile, such as a
    /// refund, is noticed.
    async fn check_cached(&self, key: Key<'_>, cost: u32) -> Decision {
        let (entry, now) = ((key.as_str().to_owned(), cost), self.clock.now().0);
        let until = self.denied.lock().unwrap().get(&entry).copied().filter(|until| *until > now);
        if let Some(until) = until {
            let standings: Vec<_> =
                (0..self.policy.limits().len()).map(|index| self.standing(index, key)).collect();
            let retry_after = Duration::from_micros(until - now);
            let outcome = Outcome::Denied { retry_after };
            return Decision { outcome, ..self.decide(key, 0, &standings) };
        }
        let decision = self.charge(key, cost).await;
        if let Outcome::Denied { retry_after } = decision.outcome {
            self.denied.lock().unwrap().insert(entry, now + retry_after.as_micros() as u64);
        }
        decision
    }
}

/// One lock around every step, except for the bug that is about not having it.
static STEP: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Limiter for NaiveLimiter {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        if self.has(Bug::TwoStepReadThenWrite) {
            return Ok(self.charge(key, cost).await);
        }
        let _step = STEP.lock().await;
        if self.has(Bug::DenyCacheWithoutGeneration) {
            return Ok(self.check_cached(key, cost).await);
        }
        Ok(self.charge(key, cost).await)
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        let _step = STEP.lock().await;
        let indices = 0..self.policy.limits().len();
        let standings: Vec<_> = indices.map(|index| self.standing(index, key)).collect();
        Ok(self.decide(key, 1, &standings))
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        let _step = STEP.lock().await;
        let indices = 0..self.policy.limits().len();
        let standings: Vec<_> = indices.map(|index| self.standing(index, key)).collect();
        let available = standings.iter().map(|s| s.rate.tokens(s.units)).min().unwrap_or(0);
        let granted = available.min(at_most);
        if self.has(Bug::GrantsMoreThanIsThere) && available > 0 {
            let decision = self.charge(key, available).await;
            return Ok(Grant { granted: at_most, decision });
        }
        if granted == 0 {
            let decision = self.decide(key, at_most.min(1), &standings);
            return Ok(Grant { granted, decision });
        }
        Ok(Grant { granted, decision: self.charge(key, granted).await })
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let _step = STEP.lock().await;
        let mut standings = Vec::new();
        for index in 0..self.policy.limits().len() {
            let mut standing = self.standing(index, key);
            let seen = self.buckets.lock().unwrap().contains_key(&self.slot(index, key));
            if seen {
                let returned = standing.rate.units(cost.min(1 << 20));
                standing.units += returned;
                if !self.has(Bug::RefundsBeyondTheLimit) {
                    standing.units = standing.units.min(standing.capacity);
                }
                self.write(index, key, &standing, standing.units);
            }
            standings.push(standing);
        }
        Ok(self.decide(key, 0, &standings))
    }
}
