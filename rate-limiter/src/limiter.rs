//! The contract: what every rate limiter in this crate promises, and the words it promises it in.
//!
//! A [`Limiter`] enforces one [`Policy`] (one or more limits) for any number of callers, each
//! named by a [`Key`]. Everything else in the crate is an *answer*: an implementation of this
//! trait that keeps the same promises at another price.
//!
//! Invariants, each a test of the same name in `conformance`:
//! - `never_admits_more_than_the_bound`: the bound is the algorithm's own ([`crate::algorithm`]).
//! - `a_denial_changes_nothing`: asking again after a denial gives the answer it would have given.
//! - `retry_after_is_tight`: denied one microsecond before it, allowed at it, if nobody else acts.
//! - `remaining_is_honest`: that many requests of cost one succeed next.
//! - `limits_are_all_or_nothing`: a policy charges all of its limits or none.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Policy;

/// The longest caller key, in bytes. Longer keys are refused: a key is stored as sent in Redis,
/// and without a bound one client could fill the store with a few requests.
pub const KEY_BYTES_MAX: usize = 256;

/// Who is asking: a user, an API token, an address. At least one byte, at most
/// [`KEY_BYTES_MAX`], no control characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<'a>(&'a str);

impl<'a> Key<'a> {
    /// Returns the key, or [`Error::Invalid`] naming the field `key`.
    pub fn new(key: &'a str) -> Result<Self, Error> {
        let reason = match key.len() {
            0 => "must not be empty".to_owned(),
            n if n > KEY_BYTES_MAX => format!("is {n} bytes long; at most {KEY_BYTES_MAX} are"),
            _ if key.bytes().any(|byte| byte.is_ascii_control()) => {
                "must not hold control characters".to_owned()
            }
            _ => return Ok(Self(key)),
        };
        Err(Error::invalid("key", reason))
    }

    /// The key as the caller sent it.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// What the limiter decided about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Allowed, denied for now, or never possible.
    pub outcome: Outcome,
    /// The limit that decided: on a denial the one with the longest wait, else the one with the
    /// least left. An index into [`Policy::limits`].
    pub limit_index: usize,
    /// What that limit grants and has left, after this decision.
    pub quota: Quota,
    /// How long an *allowed* request should be held back before it proceeds. Zero except for the
    /// shaping queue ([`crate::algorithm::leaky_queue`]).
    pub delay: Duration,
    /// Who answered: the store, or what stands in for it while it is down.
    pub source: Source,
}

impl Decision {
    /// Whether the request may proceed.
    pub fn allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }

    /// How long to wait before the same request can succeed, if it was denied for now.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.outcome {
            Outcome::Denied { retry_after } => Some(retry_after),
            Outcome::Allowed | Outcome::TooLarge => None,
        }
    }
}

/// The verdict itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cost was charged.
    Allowed,
    /// Nothing was charged; the same request succeeds after `retry_after` if nobody else acts.
    Denied {
        /// Tight: not a microsecond earlier.
        retry_after: Duration,
    },
    /// Nothing was charged and waiting does not help: the cost exceeds what the limit ever grants.
    TooLarge,
}

/// One limit as a caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The most that can be taken at once (burst, or requests per window).
    pub limit: u32,
    /// What can be taken right now.
    pub remaining: u32,
    /// When `remaining` is back at `limit`, if nobody acts.
    pub reset_after: Duration,
}

/// Who made a decision. Anything but `Store` means that the numbers are this server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The store that all servers share.
    Store,
    /// This server, with tokens that the store had granted it in advance; `remaining` is what it
    /// has left of them.
    Lease,
    /// The store was down and the policy says to let requests pass.
    FailOpen,
    /// The store was down and the policy says to refuse.
    FailClosed,
    /// The store was down; this server enforced its own share of the limit.
    LocalShare,
}

/// A partial grant: see [`Limiter::take_up_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many were charged: between zero and what was asked for.
    pub granted: u32,
    /// The decision that charging them led to. When nothing was granted it is the denial of one.
    pub decision: Decision,
}

/// A rate limiter for one policy. Cheap to share: every method takes `&self`.
///
/// Every method is one atomic step against the store: two callers never both see the last token.
pub trait Limiter: Send + Sync + 'static {
    /// The policy this limiter enforces.
    fn policy(&self) -> &Policy;

    /// Charges `cost` to `key` if every limit of the policy allows it, and nothing otherwise.
    ///
    /// A cost of zero is [`peek`](Self::peek).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store did not answer. It may or may not have charged: a
    /// timeout is not a denial. The call is never repeated for you, so at most one charge is made.
    ///
    /// # Cost
    /// In process: one hash and one uncontended lock. Redis: one round trip.
    fn check(
        &self,
        key: Key<'_>,
        cost: u32,
    ) -> impl Future<Output = Result<Decision, Error>> + Send;

    /// What [`check`](Self::check) with cost one would say now, charging nothing.
    fn peek(&self, key: Key<'_>) -> impl Future<Output = Result<Decision, Error>> + Send;

    /// Charges as many as possible up to `at_most`: the building block of leases and batching.
    fn take_up_to(
        &self,
        key: Key<'_>,
        at_most: u32,
    ) -> impl Future<Output = Result<Grant, Error>> + Send;

    /// Gives back `cost` that was charged and not used. Never raises a quota above its limit.
    /// For a concurrency limit this is the release of `cost` slots.
    fn refund(
        &self,
        key: Key<'_>,
        cost: u32,
    ) -> impl Future<Output = Result<Decision, Error>> + Send;
}

/// Several servers may hold one in-process limiter.
impl<L: Limiter> Limiter for Arc<L> {
    fn policy(&self) -> &Policy {
        (**self).policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        (**self).check(key, cost).await
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        (**self).peek(key).await
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        (**self).take_up_to(key, at_most).await
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        (**self).refund(key, cost).await
    }
}

/// Makes limiters for policies over one store. The service keeps one of these and a limiter for
/// every policy it is given.
pub trait Store: Send + Sync + 'static {
    /// The answer this store gives.
    type Limiter: Limiter;

    /// Returns a limiter for `policy`. Limits whose numbers are unchanged keep their counts where
    /// the store outlives the limiter (Redis); a changed limit starts full.
    fn limiter(&self, policy: Policy) -> Self::Limiter;

    /// Whether this answer can enforce `policy` at all; asked before [`limiter`](Self::limiter).
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field it cannot enforce.
    fn accepts(&self, _policy: &Policy) -> Result<(), Error> {
        Ok(())
    }

    /// Returns `Ok` when the store answers now; used by `/readyz`.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What can go wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong and will stay wrong: fix `field`.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault, as a JSON pointer without its leading slash (`limits/0/rate`).
        field: String,
        /// What is wrong with it, as a sentence that starts with the field's name.
        reason: String,
    },
    /// The store did not answer: apply the policy's failure mode. The charge may have been made.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The client's own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The in-process table is full of callers that are all being limited: nothing was charged.
    #[error("the limiter tracks {keys_max} keys and none of them is idle")]
    Full {
        /// The bound that was reached.
        keys_max: usize,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refused_with_the_reason() {
        for (key, reason) in [
            (String::new(), "empty"),
            ("k".repeat(KEY_BYTES_MAX + 1), "257 bytes"),
            ("a\nb".to_owned(), "control"),
        ] {
            let error = Key::new(&key).unwrap_err().to_string();
            assert!(error.starts_with("key ") && error.contains(reason), "{error}");
        }
        assert_eq!(Key::new("user:1").unwrap().as_str(), "user:1");
    }
}
