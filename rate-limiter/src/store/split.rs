//! Splitting a hot caller: its limit in parts, each a bucket of its own.
//!
//! In a cluster one caller is one key, one slot, one core. A caller that is hotter than a core gets
//! `parts` keys with different hash tags, so they land on different servers, each with its share of
//! every rate and burst. The shares add up to the limit, to the last token.
//!
//! - Never too much: the sum of the parts' bounds is the bound of the whole.
//! - Perhaps too little: a check looks at two parts and no more, so it may be denied while up to
//!   `(parts - 2) / parts` of the burst lies in the others. Parts are asked in turn, so under a
//!   steady load they are equally full and this hardly happens.
//! - One request can cost at most one part's burst; more is
//!   [`TooLarge`](crate::Outcome::TooLarge).

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::RandomState;

use crate::limiter::{Decision, Error, Grant, KEY_BYTES_MAX, Key, Limiter, Outcome, Store};
use crate::policy::Policy;

/// The most parts. Each is a key in the store; more than there are cores in a cluster bring nothing.
pub const PARTS_MAX: u32 = 64;

/// One policy, with some callers split.
pub struct SplitLimiter<L> {
    whole: L,
    parts: Vec<L>,
    callers: HashSet<Box<str>, RandomState>,
    turn: AtomicUsize,
}

impl<L: Limiter> SplitLimiter<L> {
    /// Splits `callers` into `parts` each; everybody else is one key as before.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are too many parts, when a rate or burst is smaller than their
    /// number, or when a caller's name leaves no room for the number of its part.
    pub fn new<'a, S: Store<Limiter = L>>(
        store: &S,
        policy: Policy,
        parts: u32,
        callers: impl IntoIterator<Item = Key<'a>>,
    ) -> Result<Self, Error> {
        if !(2..=PARTS_MAX).contains(&parts) {
            return Err(Error::invalid("parts", format!("must be 2 to {PARTS_MAX}, not {parts}")));
        }
        let shares: Vec<_> =
            (0..parts).map(|part| policy.part(part, parts)).collect::<Result<_, _>>()?;
        let callers: HashSet<Box<str>, RandomState> =
            callers.into_iter().map(|key| key.as_str().into()).collect();
        if callers.iter().any(|caller| caller.len() + "~63".len() > KEY_BYTES_MAX) {
            let reason = format!("must be at most {} bytes to be split", KEY_BYTES_MAX - 3);
            return Err(Error::invalid("key", reason));
        }
        let parts = shares.into_iter().map(|share| store.limiter(share)).collect();
        Ok(Self { whole: store.limiter(policy), parts, callers, turn: AtomicUsize::new(0) })
    }

    fn is_split(&self, key: Key<'_>) -> bool {
        self.callers.contains(key.as_str())
    }

    fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.parts.len()
    }

    async fn check_part(&self, part: usize, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        let part = part % self.parts.len();
        let name = name_of(key, part);
        let decision = self.parts[part].check(Key::new(&name)?, cost).await?;
        Ok(self.of_the_whole(decision))
    }

    /// What remains is what this part has: at least that much is left.
    fn of_the_whole(&self, mut decision: Decision) -> Decision {
        decision.quota.limit = self.whole.policy().limits()[decision.limit_index].burst();
        decision
    }
}

/// The name in which a part is kept: a hash tag of its own.
fn name_of(key: Key<'_>, part: usize) -> String {
    format!("{}~{part}", key.as_str())
}

/// Of two denials the one that ends sooner.
fn sooner(one: Decision, other: Decision) -> Decision {
    match (one.outcome, other.outcome) {
        (_, Outcome::Allowed | Outcome::TooLarge) => other,
        (Outcome::Denied { retry_after: a }, Outcome::Denied { retry_after: b }) if b < a => other,
        _ => one,
    }
}

impl<L: Limiter> Limiter for SplitLimiter<L> {
    fn policy(&self) -> &Policy {
        self.whole.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        if !self.is_split(key) {
            return self.whole.check(key, cost).await;
        }
        if cost == 0 {
            return Ok(Decision { outcome: Outcome::Allowed, ..self.peek(key).await? });
        }
        let turn = self.next_turn();
        let first = self.check_part(turn, key, cost).await?;
        let Outcome::Denied { .. } = first.outcome else { return Ok(first) };
        // Far from the first one, so that two neighbours in the queue do not look at the same two.
        let second = self.check_part(turn + self.parts.len() / 2, key, cost).await?;
        Ok(sooner(first, second))
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        if !self.is_split(key) {
            return self.whole.peek(key).await;
        }
        let (mut best, mut remaining) = (None::<Decision>, 0);
        for (part, limiter) in self.parts.iter().enumerate() {
            let decision = limiter.peek(Key::new(&name_of(key, part))?).await?;
            remaining += decision.quota.remaining;
            best = Some(match best {
                Some(best) if best.allowed() => best,
                Some(best) => sooner(best, decision),
                None => decision,
            });
        }
        let mut decision = self.of_the_whole(best.expect("there are at least two parts"));
        decision.quota.remaining = remaining;
        Ok(decision)
    }

    /// From one part after the other, until there is enough.
    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        if !self.is_split(key) {
            return self.whole.take_up_to(key, at_most).await;
        }
        let turn = self.next_turn();
        let mut taken: Option<Grant> = None;
        for offset in 0..self.parts.len() {
            let part = (turn + offset) % self.parts.len();
            let granted = taken.map_or(0, |grant| grant.granted);
            let name = name_of(key, part);
            let grant = self.parts[part].take_up_to(Key::new(&name)?, at_most - granted).await?;
            taken = Some(match taken {
                // A denial by this part does not take back what others granted.
                Some(before) if grant.granted == 0 => before,
                _ => Grant {
                    granted: granted + grant.granted,
                    decision: self.of_the_whole(grant.decision),
                },
            });
            if granted + grant.granted >= at_most {
                break;
            }
        }
        Ok(taken.expect("there are at least two parts"))
    }

    /// To one part: what has no room there is lost, which is the safe side.
    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        if !self.is_split(key) {
            return self.whole.refund(key, cost).await;
        }
        let part = self.next_turn();
        let name = name_of(key, part);
        let decision = self.parts[part].refund(Key::new(&name)?, cost).await?;
        Ok(self.of_the_whole(decision))
    }
}
