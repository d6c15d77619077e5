//! The contract: what a store of links promises, and the words it promises it in.
//!
//! A *link* is a [`Code`] that leads to a [`TargetUrl`] under some [`Terms`].
//! Everything in [`store`](crate::store) is an *answer*: an implementation of [`Links`] that keeps
//! the same promises at another price.
//!
//! Invariants, each a test of the same name in `conformance`:
//! - `one_code_has_one_winner`: of any number of racing creates of a code exactly one succeeds.
//! - `a_deleted_code_stays_taken`: somebody printed it; it must never lead elsewhere.
//! - `a_stale_version_changes_nothing`: versions only grow, and a write names the one it read.
//! - `a_repeated_create_answers_the_same_bytes`: the reply is stored with the link, or neither is.
//! - `a_limited_link_admits_exactly_that_many`: also when the visitors come at once.

use std::fmt;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::target_url::TargetUrl;

/// Tags on one link. More would make the tag index larger than the links.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// Links in one call of [`Links::create`]: a larger batch would hold the writer for too long.
pub const BATCH_LINKS_MAX: usize = 2_000;
/// Links on one page of [`Links::list`].
pub const PAGE_LINKS_MAX: u32 = 200;
/// How long a create is remembered by its `Idempotency-Key`.
pub const REPLAY_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// Numbers the links of a store, in the order of their creation. Never shown to clients: it would
/// tell how many links there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// Grows with every change of a link, deletion included; its ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    /// What a new link has.
    pub const FIRST: Self = Self(1);

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Who created a link and alone may see and change it: the id of an API key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub String);

/// How the redirect is phrased. 302 by default: a browser asks again each time, so that clicks
/// are counted and a changed link takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum Redirect {
    /// 301: permanent, and a POST may become a GET.
    MovedPermanently,
    /// 302.
    #[default]
    Found,
    /// 307: temporary, the method stays.
    Temporary,
    /// 308: permanent, the method stays.
    Permanent,
}

impl Redirect {
    /// All of them; the position is how compact stores write it down.
    pub const ALL: [Self; 4] =
        [Self::MovedPermanently, Self::Found, Self::Temporary, Self::Permanent];

    /// The HTTP status.
    pub fn status(self) -> u16 {
        [301, 302, 307, 308][self as usize]
    }

    /// Whether browsers keep it, and so stop asking.
    pub fn is_permanent(self) -> bool {
        matches!(self, Self::MovedPermanently | Self::Permanent)
    }
}

impl TryFrom<u16> for Redirect {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|redirect| redirect.status() == status);
        found.ok_or_else(|| format!("{status} is not one of 301, 302, 307, 308"))
    }
}

impl From<Redirect> for u16 {
    fn from(redirect: Redirect) -> u16 {
        redirect.status()
    }
}

/// Everything about a link that its creator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The path of the short URL.
    pub code: Code,
    /// Where it leads.
    pub target: TargetUrl,
    /// Who may change it.
    pub owner: Owner,
    /// When it was created.
    pub created_at_ms: u64,
    /// From when on it answers 410.
    pub expires_at_ms: Option<u64>,
    /// How many visits it admits before it answers 410.
    pub max_visits: Option<u32>,
    /// Which status it answers with.
    pub redirect: Redirect,
    /// For its owner to find it by.
    pub tags: Vec<String>,
    /// Whether the code must not be guessable.
    pub unlisted: bool,
}

/// A link as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// How often it was changed, plus one.
    pub version: Version,
    /// Whether it redirects; a disabled link answers 410.
    pub enabled: bool,
    /// The rest.
    pub terms: Terms,
}

/// What to change; `None` leaves a field as it is, `Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Where it leads.
    pub target: Option<TargetUrl>,
    /// When it ends.
    pub expires_at_ms: Option<Option<u64>>,
    /// How many visits it admits; those already made count.
    pub max_visits: Option<Option<u32>>,
    /// Which status it answers with.
    pub redirect: Option<Redirect>,
    /// Its tags, all of them.
    pub tags: Option<Vec<String>>,
    /// Whether it redirects.
    pub enabled: Option<bool>,
}

impl Link {
    /// The link after `change`, one version on.
    #[must_use]
    pub fn changed(mut self, change: Change) -> Self {
        let terms = &mut self.terms;
        terms.target = change.target.unwrap_or_else(|| terms.target.clone());
        terms.expires_at_ms = change.expires_at_ms.unwrap_or(terms.expires_at_ms);
        terms.max_visits = change.max_visits.unwrap_or(terms.max_visits);
        terms.redirect = change.redirect.unwrap_or(terms.redirect);
        terms.tags = change.tags.unwrap_or_else(|| std::mem::take(&mut terms.tags));
        self.enabled = change.enabled.unwrap_or(self.enabled);
        self.version = self.version.next();
        self
    }
}

