//! How codes are made: one contract, six answers.
//!
//! | answer | never repeats | hides the order | needs |
//! |---|---|---|---|
//! | [`random`] | no: retry | yes | a secure random source |
//! | [`feistel`] | yes | yes | a counter and a key |
//! | [`sqids`] | yes | a little | a counter |
//! | [`snowflake`] | yes | no | a clock and a node number |
//! | [`hashed`] | no: retry | yes | nothing at all |
//! | [`leased`] | yes | no | a counter |
//!
//! "Never repeats" is about the generator: a client's alias may have taken any code, so whoever
//! creates a link always inserts under a uniqueness constraint and draws again when it loses.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use crate::code::Code;
use crate::link::Error;

pub mod leased;
pub mod feistel;
pub mod sqids;
pub mod random;
pub mod hashed;
pub mod snowflake;

/// What one code is drawn for.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Where the link will lead.
    pub target: &'a str,
    /// 0 at first; one more each time the drawn code was taken.
    pub attempt: u32,
}

/// What a generator promises beyond the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Two draws never give the same code, from however many writers.
    pub unique: bool,
    /// From one code nobody can tell the next.
    pub hides_order: bool,
    /// The lengths of its codes.
    pub length: (usize, usize),
}

/// A generator of codes. Cheap to share: every method takes `&self`.
pub trait Codes: Send + Sync + 'static {
    /// What it promises.
    fn traits(&self) -> Traits;

    /// Draws a code. After a code that was taken, the draw with the next `attempt` gives another.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the shared counter cannot be reached, [`Error::NoFreeCode`]
    /// when the space is used up.
    fn draw(&self, draw: Draw<'_>) -> impl Future<Output = Result<Code, Error>> + Send;
}

/// What the counting generators need from a store that all servers share.
pub trait Sequences: Send + Sync + 'static {
    /// Takes the next `count` numbers of the sequence: nobody else ever gets them, also after a
    /// crash. Numbers that were taken and not used are lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn lease(
        &self,
        sequence: &'static str,
        count: u64,
    ) -> impl Future<Output = Result<Range<u64>, Error>> + Send;

    /// The secret of this installation: drawn once, the same for ever and on all servers. Codes
    /// are permuted with it, so losing it would give out codes again.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn secret(&self) -> impl Future<Output = Result<[u8; 32], Error>> + Send;
}

/// The generators by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scheme {
    /// Random, and another draw when it is taken
    Random,
    /// A counter through a keyed permutation
    #[default]
    Feistel,
    /// A counter through Sqids
    Sqids,
    /// Time, node and sequence
    Snowflake,
    /// The hash of the target, cut off
    Hashed,
    /// A counter as it is
    Leased,
}

impl Scheme {
    /// All of them, in the order of the table above.
    pub const ALL: [Self; 6] =
        [Self::Random, Self::Feistel, Self::Sqids, Self::Snowflake, Self::Hashed, Self::Leased];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Feistel => "feistel",
            Self::Sqids => "sqids",
            Self::Snowflake => "snowflake",
            Self::Hashed => "hashed",
            Self::Leased => "leased",
        }
    }
}

/// Any of the generators, over the counter of a store.
pub enum AnyCodes<S> {
    /// See [`random`].
    Random(random::Random),
    /// See [`feistel`].
    Feistel(feistel::Permuted<S>),
    /// See [`sqids`].
    Sqids(sqids::SqidsCodes<S>),
    /// See [`snowflake`].
    Snowflake(snowflake::Snowflake),
    /// See [`hashed`].
    Hashed(hashed::Hashed),
    /// See [`leased`].
    Leased(leased::Counted<S>),
}

impl<S: Sequences> AnyCodes<S> {
    /// The generator of `scheme`, with codes of `length` where it can choose.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not answer, [`Error::Invalid`] for a length the
    /// scheme cannot have.
    pub async fn new(
        scheme: Scheme,
        length: usize,
        store: &Arc<S>,
        clock: service::Clock,
    ) -> Result<Self, Error> {
        let secret = store.secret().await?;
        let ids = || leased::Ids::new(Arc::clone(store), "links");
        Ok(match scheme {
            Scheme::Random => Self::Random(random::Random::new(length)?),
            Scheme::Feistel => Self::Feistel(feistel::Permuted::new(ids(), length, &secret)?),
            Scheme::Sqids => Self::Sqids(sqids::SqidsCodes::new(ids(), length, &secret)?),
            Scheme::Snowflake => {
                Self::Snowflake(snowflake::Snowflake::on_leased_node(&**store, clock).await?)
            }
            Scheme::Hashed => Self::Hashed(hashed::Hashed::new(length)?),
            Scheme::Leased => Self::Leased(leased::Counted::new(ids(), length)),
        })
    }
}

impl<S: Sequences> Codes for AnyCodes<S> {
    fn traits(&self) -> Traits {
        match self {
            Self::Random(codes) => codes.traits(),
            Self::Feistel(codes) => codes.traits(),
            Self::Sqids(codes) => codes.traits(),
            Self::Snowflake(codes) => codes.traits(),
            Self::Hashed(codes) => codes.traits(),
            Self::Leased(codes) => codes.traits(),
        }
    }

    async fn draw(&self, draw: Draw<'_>) -> Result<Code, Error> {
        match self {
            Self::Random(codes) => codes.draw(draw).await,
            Self::Feistel(codes) => codes.draw(draw).await,
            Self::Sqids(codes) => codes.draw(draw).await,
            Self::Snowflake(codes) => codes.draw(draw).await,
            Self::Hashed(codes) => codes.draw(draw).await,
            Self::Leased(codes) => codes.draw(draw).await,
        }
    }
}

/// The longest codes whose number still fits in 64 bits.
pub(crate) const LENGTH_MAX: usize = 10;

/// How many codes of this length there are: 62 to the power of `length`.
pub(crate) fn space(length: usize) -> Result<u64, Error> {
    match length {
        1..=LENGTH_MAX => Ok(62_u64.pow(length as u32)),
        _ => Err(Error::invalid("code_length", format!("must be 1 to {LENGTH_MAX}"))),
    }
}
