//! Where did every message go? The accounting of a queue or a chat after the faults.
//!
//! After Jepsen's `total-queue` checker: compare what was attempted, what was acknowledged and
//! what was delivered, each by identity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::conformance::{Broken, Verdict};

/// The items that did not simply go in once and come out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account<T> {
    /// Acknowledged and never delivered. There is no excuse for these.
    pub lost: Vec<T>,
    /// Delivered and never attempted.
    pub unexpected: Vec<T>,
    /// Delivered more than once. At-least-once delivery may do that.
    pub duplicated: Vec<T>,
    /// Attempted, not acknowledged, delivered all the same: the answer got lost, not the item.
    pub recovered: Vec<T>,
    /// How many items were delivered at least once.
    pub delivered: usize,
}

/// Compares the three lists.
pub fn account<T: Ord + Clone>(
    attempted: impl IntoIterator<Item = T>,
    acknowledged: impl IntoIterator<Item = T>,
    delivered: impl IntoIterator<Item = T>,
) -> Account<T> {
    let attempted: BTreeSet<T> = attempted.into_iter().collect();
    let acknowledged: BTreeSet<T> = acknowledged.into_iter().collect();
    let mut times: BTreeMap<T, usize> = BTreeMap::new();
    for item in delivered {
        *times.entry(item).or_default() += 1;
    }
    let delivered_if = |keep: &dyn Fn(&T, usize) -> bool| {
        times.iter().filter(|&(item, &n)| keep(item, n)).map(|(item, _)| item.clone()).collect()
    };
    // Acknowledged implies attempted, also when the caller's list of attempts says otherwise.
    let was_attempted = |item: &T| attempted.contains(item) || acknowledged.contains(item);
    Account {
        lost: acknowledged.iter().filter(|item| !times.contains_key(item)).cloned().collect(),
        unexpected: delivered_if(&|item, _| !was_attempted(item)),
        duplicated: delivered_if(&|_, n| n > 1),
        recovered: delivered_if(&|item, _| {
            attempted.contains(item) && !acknowledged.contains(item)
        }),
        delivered: times.len(),
    }
}

impl<T: fmt::Debug> Account<T> {
    /// Nothing lost, nothing made up, and something delivered: an empty run proves nothing.
    ///
    /// # Errors
    /// [`Broken`] naming the items.
    pub fn must_be_at_least_once(&self) -> Verdict {
        let holds = self.lost.is_empty() && self.unexpected.is_empty() && self.delivered > 0;
        if holds { Ok(()) } else { Err(Broken::because(self.to_string())) }
    }

    /// Like [`must_be_at_least_once`](Self::must_be_at_least_once), and nothing delivered twice.
    ///
    /// # Errors
    /// [`Broken`] naming the items.
    pub fn must_be_exactly_once(&self) -> Verdict {
        self.must_be_at_least_once()?;
        if self.duplicated.is_empty() { Ok(()) } else { Err(Broken::because(self.to_string())) }
    }
}

impl<T: fmt::Debug> fmt::Display for Account<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} delivered", self.delivered)?;
        let kinds = [
            ("lost", &self.lost),
            ("unexpected", &self.unexpected),
            ("duplicated", &self.duplicated),
            ("recovered", &self.recovered),
        ];
        for (kind, items) in kinds {
            let first = &items[..items.len().min(5)];
            match items.len() {
                0 => write!(f, ", 0 {kind}")?,
                n => write!(f, ", {n} {kind} ({first:?}{})", if n > 5 { ".." } else { "" })?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_accounted_for() {
        let account = account([1, 2, 3, 4, 5], [1, 2, 3], [1, 2, 2, 4, 9]);
        assert_eq!(
            account.to_string(),
            "4 delivered, 1 lost ([3]), 1 unexpected ([9]), 1 duplicated ([2]), 1 recovered ([4])"
        );
        account.must_be_at_least_once().expect_err("3 is lost, 9 is made up");
    }

    #[test]
    fn at_least_once_allows_duplicates_exactly_once_does_not_and_nothing_proves_nothing() {
        let twice = account([1], [1], [1, 1]);
        twice.must_be_at_least_once().expect("nothing is lost");
        twice.must_be_exactly_once().expect_err("it came twice");
        account([1], [], []).must_be_at_least_once().expect_err("nothing was delivered");
        account([1, 2], [1], [1, 2]).must_be_exactly_once().expect("a recovered item is fine");
    }
}
