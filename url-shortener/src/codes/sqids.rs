//! A counter through Sqids, the successor of Hashids: short, reversible, and free of (most)
//! profanity.
//!
//! Trap: Sqids is an encoding, not encryption. The shuffled alphabet keeps casual readers from
//! counting; whoever has a few codes in a row can find the alphabet and then the next code.

use sha2::{Digest, Sha256};
use sqids::Sqids;

use super::leased::Ids;
use super::{Codes, Draw, Sequences, Traits, space};
use crate::code::{ALPHABET, CODE_BYTES_MAX, Code};
use crate::link::Error;

/// Leased numbers, encoded.
pub struct SqidsCodes<S> {
    ids: Ids<S>,
    sqids: Sqids,
    length: usize,
}

impl<S: Sequences> SqidsCodes<S> {
    /// Codes of at least `length` digits over an alphabet that `secret` shuffles.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the length is not 1 to 10.
    pub fn new(ids: Ids<S>, length: usize, secret: &[u8; 32]) -> Result<Self, Error> {
        space(length)?;
        let sqids = Sqids::builder().alphabet(shuffled(secret)).min_length(length as u8).build();
        let sqids = sqids.map_err(|error| Error::invalid("code_length", error.to_string()))?;
        Ok(Self { ids, sqids, length })
    }
}

/// The alphabet, ordered by a keyed hash of each letter.
fn shuffled(secret: &[u8; 32]) -> Vec<char> {
    let mut letters: Vec<u8> = ALPHABET.to_vec();
    letters.sort_by_cached_key(|letter| -> [u8; 32] {
        Sha256::new()
            .chain_update(b"sqids")
            .chain_update(secret)
            .chain_update([*letter])
            .finalize()
            .into()
    });
    letters.into_iter().map(char::from).collect()
}

impl<S: Sequences> Codes for SqidsCodes<S> {
    fn traits(&self) -> Traits {
        // One letter of prefix, and a blocked word may lengthen it.
        Traits { unique: true, hides_order: false, length: (self.length, CODE_BYTES_MAX) }
    }

    async fn draw(&self, _: Draw<'_>) -> Result<Code, Error> {
        let number = self.ids.next().await?;
        let text = self.sqids.encode(&[number]);
        Code::parse(&text.map_err(|error| Error::invalid("code", error.to_string()))?)
    }
}
