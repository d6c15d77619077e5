//! A counter through a keyed permutation of exactly 62^k codes: no two numbers give the same code,
//! no lookup is needed, and the order does not show.
//!
//! A Feistel network permutes the smallest even number of bits that covers 62^k. A result outside
//! of 62^k is sent through again until it falls inside (*cycle walking*): following a cycle of a
//! permutation from a point inside always comes back inside, so what is left is a permutation of
//! 62^k itself. For k = 7 that takes 1.25 rounds through the network on average.
//!
//! Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002), sections 3 and 4.
//!
//! Trap: this hides how many links there are; it is not access control. With n of the 62^7 codes
//! in use, every guess hits with probability n / 62^7. Unlisted links get long random codes.

use sha2::{Digest, Sha256};

use super::leased::Ids;
use super::{Codes, Draw, Sequences, Traits, space};
use crate::code::Code;
use crate::link::Error;

/// Rounds of the network. Four make a pseudorandom permutation for large halves (Luby, Rackoff);
/// the halves here are about 21 bits, for which eight leave a margin.
const ROUNDS: u8 = 8;

/// A permutation of the numbers below `space`.
#[derive(Clone)]
pub struct Permutation {
    key: [u8; 32],
    space: u64,
    half_bits: u32,
}

impl Permutation {
    /// The permutation of `0..space` that `key` selects.
    pub fn new(key: &[u8; 32], space: u64) -> Self {
        let bits = 64 - space.saturating_sub(1).leading_zeros();
        Self { key: *key, space, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where `number` goes.
    ///
    /// # Panics
    /// When `number` is not below the space: its image would not be either.
    pub fn apply(&self, number: u64) -> u64 {
        self.walk(number, |network, at| network.network(at, 0..ROUNDS, false))
    }

    /// Where it came from.
    ///
    /// # Panics
    /// Like [`apply`](Self::apply).
    pub fn invert(&self, image: u64) -> u64 {
        self.walk(image, |network, at| network.network(at, 0..ROUNDS, true))
    }

    fn walk(&self, start: u64, step: impl Fn(&Self, u64) -> u64) -> u64 {
        assert!(start < self.space, "{start} is outside of 0..{}", self.space);
        let mut at = step(self, start);
        while at >= self.space {
            at = step(self, at);
        }
        at
    }

    fn network(&self, number: u64, rounds: std::ops::Range<u8>, backwards: bool) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        let mut round = |round: u8| match backwards {
            false => (left, right) = (right, left ^ (self.mix(round, right) & mask)),
            true => (left, right) = (right ^ (self.mix(round, left) & mask), left),
        };
        match backwards {
            false => rounds.for_each(&mut round),
            true => rounds.rev().for_each(&mut round),
        }
        left << self.half_bits | right
    }

    /// The round function: one block of SHA-256 over key, round and half.
    fn mix(&self, round: u8, half: u64) -> u64 {
        let hash = Sha256::new().chain_update(self.key).chain_update([round]);
        let digest = hash.chain_update(half.to_le_bytes()).finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

/// Leased numbers, permuted.
pub struct Permuted<S> {
    ids: Ids<S>,
    permutation: Permutation,
    length: usize,
}

impl<S: Sequences> Permuted<S> {
    /// All codes of exactly `length` digits, in the order that `secret` selects.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the length is not 1 to 10.
    pub fn new(ids: Ids<S>, length: usize, secret: &[u8; 32]) -> Result<Self, Error> {
        // A key of its own for each length: the same secret serves other purposes too.
        let key = Sha256::new().chain_update(b"code permutation").chain_update([length as u8]);
        let key = key.chain_update(secret).finalize().into();
        Ok(Self { ids, permutation: Permutation::new(&key, space(length)?), length })
    }
}

impl<S: Sequences> Codes for Permuted<S> {
    fn traits(&self) -> Traits {
        Traits { unique: true, hides_order: true, length: (self.length, self.length) }
    }

    async fn draw(&self, _: Draw<'_>) -> Result<Code, Error> {
        let number = self.ids.next().await?;
        if number >= self.permutation.space {
            // Every code of this length was given out: the operator must choose longer ones.
            return Err(Error::NoFreeCode { attempts: 1 });
        }
        Ok(Code::base62(self.permutation.apply(number), self.length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_code_of_a_small_space_comes_exactly_once() {
        // 62, 62^2, and spaces that just fit a network or just do not.
        for space in [space(1).unwrap(), space(2).unwrap(), 1, 2, 1_023, 1_024, 1_025] {
            let permutation = Permutation::new(&[7; 32], space);
            let mut seen = vec![false; space as usize];
            for number in 0..space {
                let image = permutation.apply(number);
                assert!(!std::mem::replace(&mut seen[image as usize], true), "{image} came twice");
            }
        }
    }

    proptest! {
        #[test]
        fn the_inverse_undoes_it_in_every_space(
            key: [u8; 32], space in 1_u64..62_u64.pow(10), number: u64
        ) {
            let permutation = Permutation::new(&key, space);
            let number = number % space;
            let image = permutation.apply(number);
            prop_assert!(image < space);
            prop_assert_eq!(permutation.invert(image), number);
        }
    }
}
