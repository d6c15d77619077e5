//! Counting by gossip as a candidate writes it, right when nothing is switched on, and the mistakes
//! that come with it, one switch each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::EPOCH;
use rate_limiter::conformance::gossip::{Correspondent, GossipFixture};
use rate_limiter::{Decision, Error, Grant, Key, Limiter, Outcome, Policy, Quota, Source};

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Rumour {
        WindowRollKeepsTheOthers => a_new_window_begins_empty_for_everybody,
        AddsWhatItHears => a_letter_read_twice_counts_once,
        LastLetterWins => an_old_letter_takes_nothing_back,
        OneCountForAllNodes => letters_that_cross_agree,
        TellsOnlyItsOwn => news_travel_through_others,
        LateNewsCountToday => a_letter_about_the_last_window_is_history,
        BelievesClocksAhead => a_clock_that_is_ahead_is_not_believed,
        RefundLowersItsOwnCount => refunds_are_news_too,
    }
}

/// The fixture.
pub(crate) struct NaiveGossip {
    clock: Arc<ManualClock>,
    rumour: Option<Rumour>,
}

impl NaiveGossip {
    pub(crate) fn with(rumour: Option<Rumour>) -> Self {
        Self { clock: Arc::new(ManualClock::at(EPOCH)), rumour }
    }

    fn node(&self, policy: Policy, name: u64, ahead: Duration) -> Node {
        let (clock, counts) = (Arc::clone(&self.clock), Mutex::default());
        Node { policy, clock, ahead, name, rumour: self.rumour, counts }
    }
}

impl GossipFixture for NaiveGossip {
    type Node = Node;

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn nodes(&self, policy: Policy, count: usize) -> Vec<Node> {
        (0..count as u64).map(|name| self.node(policy.clone(), name, Duration::ZERO)).collect()
    }

    fn node_ahead(&self, policy: Policy, by: Duration) -> Node {
        self.node(policy, 99, by)
    }
}

/// Of one caller (there is only one): the window, and of each node what it charged and gave back.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    window: u64,
    by: HashMap<u64, (u64, u64)>,
}

pub(crate) struct Node {
    policy: Policy,
    clock: Arc<ManualClock>,
    ahead: Duration,
    name: u64,
    rumour: Option<Rumour>,
    counts: Mutex<Counts>,
}

impl Node {
    fn has(&self, rumour: Rumour) -> bool {
        self.rumour == Some(rumour)
    }

    fn window_us(&self) -> u64 {
        self.policy.limits()[0].spec().per_ms * 1_000
    }

    fn now_us(&self) -> u64 {
        self.clock.now().0 + self.ahead.as_micros() as u64
    }

    fn roll(&self, counts: &mut Counts, window: u64) {
        if window > counts.window {
            counts.window = window;
            match self.rumour {
                Some(Rumour::WindowRollKeepsTheOthers) => {
                    counts.by.remove(&self.name);
                }
                _ => counts.by.clear(),
            }
        }
    }

    /// One's own place in the counts.
    fn place(&self) -> u64 {
        if self.has(Rumour::OneCountForAllNodes) { 0 } else { self.name }
    }

    fn charge(&self, cost: u32, refund: u32) -> Decision {
        let mut counts = self.counts.lock().unwrap();
        let (now_us, window_us) = (self.now_us(), self.window_us());
        self.roll(&mut counts, now_us / window_us);
        let limit = self.policy.limits()[0].burst();
        let sum = |counts: &Counts| {
            counts.by.values().map(|(up, down)| up.saturating_sub(*down)).sum::<u64>()
        };
        let left = u64::from(limit).saturating_sub(sum(&counts));
        let allowed = u64::from(cost) <= left;
        let own = counts.by.entry(self.place()).or_default();
        if allowed {
            own.0 += u64::from(cost);
        }
        match self.rumour {
            Some(Rumour::RefundLowersItsOwnCount) => own.0 = own.0.saturating_sub(refund.into()),
            _ => own.1 += u64::from(refund),
        }
        let reset_after = Duration::from_micros(window_us - now_us % window_us);
        let remaining = u64::from(limit).saturating_sub(sum(&counts)) as u32;
        let outcome = match allowed {
            true => Outcome::Allowed,
            false => Outcome::Denied { retry_after: reset_after },
        };
        let quota = Quota { limit, remaining, reset_after };
        let (delay, source) = (Duration::ZERO, Source::Store);
        Decision { outcome, limit_index: 0, quota, delay, source }
    }
}

impl Correspondent for Node {
    type Letter = Counts;

    fn write(&self) -> Counts {
        let mut letter = self.counts.lock().unwrap().clone();
        if self.has(Rumour::TellsOnlyItsOwn) {
            letter.by.retain(|name, _| *name == self.name);
        }
        letter
    }

    fn read(&self, letter: Counts) {
        let mut counts = self.counts.lock().unwrap();
        let next = self.now_us() / self.window_us() + 1;
        if letter.window > next && !self.has(Rumour::BelievesClocksAhead) {
            return;
        }
        if letter.window < counts.window && !self.has(Rumour::LateNewsCountToday) {
            return;
        }
        self.roll(&mut counts, letter.window);
        for (name, (up, down)) in letter.by {
            let known = counts.by.entry(name).or_default();
            *known = match self.rumour {
                Some(Rumour::AddsWhatItHears) => (known.0 + up, known.1 + down),
                Some(Rumour::LastLetterWins) => (up, down),
                _ => (known.0.max(up), known.1.max(down)),
            };
        }
    }
}

impl Limiter for Node {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    async fn check(&self, _: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.charge(cost, 0))
    }

    async fn peek(&self, _: Key<'_>) -> Result<Decision, Error> {
        Ok(self.charge(0, 0))
    }

    async fn take_up_to(&self, _: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        let granted = self.charge(0, 0).quota.remaining.min(at_most);
        Ok(Grant { granted, decision: self.charge(granted, 0) })
    }

    async fn refund(&self, _: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.charge(0, cost))
    }
}
