//! Counting without a store: every node counts for itself and tells the others. The pure core;
//! [`crate::store::gossip`] has the sockets.
//!
//! The count of a caller in a window is kept per *actor* (a node's life, from start to death): only
//! the actor itself ever raises its own count. Two copies are merged by keeping, of two windows the
//! later one, and within a window the larger count of each actor. That is commutative, associative
//! and idempotent, so news may be lost, repeated, reordered and passed on by others, and all nodes
//! that have heard the same agree: a conflict-free replicated data type (Shapiro et al., 2011, the
//! grow-only counter, here one per window).
//!
//! What it gives up is exactness. Let the limit L be reached at time T, and let every node have
//! heard by T + s what any node charged before T. From T + s on nobody admits anything; between T
//! and T + s each of N nodes admits at most r·s, if it is asked for r per second. So in one window
//! at most **L + N·r·s** is admitted, and never more than N·L, however long a partition lasts.

use std::collections::{BTreeMap, HashMap};

use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};

use crate::algorithm::Micros;
use crate::algorithm::fixed_window::Count;

/// One life of a node. A node that starts again is somebody else: it has forgotten its counts, and
/// the others have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor(pub u64);

/// Counters a node keeps. At the bound new callers are refused until windows have ended.
pub const COUNTERS_MAX: usize = 1_000_000;
/// Actors in one counter. Nodes that die and come back in one window are many; more than this is
/// somebody making them up, and further ones are ignored.
pub const ACTORS_MAX: usize = 1_024;
/// Counters in one message.
pub const NEWS_MAX: usize = 2_000;

/// What one actor did in a window. Both only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deeds {
    /// Charged.
    pub charged: u64,
    /// Given back of it.
    pub returned: u64,
}

impl Deeds {
    fn merge(&mut self, other: Self) -> bool {
        let before = *self;
        self.charged = self.charged.max(other.charged);
        self.returned = self.returned.max(other.returned);
        *self != before
    }
}

/// A caller's count in a window, actor by actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Windows since the epoch.
    pub window: u64,
    /// Who did what in it.
    pub by: BTreeMap<Actor, Deeds>,
}

impl Counter {
    /// The sum over all actors.
    pub fn used(&self) -> u64 {
        let sum = |of: fn(&Deeds) -> u64| self.by.values().map(of).fold(0, u64::saturating_add);
        sum(|deeds| deeds.charged).saturating_sub(sum(|deeds| deeds.returned))
    }

    /// Starts a later window, of which nobody has done anything yet.
    ///
    /// Trap: clearing only one's own count would carry those of the others into the new window.
    fn roll(&mut self, window: u64) {
        if window > self.window {
            *self = Self { window, by: BTreeMap::new() };
        }
    }

    /// Joins what another node knows. Returns whether anything was news.
    pub fn merge(&mut self, other: &Self) -> bool {
        if other.window < self.window {
            return false;
        }
        let rolled = other.window > self.window;
        self.roll(other.window);
        let mut news = rolled;
        for (actor, deeds) in &other.by {
            if self.by.len() < ACTORS_MAX || self.by.contains_key(actor) {
                news |= self.by.entry(*actor).or_default().merge(*deeds);
            }
        }
        news
    }
}

/// A counter as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Whose, and under which limit.
    pub key: String,
    /// How long its windows are.
    pub window_us: u64,
    /// What the sender knows.
    pub counter: Counter,
}

/// All counters of a node.
pub struct Ledger {
    actor: Actor,
    counters: HashMap<Box<str>, Entry, RandomState>,
    /// The key of each change, oldest first; a key that changes again moves to the end.
    changes: BTreeMap<u64, Box<str>>,
    changed: u64,
}

struct Entry {
    counter: Counter,
    window_us: u64,
    changed: u64,
}

