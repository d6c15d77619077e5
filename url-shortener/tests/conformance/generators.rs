//! Our generators, and the wrong ones: a counter in base 62 with one mistake each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use service::Clock;
use url_shortener::code::ALPHABET;
use url_shortener::codes::feistel::Permutation;
use url_shortener::codes::{AnyCodes, Codes, Draw, Scheme, Traits};
use url_shortener::conformance::codes::Fixture;
use url_shortener::store::memory::Memory;
use url_shortener::{Code, Error};

/// One of ours over a store in memory.
pub(crate) struct Ours {
    scheme: Scheme,
    store: Arc<Memory>,
}

impl Ours {
    pub(crate) fn new(scheme: Scheme) -> Self {
        Self { scheme, store: Arc::default() }
    }
}

impl Fixture for Ours {
    type Codes = AnyCodes<Memory>;

    async fn start(&self) -> Self::Codes {
        let codes = AnyCodes::new(self.scheme, 7, &self.store, Clock::system()).await;
        codes.expect("memory always answers")
    }
}

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Flaw {
        Base64Alphabet => codes_are_of_the_length_and_the_alphabet,
        StartsAtOneAgain => a_restart_repeats_nothing,
        WritersShareNothing => writers_do_not_collide,
        ForgetsToWalkTheCycle => a_unique_generator_never_repeats,
        HashCutTooShort => a_unique_generator_never_repeats,
        SameHashEachAttempt => a_taken_code_is_not_drawn_again,
        MultipliesByAConstant => the_order_does_not_show,
        ModuloOfAByte => all_digits_are_used_alike,
    }
}

/// The fixture: a counter that all processes share, unless that is the flaw.
pub(crate) struct FlawedFixture {
    pub(crate) flaw: Flaw,
    pub(crate) counter: Arc<AtomicU64>,
}

impl Fixture for FlawedFixture {
    type Codes = Flawed;

    async fn start(&self) -> Flawed {
        let alone = matches!(self.flaw, Flaw::StartsAtOneAgain | Flaw::WritersShareNothing);
        let counter = if alone { Arc::default() } else { Arc::clone(&self.counter) };
        let (permutation, small) =
            (Permutation::new(&[5; 32], SPACE), Permutation::new(&[5; 32], 1 << 24));
        Flawed { flaw: self.flaw, counter, permutation, small }
    }
}

pub(crate) struct Flawed {
    flaw: Flaw,
    counter: Arc<AtomicU64>,
    permutation: Permutation,
    small: Permutation,
}

const SPACE: u64 = 62_u64.pow(7);

impl Codes for Flawed {
    fn traits(&self) -> Traits {
        Traits { unique: true, hides_order: true, length: (7, 7) }
    }

    async fn draw(&self, draw: Draw<'_>) -> Result<Code, Error> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let image = self.permutation.apply(number);
        // A hash of the target alone, by a generator seeded with its bytes.
        let seed =
            draw.target.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let mut hash = fastrand::Rng::with_seed(seed);
        match self.flaw {
            Flaw::Base64Alphabet if number % 2 == 1 => Code::parse("abc-def"),
            Flaw::StartsAtOneAgain | Flaw::WritersShareNothing | Flaw::Base64Alphabet => {
                Ok(Code::base62(image, 7))
            }
            // A permutation of 2^24, folded into 62^4 instead of walked: some images meet. (In
            // 2^42 and 62^7 a fifth of the codes is hit twice, but not among the first 20,000.)
            Flaw::ForgetsToWalkTheCycle => {
                Ok(Code::base62(self.small.apply(number) % 62_u64.pow(4), 7))
            }
            Flaw::HashCutTooShort => Ok(Code::base62(hash.u64(..62_u64.pow(4)), 7)),
            Flaw::SameHashEachAttempt => Ok(Code::base62(hash.u64(..SPACE), 7)),
            Flaw::MultipliesByAConstant => Ok(Code::base62((number * 1_000_003) % SPACE, 7)),
            Flaw::ModuloOfAByte => {
                let digit = |_| char::from(ALPHABET[fastrand::u8(..) as usize % 62]);
                Code::parse(&(0..7).map(digit).collect::<String>())
            }
        }
    }
}
