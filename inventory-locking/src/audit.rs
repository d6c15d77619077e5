//! The audit: every invariant recomputed from one snapshot, and what drifted.
//!
//! The counters are caches of the ledger and of the reservations, kept up to date one transaction
//! at a time. Caches drift when a transaction boundary is wrong; so the truth is added up again,
//! during load and at the end of every test and benchmark.

use serde::Serialize;
use utoipa::ToSchema;

use crate::order::Sku;

/// The most drifts that are listed; more of them are only counted.
pub const DRIFTS_LISTED_MAX: usize = 100;

/// The numbers of one SKU, each added up from where it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The counter.
    pub available: i64,
    /// The counter.
    pub held: i64,
    /// The counter.
    pub sold: i64,
    /// From the ledger: the first stock, restocks, and corrections (which may be negative).
    pub received: i64,
    /// From the lines of reservations that have not ended.
    pub held_by_reservations: i64,
    /// From the lines of reservations that were confirmed.
    pub sold_by_reservations: i64,
}

/// What [`Inventory::audit`](crate::Inventory::audit) found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Audit {
    /// SKUs looked at.
    pub items: u64,
    /// Available, over all SKUs.
    pub available: i64,
    /// Held, over all SKUs.
    pub held: i64,
    /// Sold, over all SKUs.
    pub sold: i64,
    /// Holds past their deadline that no sweeper has released yet: a delay, not a fault.
    pub overdue: u64,
    /// Entries of a gate in front of the store that were not what the store says, and that this
    /// audit has put right: a delay, not a fault. Without a gate there are none.
    pub gate_drifts: u64,
    /// How many invariants are broken.
    pub broken: u64,
    /// The first [`DRIFTS_LISTED_MAX`] of them.
    pub drifts: Vec<Drift>,
}

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Drift {
    /// Where.
    #[schema(value_type = String)]
    pub sku: Sku,
    /// Which, by its number in the contract: `I2`.
    pub invariant: &'static str,
    /// The numbers that do not agree.
    pub what: String,
}

impl Audit {
    /// Whether every invariant holds.
    pub fn is_clean(&self) -> bool {
        self.broken == 0
    }
}

/// Judges a snapshot.
pub fn judge(snapshot: impl IntoIterator<Item = (Sku, Totals)>, overdue: u64) -> Audit {
    let (items, available, held, sold) = (0, 0, 0, 0);
    let (gate_drifts, broken, drifts) = (0, 0, Vec::new());
    let mut audit = Audit { items, available, held, sold, overdue, gate_drifts, broken, drifts };
    for (sku, totals) in snapshot {
        audit.items += 1;
        audit.available += totals.available;
        audit.held += totals.held;
        audit.sold += totals.sold;
        for (invariant, what) in drifts_of(&totals) {
            audit.broken += 1;
            if audit.drifts.len() < DRIFTS_LISTED_MAX {
                audit.drifts.push(Drift { sku: sku.clone(), invariant, what });
            }
        }
    }
    audit
}

fn drifts_of(totals: &Totals) -> impl Iterator<Item = (&'static str, String)> {
    let &Totals { available, held, sold, received, .. } = totals;
    let (holding, confirmed) = (totals.held_by_reservations, totals.sold_by_reservations);
    let accounted = available + held + sold;
    let checks = [
        (
            "I1",
            available.min(held).min(sold) < 0,
            format!("{available} available, {held} held, {sold} sold"),
        ),
        (
            "I2",
            accounted != received,
            format!("{received} received, {accounted} available, held or sold"),
        ),
        ("I4", held != holding, format!("{held} held, reservations hold {holding}")),
        ("I4", sold != confirmed, format!("{sold} sold, reservations confirmed {confirmed}")),
        (
            // What counts in the end: a customer was promised what is not there.
            "oversold",
            holding + confirmed > received,
            format!("{received} received, {} promised", holding + confirmed),
        ),
    ];
    checks.into_iter().filter(|(_, broken, _)| *broken).map(|(name, _, what)| (name, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_invariant_is_broken_by_a_number_of_its_own() {
        let right = Totals {
            available: 5,
            held: 3,
            sold: 2,
            received: 10,
            held_by_reservations: 3,
            sold_by_reservations: 2,
        };
        let audit = |totals: Totals| judge([(Sku::stored("a"), totals)], 0);
        assert!(audit(right.clone()).is_clean());
        let names = |totals| -> Vec<_> {
            audit(totals).drifts.iter().map(|drift| drift.invariant).collect()
        };
        assert_eq!(names(Totals { received: 11, ..right.clone() }), ["I2"]);
        assert_eq!(names(Totals { held_by_reservations: 2, ..right.clone() }), ["I4"]);
        assert_eq!(names(Totals { sold_by_reservations: 1, ..right.clone() }), ["I4"]);
        assert_eq!(names(Totals { available: -1, received: 4, ..right }), ["I1", "oversold"]);
    }
}
