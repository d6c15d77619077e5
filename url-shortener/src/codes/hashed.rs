//! The hash of the target, cut to k digits: the same target gives the same code, without asking
//! anybody.
//!
//! Cutting brings collisions, by the birthday bound: with k = 7 (41.7 bits) one is likelier than
//! not after 2.2 million *targets*. So it needs the retry of [`super::random`] as well, and then
//! loses what it was chosen for: whether a target has its first code or its second depends on who
//! came before. It also lets anybody test whether a target was shortened.

use sha2::{Digest, Sha256};

use super::{Codes, Draw, Traits, space};
use crate::code::Code;
use crate::link::Error;

/// Truncated SHA-256.
#[derive(Clone, Copy, Debug)]
pub struct Hashed {
    length: usize,
    space: u64,
}

impl Hashed {
    /// Codes of `length` digits.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the length is not 1 to 10.
    pub fn new(length: usize) -> Result<Self, Error> {
        Ok(Self { length, space: space(length)? })
    }
}

impl Codes for Hashed {
    fn traits(&self) -> Traits {
        Traits { unique: false, hides_order: true, length: (self.length, self.length) }
    }

    async fn draw(&self, draw: Draw<'_>) -> Result<Code, Error> {
        let hash = Sha256::new().chain_update(draw.attempt.to_le_bytes());
        let digest = hash.chain_update(draw.target).finalize();
        // 128 bits before the remainder: with 64 the low codes would be visibly likelier for k=10.
        let number = u128::from_le_bytes(digest[..16].try_into().expect("a digest has 32 bytes"));
        Ok(Code::base62((number % u128::from(self.space)) as u64, self.length))
    }
}
