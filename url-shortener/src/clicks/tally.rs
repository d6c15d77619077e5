//! The clicks of one link on one day, and how they are written down.

use std::collections::BTreeMap;

use super::Day;
use super::hll::Sketch;
use super::visit::Browser;
use crate::link::LinkId;

/// Referring hosts that are told apart per link and day. A client can send any `Referer`, so
/// without a bound one visitor could grow a row without end; the rest is counted together.
pub const REFERRERS_MAX: usize = 64;

/// Tallies by link and day, in order.
pub type Tallies = BTreeMap<(LinkId, Day), DayTally>;

/// What happened to a link on a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayTally {
    /// Clicks by people.
    pub clicks: u64,
    /// Clicks by programs that say so.
    pub bots: u64,
    /// The people's browsers, by [`Browser`]; bots are not among them.
    pub browsers: [u64; Browser::ALL.len()],
    /// Where people came from.
    pub referrers: BTreeMap<Box<str>, u64>,
    /// People who came from elsewhere, after [`REFERRERS_MAX`] hosts.
    pub other_referrers: u64,
    /// Who the people were.
    pub visitors: Sketch,
}

impl DayTally {
    /// Counts people who came from `host`.
    pub fn add_referrer(&mut self, host: &str, clicks: u64) {
        if let Some(known) = self.referrers.get_mut(host) {
            *known += clicks;
        } else if self.referrers.len() < REFERRERS_MAX {
            self.referrers.insert(host.into(), clicks);
        } else {
            self.other_referrers += clicks;
        }
    }

    /// Adds another tally of the same link and day.
    pub fn merge(&mut self, other: &Self) {
        self.clicks += other.clicks;
        self.bots += other.bots;
        for (mine, theirs) in self.browsers.iter_mut().zip(other.browsers) {
            *mine += theirs;
        }
        other.referrers.iter().for_each(|(host, clicks)| self.add_referrer(host, *clicks));
        self.other_referrers += other.other_referrers;
        self.visitors.merge(&other.visitors);
    }

    /// Appends the tally to `out`: numbers as LEB128, since most are one digit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.clicks);
        put(out, self.bots);
        self.browsers.iter().for_each(|clicks| put(out, *clicks));
        put(out, self.other_referrers);
        put(out, self.referrers.len() as u64);
        for (host, clicks) in &self.referrers {
            put(out, host.len() as u64);
            out.extend(host.as_bytes());
            put(out, *clicks);
        }
        self.visitors.encode(out);
    }

    /// Reads a tally from the front of `bytes`; `None` when there is none.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (clicks, bots) = (get(bytes)?, get(bytes)?);
        let mut browsers = [0; Browser::ALL.len()];
        for browser in &mut browsers {
            *browser = get(bytes)?;
        }
        let (other_referrers, hosts) = (get(bytes)?, get(bytes)?);
        let mut referrers = BTreeMap::new();
        for _ in 0..hosts.min(REFERRERS_MAX as u64) {
            let length = usize::try_from(get(bytes)?).ok()?;
            let (host, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            referrers.insert(std::str::from_utf8(host).ok()?.into(), get(bytes)?);
        }
        let visitors = Sketch::decode(bytes)?;
        Some(Self { clicks, bots, browsers, referrers, other_referrers, visitors })
    }
}

/// Writes one row of a batch: link, day, length, tally.
pub fn encode_row(out: &mut Vec<u8>, (link, day): (LinkId, Day), row: &DayTally) {
    let mut tally = Vec::with_capacity(64);
    row.encode(&mut tally);
    put(out, link.0.into());
    put(out, day.0.into());
    put(out, tally.len() as u64);
    out.extend(&tally);
}

/// The rows of a batch in bytes that `wanted` picks; `None` when they are not a batch. What is
/// not wanted is stepped over, not decoded.
pub fn decode_some(mut bytes: &[u8], wanted: impl Fn(LinkId) -> bool) -> Option<Tallies> {
    let mut rows = Tallies::new();
    while !bytes.is_empty() {
        let link = LinkId(get(&mut bytes)?.try_into().ok()?);
        let day = Day(get(&mut bytes)?.try_into().ok()?);
        let length = usize::try_from(get(&mut bytes)?).ok()?;
        let (mut tally, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        if wanted(link) {
            rows.insert((link, day), DayTally::decode(&mut tally)?);
        }
    }
    Some(rows)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally() -> impl Strategy<Value = DayTally> {
        let hosts = prop::collection::vec(("[a-z]{1,8}", 1_u64..1_000), 0..100);
        (hosts, any::<[u32; 5]>(), prop::collection::vec(any::<u64>(), 0..50), any::<u32>())
            .prop_map(|(hosts, browsers, visitors, bots)| {
                let browsers = browsers.map(u64::from);
                let clicks = browsers.iter().sum();
                let mut tally =
                    DayTally { clicks, bots: bots.into(), browsers, ..Default::default() };
                hosts.iter().for_each(|(host, clicks)| tally.add_referrer(host, *clicks));
                visitors.iter().for_each(|visitor| tally.visitors.insert(*visitor));
                tally
            })
    }

    proptest! {
        #[test]
        fn a_batch_survives_its_bytes(rows in prop::collection::btree_map((0_u32..99, 0_u16..9), tally(), 0..9)) {
            let rows: Tallies =
                rows.into_iter().map(|((link, day), row)| ((LinkId(link), Day(day)), row)).collect();
            let mut bytes = Vec::new();
            rows.iter().for_each(|(of, row)| encode_row(&mut bytes, *of, row));
            prop_assert_eq!(decode_some(&bytes, |_| true), Some(rows.clone()));
            let some = decode_some(&bytes, |link| link.0 < 50).unwrap();
            prop_assert!(some.iter().eq(rows.iter().filter(|((link, _), _)| link.0 < 50)));
        }

        #[test]
        fn merging_counts_everything_once(left in tally(), right in tally()) {
            let total = |tally: &DayTally| tally.referrers.values().sum::<u64>() + tally.other_referrers;
            let mut merged = left.clone();
            merged.merge(&right);
            prop_assert_eq!(merged.clicks, left.clicks + right.clicks);
            prop_assert_eq!(total(&merged), total(&left) + total(&right));
            prop_assert!(merged.referrers.len() <= REFERRERS_MAX);
        }

        #[test]
        fn bytes_that_are_no_batch_are_refused_not_a_panic(bytes: Vec<u8>) {
            let _ = decode_some(&bytes, |_| true);
        }
    }
}