/// A link to be created, and how to recognise the request if it comes again.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The link.
    pub terms: Terms,
    /// Present when the client sent an `Idempotency-Key`.
    pub once: Option<Once>,
}

/// A create that must happen once. Its scope is the link's owner.
#[derive(Clone, Debug)]
pub struct Once {
    /// The client's key.
    pub key: String,
    /// Of the request; another one under the same key is refused.
    pub fingerprint: [u8; 32],
    /// What the client is told, now and whenever the request comes again.
    pub reply: Vec<u8>,
}

/// How a create ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The link is new.
    New(Box<Link>),
    /// The request came before; this is what it was told.
    Replayed {
        /// The code of the link it made.
        code: Code,
        /// The stored reply.
        reply: Vec<u8>,
    },
}

/// Which links to list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Only links older than this one.
    pub before: Option<LinkId>,
    /// At most so many, up to [`PAGE_LINKS_MAX`].
    pub limit: u32,
    /// Only links with this tag.
    pub tag: Option<String>,
    /// Only links whose code or target contains this, in either case.
    pub search: Option<String>,
}

/// What a redirect needs to know of a link: a row of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The link.
    pub id: LinkId,
    /// The newer of two entries is the right one.
    pub version: Version,
    /// Whether it redirects at all.
    pub state: State,
    /// How.
    pub redirect: Redirect,
    /// Whether every visit must be charged to the store first.
    pub limited: bool,
    /// Until when.
    pub expires_at_ms: Option<u64>,
    /// The code.
    pub code: &'a str,
    /// Where to; empty for a deleted link.
    pub target: &'a str,
}

/// The life of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It redirects.
    Enabled,
    /// It answers 410 until it is enabled again.
    Disabled,
    /// It answers 404 and is never given out again.
    Deleted,
}

impl State {
    /// All of them; the position is how compact stores write it down.
    pub const ALL: [Self; 3] = [Self::Enabled, Self::Disabled, Self::Deleted];
}

impl Link {
    /// The part of the link that redirects need.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            id: self.id,
            version: self.version,
            state: if self.enabled { State::Enabled } else { State::Disabled },
            redirect: self.terms.redirect,
            limited: self.terms.max_visits.is_some(),
            expires_at_ms: self.terms.expires_at_ms,
            code: self.terms.code.as_str(),
            target: self.terms.target.as_str(),
        }
    }
}

/// A store of links. Cheap to share: every method takes `&self`.
///
/// A method that returned `Ok` has happened and is as durable as the store is; one that returned
/// [`Error::Unavailable`] may have happened.
pub trait Links: Send + Sync + 'static {
    /// Creates each link, or says why not; the rows stand alone, in the order given, and one that
    /// fails harms no other. At most [`BATCH_LINKS_MAX`].
    ///
    /// Each row: [`Error::Taken`] when the code is or ever was in use; with [`Creation::once`],
    /// [`Created::Replayed`] when the same request succeeded before and [`Error::KeyReused`] when
    /// another one did. The link and its reply are written in one transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for the whole batch.
    ///
    /// # Cost
    /// One commit for the batch, shared with whoever else writes at the moment.
    fn create(
        &self,
        batch: Vec<Creation>,
    ) -> impl Future<Output = Result<Vec<Result<Created, Error>>, Error>> + Send;

    /// The link, if this owner has it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    fn get(&self, owner: &Owner, code: &Code) -> impl Future<Output = Result<Link, Error>> + Send;

    /// Changes a link; with `expected`, only if that is its version.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionMismatch`], [`Error::Unavailable`].
    fn update(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        change: Change,
    ) -> impl Future<Output = Result<Link, Error>> + Send;

    /// Deletes a link for good and returns it, one version on. Its code stays taken.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::VersionMismatch`], [`Error::Unavailable`].
    fn delete(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> impl Future<Output = Result<Link, Error>> + Send;

    /// The owner's links, newest first. A page never repeats or skips a link that existed
    /// throughout, whatever is created or deleted between two pages.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    ///
    /// # Cost
    /// One index range; with `search`, a scan of the owner's links until the page is full.
    fn list(
        &self,
        owner: &Owner,
        listing: &Listing,
    ) -> impl Future<Output = Result<Vec<Link>, Error>> + Send;

    /// Charges one visit to a limited link and returns how many are left; with `peek`, charges
    /// nothing. Exact: of any number of callers at once, as many succeed as visits are left.
    ///
    /// # Errors
    /// [`Error::Gone`] when none is left, [`Error::NotFound`], [`Error::Unavailable`].
    fn visit(
        &self,
        code: &Code,
        peek: bool,
    ) -> impl Future<Output = Result<Option<u32>, Error>> + Send;

    /// Calls `each` with the entry of every link there is, to fill an index at the start.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn load(
        &self,
        each: impl FnMut(Entry<'_>) + Send + 'static,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The entry of one code, deleted ones included: the read-through of an index that does not
    /// hold everything.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn look_up(
        &self,
        code: &Code,
    ) -> impl Future<Output = Result<Option<OwnedEntry>, Error>> + Send;

    /// Calls `each` with the entry of every link that other servers change, from the last
    /// [`load`](Self::load) on, at most a second late, until the store fails; then call it again.
    /// An entry may come more than once. A store of one server has nothing to tell and never
    /// returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: changes are not lost, the next call begins with them.
    fn watch(
        &self,
        each: impl FnMut(Entry<'_>) + Send,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = each;
        std::future::pending()
    }

    /// Forgets replies older than [`REPLAY_KEPT_MS`] and folds what was put off; bounded work,
    /// to be called every second or so.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn housekeep(&self, now_ms: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// `Ok` when the store answers now; used by `/readyz`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// An [`Entry`] that owns its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEntry {
    /// The code.
    pub code: Box<str>,
    /// Where to.
    pub target: Box<str>,
    /// The rest, with empty strings.
    rest: Entry<'static>,
}

impl OwnedEntry {
    /// The entry, borrowed.
    pub fn as_entry(&self) -> Entry<'_> {
        Entry { code: &self.code, target: &self.target, ..self.rest }
    }
}

