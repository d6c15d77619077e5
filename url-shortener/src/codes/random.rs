//! Random digits, and another draw when the code is taken.
//!
//! Nothing to share, nothing to lose, nothing to guess. With n links and codes of length k a draw
//! is taken with probability n / 62^k: 2.8e-5 for a hundred million links and k = 7, so almost no
//! create draws twice. What grows with the square of n is only the chance that *somebody* ever
//! has to.

use super::{Codes, Draw, Traits, space};
use crate::code::{ALPHABET, CODE_BYTES_MAX, Code};
use crate::link::Error;

/// The length of an unlisted link's code: 62^16 is 95 bits, which nobody scans.
pub const UNLISTED_LENGTH: usize = 16;

/// From this attempt on codes are longer: so many draws in a row only fail when the space is
/// filling up.
const LENGTHEN_FROM_ATTEMPT: u32 = 3;

/// Codes from the operating system's secure random source.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    length: usize,
}

impl Random {
    /// Codes of `length` digits.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the length is not 1 to 10.
    pub fn new(length: usize) -> Result<Self, Error> {
        space(length).map(|_| Self { length })
    }

    /// Codes nobody can guess.
    pub fn unlisted() -> Self {
        Self { length: UNLISTED_LENGTH }
    }
}

impl Codes for Random {
    fn traits(&self) -> Traits {
        let longest = (self.length + 8).min(CODE_BYTES_MAX);
        Traits { unique: false, hides_order: true, length: (self.length, longest) }
    }

    async fn draw(&self, draw: Draw<'_>) -> Result<Code, Error> {
        let longer = draw.attempt.saturating_sub(LENGTHEN_FROM_ATTEMPT - 1).min(8) as usize;
        random_digits(self.length + longer)
    }
}

fn random_digits(length: usize) -> Result<Code, Error> {
    let mut digits = String::with_capacity(length);
    let mut random = [0_u8; 32];
    while digits.len() < length {
        getrandom::fill(&mut random).map_err(|error| Error::unavailable("randomness", error))?;
        // Trap: `byte % 62` alone would draw eight of the digits five times for every four of the
        // others. Bytes beyond the last multiple of 62 are thrown away.
        let even = random.iter().filter(|byte| **byte < 248).map(|byte| byte % 62);
        digits.extend(even.map(|digit| char::from(ALPHABET[digit as usize])));
    }
    digits.truncate(length);
    Code::parse(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_as_likely_as_any_other() {
        let mut counts = [0_u32; 128];
        for _ in 0..4_000 {
            let code = random_digits(31).unwrap();
            code.as_str().bytes().for_each(|digit| counts[digit as usize] += 1);
        }
        // 2,000 of each are expected with a deviation of 44; `% 62` alone would give 2,420 to
        // eight of them.
        for digit in ALPHABET {
            let count = counts[*digit as usize];
            assert!((1_720..2_280).contains(&count), "{} came {count} times", *digit as char);
        }
    }
}
