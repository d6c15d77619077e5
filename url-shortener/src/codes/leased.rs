//! A counter for many writers: each takes a block of numbers from the shared store and counts
//! through it alone.
//!
//! One round trip pays for [`BLOCK`] codes, and a writer that dies loses at most a block: numbers
//! are plenty, so a gap costs nothing. [`Ids`] is the counter; [`Counted`] shows the numbers as
//! they are, which tells everybody how many links there are and what the next code will be.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Codes, Draw, Sequences, Traits};
use crate::code::Code;
use crate::link::Error;

/// Numbers leased at once. A larger block wastes more when a server stops, a smaller one asks the
/// store more often.
pub const BLOCK: u64 = 1_000;

/// Numbers that no other holder of the same sequence ever gets.
pub struct Ids<S> {
    store: Arc<S>,
    sequence: &'static str,
    block: Mutex<Range<u64>>,
}

impl<S: Sequences> Ids<S> {
    /// Counts in `sequence` of `store`; asks it for nothing until the first number is needed.
    pub fn new(store: Arc<S>, sequence: &'static str) -> Self {
        Self { store, sequence, block: Mutex::new(0..0) }
    }

    /// The next number.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when a new block is needed and the store does not answer.
    pub async fn next(&self) -> Result<u64, Error> {
        // Held across the lease: those who come meanwhile wait for the one block instead of each
        // leasing their own.
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.store.lease(self.sequence, BLOCK).await?;
        }
        block.next().ok_or(Error::NoFreeCode { attempts: 0 })
    }
}

/// The counter itself, in base 62.
pub struct Counted<S> {
    ids: Ids<S>,
    length: usize,
}

impl<S: Sequences> Counted<S> {
    /// Codes of at least `length` digits.
    pub fn new(ids: Ids<S>, length: usize) -> Self {
        Self { ids, length }
    }
}

impl<S: Sequences> Codes for Counted<S> {
    fn traits(&self) -> Traits {
        Traits { unique: true, hides_order: false, length: (self.length, self.length.max(11)) }
    }

    async fn draw(&self, _: Draw<'_>) -> Result<Code, Error> {
        Ok(Code::base62(self.ids.next().await?, self.length))
    }
}