/// There is no room for another counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Ledger {
    /// An empty ledger of a new life.
    pub fn new(actor: Actor) -> Self {
        let (counters, changes) = Default::default();
        Self { actor, counters, changes, changed: 0 }
    }

    /// Who writes here.
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// What is known of a key at `now`, as the fixed window algorithm sees it. More than `limit`
    /// may have been used; nobody needs to know how much more.
    pub fn count(&self, key: &str, window_us: u64, limit: u32, now: Micros) -> Count {
        let window = now.0 / window_us;
        match self.counters.get(key) {
            Some(entry) if entry.counter.window >= window => Count {
                window: entry.counter.window,
                used: u32::try_from(entry.counter.used()).unwrap_or(u32::MAX).min(limit),
            },
            _ => Count { window, used: 0 },
        }
    }

    /// Whether a key can be charged: it is known, or there is room.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn has_room(&mut self, key: &str, now: Micros) -> Result<(), NoRoom> {
        if self.counters.contains_key(key) || self.counters.len() < COUNTERS_MAX {
            return Ok(());
        }
        self.forget_ended(now);
        if self.counters.len() < COUNTERS_MAX { Ok(()) } else { Err(NoRoom) }
    }

    /// Charges this actor.
    pub fn charge(&mut self, key: &str, window_us: u64, now: Micros, cost: u32) {
        self.change(key, window_us, now, |deeds, _| deeds.charged += u64::from(cost));
    }

    /// Gives back at most what is used, by whomever.
    pub fn refund(&mut self, key: &str, window_us: u64, now: Micros, cost: u32) {
        if self.counters.contains_key(key) {
            self.change(key, window_us, now, |deeds, used| {
                deeds.returned += u64::from(cost).min(used);
            });
        }
    }

    fn change(
        &mut self,
        key: &str,
        window_us: u64,
        now: Micros,
        change: impl FnOnce(&mut Deeds, u64),
    ) {
        let actor = self.actor;
        let entry = self.entry(key, window_us);
        entry.counter.roll(now.0 / window_us);
        let used = entry.counter.used();
        change(entry.counter.by.entry(actor).or_default(), used);
        self.note(key);
    }

    fn entry(&mut self, key: &str, window_us: u64) -> &mut Entry {
        if !self.counters.contains_key(key) {
            let entry = Entry { counter: Counter::default(), window_us, changed: 0 };
            self.counters.insert(key.into(), entry);
        }
        self.counters.get_mut(key).expect("it was just put there")
    }

    fn note(&mut self, key: &str) {
        self.changed += 1;
        if let Some(entry) = self.counters.get_mut(key) {
            let before = std::mem::replace(&mut entry.changed, self.changed);
            let key = self.changes.remove(&before).unwrap_or_else(|| key.into());
            self.changes.insert(self.changed, key);
        }
    }

    /// What changed here after change number `after`, at most [`NEWS_MAX`] counters, and the number
    /// up to which that is. State, not deltas: telling it twice does no harm.
    pub fn news(&self, after: u64) -> (Vec<News>, u64) {
        let mut up_to = after;
        let mut news = Vec::new();
        for (&changed, key) in self.changes.range(after + 1..).take(NEWS_MAX) {
            let entry = &self.counters[key];
            let (key, window_us) = (key.to_string(), entry.window_us);
            news.push(News { key, window_us, counter: entry.counter.clone() });
            up_to = changed;
        }
        (news, up_to)
    }

    /// Joins what another node told. Returns how many counters were refused: there was no room, or
    /// they come from a later window than the next one, which only a wrong clock has begun.
    pub fn hear(&mut self, news: &[News], now: Micros) -> usize {
        let mut refused = 0;
        for News { key, window_us, counter } in news {
            let sane = *window_us > 0 && counter.window <= now.0 / (*window_us).max(1) + 1;
            if !sane || self.has_room(key, now).is_err() {
                refused += 1;
                continue;
            }
            if self.entry(key, *window_us).counter.merge(counter) {
                self.note(key);
            }
        }
        refused
    }

    /// Forgets counters whose window has ended one window ago: nobody can tell them from new ones.
    pub fn forget_ended(&mut self, now: Micros) {
        let changes = &mut self.changes;
        self.counters.retain(|_, entry| {
            let kept = entry.counter.window + 1 >= now.0 / entry.window_us;
            if !kept {
                changes.remove(&entry.changed);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counter() -> impl Strategy<Value = Counter> {
        let deeds = (0..9_u64, 0..5_u64)
            .prop_map(|(charged, returned)| Deeds { charged, returned: returned.min(charged) });
        let by = proptest::collection::btree_map((0..4_u64).prop_map(Actor), deeds, 0..4);
        (0..3_u64, by).prop_map(|(window, by)| Counter { window, by })
    }

    fn merged(a: &Counter, b: &Counter) -> Counter {
        let mut merged = a.clone();
        merged.merge(b);
        merged
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn merging_is_commutative_associative_and_idempotent(
            a in counter(), b in counter(), c in counter()
        ) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&merged(&a, &b), &b), merged(&a, &b));
        }

        #[test]
        fn a_later_window_forgets_every_actor(a in counter(), b in counter()) {
            let sum = merged(&a, &b);
            prop_assert_eq!(sum.window, a.window.max(b.window));
            if a.window != b.window {
                let later = if a.window > b.window { a } else { b };
                prop_assert_eq!(sum, later);
            }
        }
    }

    #[test]
    fn news_are_told_once_and_again_after_they_changed() {
        let mut ledger = Ledger::new(Actor(1));
        let now = Micros(5_000);
        ledger.charge("a", 1_000, now, 1);
        ledger.charge("b", 1_000, now, 1);
        let (news, up_to) = ledger.news(0);
        assert_eq!((news.len(), up_to), (2, 2));
        assert!(ledger.news(up_to).0.is_empty());
        ledger.charge("a", 1_000, now, 1);
        let (news, _) = ledger.news(up_to);
        assert_eq!((news.len(), news[0].counter.used()), (1, 2));

        let mut other = Ledger::new(Actor(2));
        assert_eq!(other.hear(&ledger.news(0).0, now), 0);
        assert_eq!(other.news(0).0.len(), 2, "what was heard is passed on");
        let heard = other.changed;
        other.hear(&ledger.news(0).0, now);
        assert_eq!(other.changed, heard, "what is no news is not");
    }

    #[test]
    fn a_node_whose_clock_is_ahead_is_not_believed() {
        let mut ahead = Ledger::new(Actor(1));
        ahead.charge("a", 1_000, Micros(9_000), 1);
        let mut other = Ledger::new(Actor(2));
        assert_eq!(other.hear(&ahead.news(0).0, Micros(1_000)), 1);
        assert!(other.is_empty());
    }

    #[test]
    fn ended_windows_are_forgotten_with_their_place_in_the_line() {
        let mut ledger = Ledger::new(Actor(1));
        for caller in 0..100 {
            ledger.charge(&format!("{caller}"), 1_000, Micros(1_000), 1);
        }
        ledger.forget_ended(Micros(2_999));
        assert_eq!((ledger.len(), ledger.changes.len()), (100, 100));
        ledger.forget_ended(Micros(3_000));
        assert_eq!((ledger.len(), ledger.changes.len()), (0, 0));
    }
}
