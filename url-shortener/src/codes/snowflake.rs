//! Time, node and sequence in 63 bits: unique without asking anybody for each code, and sortable.
//!
//! 41 bits of milliseconds (69 years), 10 bits of node, 12 bits of sequence. The codes are long
//! (11 digits) and tell when a link was made; neighbours are easy to guess.
//!
//! Source: Twitter's Snowflake (2010). The original refused to work while the clock ran backwards;
//! here time stands still until the clock has caught up, and when the 4,096 numbers of a
//! millisecond are used up, the next millisecond is borrowed.

use parking_lot::Mutex;
use service::Clock;

use super::{Codes, Draw, Sequences, Traits};
use crate::code::Code;
use crate::link::Error;

/// 2026-01-01T00:00:00Z; counting from 1970 would waste 56 of the 69 years.
const EPOCH_MS: u64 = 1_767_225_600_000;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
/// Nodes at once. One more would share a number with the first and repeat its codes.
pub const NODES_MAX: u64 = 1 << NODE_BITS;
/// How far ahead of the clock a busy node may borrow. Beyond it a restart could come back into
/// the borrowed time and repeat codes, so the node refuses instead.
const AHEAD_MS_MAX: u64 = 1_000;
const LENGTH: usize = 11;

/// The codes of one node.
pub struct Snowflake {
    node: u64,
    clock: Clock,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    ms: u64,
    sequence: u64,
}

impl Snowflake {
    /// The codes of `node`, which no other process may have at the same time.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the node is not below [`NODES_MAX`].
    pub fn new(node: u64, clock: Clock) -> Result<Self, Error> {
        if node >= NODES_MAX {
            return Err(Error::invalid("node", format!("must be below {NODES_MAX}")));
        }
        Ok(Self { node, clock, last: Mutex::default() })
    }

    /// The codes of the next free node: each start takes a new number, so a restarted process
    /// shares no millisecond with its former self.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    ///
    /// Trade-off: numbers come round after 1,024 starts; a process that runs through all of them
    /// would share its node.
    pub async fn on_leased_node(store: &impl Sequences, clock: Clock) -> Result<Self, Error> {
        let starts = store.lease("snowflake nodes", 1).await?;
        Self::new(starts.start % NODES_MAX, clock)
    }

    /// The next number: never less than the last one.
    fn next(&self) -> Result<u64, Error> {
        let now_ms = self.clock.now_ms().saturating_sub(EPOCH_MS);
        let mut last = self.last.lock();
        if now_ms > last.ms {
            *last = Last { ms: now_ms, sequence: 0 };
        } else if last.sequence + 1 < 1 << SEQUENCE_BITS {
            last.sequence += 1;
        } else if last.ms < now_ms + AHEAD_MS_MAX {
            *last = Last { ms: last.ms + 1, sequence: 0 };
        } else {
            let what = "the clock is behind the codes given out; it must catch up".to_owned();
            return Err(Error::Unavailable { what, source: None });
        }
        Ok(last.ms << (NODE_BITS + SEQUENCE_BITS) | self.node << SEQUENCE_BITS | last.sequence)
    }
}

impl Codes for Snowflake {
    fn traits(&self) -> Traits {
        Traits { unique: true, hides_order: false, length: (LENGTH, LENGTH) }
    }

    async fn draw(&self, _: Draw<'_>) -> Result<Code, Error> {
        self.next().map(|number| Code::base62(number, LENGTH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_repeats_nothing_and_one_that_stays_back_is_refused() {
        let clock = Clock::manual(EPOCH_MS + 10_000);
        let codes = Snowflake::new(3, clock.clone()).unwrap();
        let first = codes.next().unwrap();
        clock.set_ms(EPOCH_MS + 9_500);
        let mut last = first;
        for _ in 0..10_000 {
            let number = codes.next().unwrap();
            assert!(number > last, "{number} came after {last}");
            last = number;
        }
        clock.set_ms(EPOCH_MS);
        let refused = (0..5_000).find_map(|_| codes.next().err()).expect("time cannot be borrowed");
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
    }
}
