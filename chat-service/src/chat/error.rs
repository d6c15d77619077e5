//! What can go wrong.

use crate::ids::Seq;

/// What can go wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong and will stay wrong: fix `field`.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What is wrong, as a sentence that starts with the field's name.
        reason: String,
    },
    /// There is no such thing, or none that this user may know of.
    #[error("{field} does not exist{}", if *field == "conversation" { ", or you are not in it" } else { "" })]
    NotFound {
        /// The field that names it.
        field: &'static str,
    },
    /// The user is in the conversation and may not do this in it.
    #[error("{field} {reason}")]
    Forbidden {
        /// The field at fault.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something else is there under this name.
    #[error("{field} {reason}")]
    Conflict {
        /// The field at fault.
        field: &'static str,
        /// What is there.
        reason: &'static str,
    },
    /// A bound was reached: remove something first.
    #[error("{field}: at most {bound} are kept")]
    Full {
        /// What there are too many of.
        field: &'static str,
        /// The bound.
        bound: usize,
    },
    /// The store did not answer; what was asked may or may not have happened. Ask again.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// The client's own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    /// [`Error::Invalid`].
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    /// The field this is about.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. }
            | Self::NotFound { field }
            | Self::Forbidden { field, .. }
            | Self::Conflict { field, .. }
            | Self::Full { field, .. } => Some(field),
            Self::Unavailable { .. } => None,
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not-found",
            Self::Forbidden { .. } => "forbidden",
            Self::Conflict { .. } => "conflict",
            Self::Full { .. } => "full",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// What every store says to a stranger, to an unknown id and to a removed member alike.
pub(crate) const NO_CONVERSATION: Error = Error::NotFound { field: "conversation" };
/// What every store says when a client id is used for a second message.
pub(crate) const CLIENT_ID_REUSED: Error =
    Error::Conflict { field: "client_id", reason: "was used for another message" };
/// What every store says when a cursor would pass the log.
pub(crate) fn beyond_the_log(last: Seq) -> Error {
    Error::invalid("seq", format!("is beyond the end of the log, which is {last}"))
}
