//! Where redirects leave their clicks: bounded, and never a wait.
//!
//! Each thread has a ring of its own, so its lock is free except for the moment the pipeline
//! swaps the ring's vector for an empty one. A full ring does not drop: it goes on counting by
//! link and day and only leaves out who it was. So totals are exact under any load, and memory is
//! bounded by the rings and by one counter per link that exists.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::Day;
use super::visit::{Browser, HostId};
use crate::link::LinkId;

/// Rings; threads share them round-robin.
const RINGS: usize = 16;
/// Clicks in a ring (1.5 MiB). At the bound, clicks lose their details, see above.
pub const RING_CLICKS_MAX: usize = 65_536;
/// From here on the pipeline is woken early.
const RING_CLICKS_WAKE: usize = RING_CLICKS_MAX / 2;

/// One click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Click {
    /// Of which link.
    pub link: LinkId,
    /// When.
    pub day: Day,
    /// The person's browser; `None` for a program.
    pub browser: Option<Browser>,
    /// Where the visitor came from.
    pub host: HostId,
    /// Who, as a hash.
    pub visitor: u64,
}

impl Click {
    /// What it is counted under.
    pub fn of(&self) -> (LinkId, Day) {
        (self.link, self.day)
    }
}

/// Clicks of which only the number is known, people and programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    /// People.
    pub clicks: u64,
    /// Programs.
    pub bots: u64,
}

#[derive(Default)]
struct Ring {
    clicks: Vec<Click>,
    without_detail: HashMap<(LinkId, Day), Uncounted>,
}

/// The rings of a process.
pub struct Rings {
    rings: Box<[CachePadded<Mutex<Ring>>]>,
}

impl Default for Rings {
    fn default() -> Self {
        Self { rings: (0..RINGS).map(|_| CachePadded::default()).collect() }
    }
}

impl Rings {
    /// Leaves a click; true when the pipeline should come soon.
    pub fn push(&self, click: Click) -> bool {
        let mut ring = self.rings[ring_of_this_thread()].lock();
        if ring.clicks.len() < RING_CLICKS_MAX {
            ring.clicks.push(click);
        } else {
            let counted = ring.without_detail.entry((click.link, click.day)).or_default();
            match click.browser {
                Some(_) => counted.clicks += 1,
                None => counted.bots += 1,
            }
        }
        ring.clicks.len() == RING_CLICKS_WAKE
    }

    /// Takes everything out.
    pub fn drain(
        &self,
        mut each: impl FnMut(Click),
        mut without_detail: impl FnMut((LinkId, Day), Uncounted),
    ) {
        for ring in &self.rings {
            // Swapped under the lock, read outside of it: redirects wait for a swap only.
            let taken = std::mem::take(&mut *ring.lock());
            taken.clicks.into_iter().for_each(&mut each);
            taken.without_detail.into_iter().for_each(|(of, count)| without_detail(of, count));
        }
    }
}

fn ring_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static RING: usize = NEXT.fetch_add(1, Ordering::Relaxed) % RINGS;
    }
    RING.with(|ring| *ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_goes_on_counting() {
        let rings = Rings::default();
        let click =
            |browser| Click { link: LinkId(1), day: Day(9), browser, host: HostId(0), visitor: 3 };
        let mut woken = 0;
        for _ in 0..RING_CLICKS_MAX + 5 {
            woken += u32::from(rings.push(click(Some(Browser::Chrome))));
        }
        rings.push(click(None));
        let (mut clicks, mut counted) = (0, Vec::new());
        rings.drain(|_| clicks += 1, |of, count| counted.push((of, count)));
        assert_eq!((clicks, woken), (RING_CLICKS_MAX, 1));
        assert_eq!(counted, [((LinkId(1), Day(9)), Uncounted { clicks: 5, bots: 1 })]);
        rings.drain(|_| panic!("taken already"), |_, _| panic!("taken already"));
    }
}