impl From<Entry<'_>> for OwnedEntry {
    fn from(entry: Entry<'_>) -> Self {
        let (code, target) = (entry.code.into(), entry.target.into());
        Self { code, target, rest: Entry { code: "", target: "", ..entry } }
    }
}

/// Why a link that exists does not redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time is over.
    Expired,
    /// Its owner, or the URL policy of today, disabled it.
    Disabled,
    /// All its visits were made.
    UsedUp,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the link has expired",
            Self::Disabled => "the link is disabled",
            Self::UsedUp => "the link has been visited as often as it admits",
        })
    }
}

/// What can go wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong and will stay wrong: fix `field`.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault, as a JSON pointer without its leading slash.
        field: String,
        /// What is wrong with it, as a sentence that starts with the field's name.
        reason: String,
    },
    /// The code is or was in use: choose another.
    #[error("the code \"{0}\" is taken")]
    Taken(Code),
    /// There is no such link, or it belongs to somebody else: these look the same on purpose.
    #[error("there is no link \"{0}\"")]
    NotFound(Code),
    /// The link exists and does not redirect.
    #[error("{0}")]
    Gone(Why),
    /// Somebody changed the link since: read it again.
    #[error("the link is at version {}", current.0)]
    VersionMismatch {
        /// Its version now.
        current: Version,
    },
    /// The idempotency key belongs to another request: use a fresh one.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// The same request is being worked on right now: wait for its answer.
    #[error("a request with this idempotency key is in flight")]
    KeyInFlight,
    /// Every drawn code was taken: the code space is nearly full, use longer codes.
    #[error("no free code in {attempts} attempts")]
    NoFreeCode {
        /// How many were drawn.
        attempts: u32,
    },
    /// The store did not answer; a write may have been made. Try again with an idempotency key.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The client's own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unavailable(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable { what: what.into(), source: Some(Box::new(source)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_leaves_a_field_and_null_clears_it() {
        let link = Link {
            id: LinkId(1),
            version: Version::FIRST,
            enabled: true,
            terms: Terms {
                code: Code::parse("abc").unwrap(),
                target: TargetUrl::stored("https://example.com/".to_owned()),
                owner: Owner("o".to_owned()),
                created_at_ms: 0,
                expires_at_ms: Some(9),
                max_visits: Some(3),
                redirect: Redirect::Found,
                tags: vec!["t".to_owned()],
                unlisted: false,
            },
        };
        let change = Change { expires_at_ms: Some(None), ..Change::default() };
        let changed = link.clone().changed(change);
        assert_eq!(changed.terms.expires_at_ms, None);
        assert_eq!((changed.version, changed.terms.max_visits), (Version(2), Some(3)));
        assert_eq!(changed.terms.tags, link.terms.tags);
    }
}
