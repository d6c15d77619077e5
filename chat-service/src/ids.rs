//! The names things have: users, devices, conversations, messages, positions.
//!
//! Two identifiers make a message. The *client id* is drawn by the sender before the first
//! attempt, so that a retry can be recognised; the *sequence* is given by the log, and is the
//! only thing that orders, pages and resumes. A timestamp is neither: clocks collide and skew.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chat::Error;

/// Longest user name. It is a key in every index; longer ones would bloat them all.
pub const USER_BYTES_MAX: usize = 32;
/// Longest device name.
pub const DEVICE_BYTES_MAX: usize = 64;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the id, or [`Error::Invalid`] naming the field.
            pub fn new(text: &str) -> Result<Self, Error> {
                check_text($field, text, $bytes_max).map(|()| Self(Arc::from(text)))
            }

            /// The id as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A person: 1 to [`USER_BYTES_MAX`] of `a-z 0-9 . _ -`.
    UserId, "user", USER_BYTES_MAX
);
text_id!(
    /// One phone, browser or terminal of a person: 1 to [`DEVICE_BYTES_MAX`] of `a-z 0-9 . _ -`.
    DeviceId, "device", DEVICE_BYTES_MAX
);

fn check_text(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    let reason = match text.len() {
        0 => "must not be empty".to_owned(),
        bytes if bytes > bytes_max => format!("is {bytes} bytes long; at most {bytes_max} are"),
        _ if !text.chars().all(plain) => "may hold a-z, 0-9, '.', '_' and '-' only".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::invalid(field, reason))
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh one. It begins with the time, so that neighbours in time are neighbours in
            /// an index; nothing is ever ordered by it.
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id!(
    /// A conversation. Whoever creates a group draws its id, so that creating it twice is once.
    ConversationId
);
uuid_id!(
    /// The sender's own id of a message, drawn before the first attempt to send it.
    ClientId
);

/// A position in a conversation's log. The first message is 1; 0 is before everything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which life of the store a cursor belongs to. A store that was wiped or restored starts another
/// one; a client that presents the old one is told so instead of resuming at the wrong place.
///
/// At most 2^53 - 1, so that every JSON reader holds it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Another one than any before, all but certainly.
    pub fn fresh() -> Self {
        Self(fastrand::u64(1..1 << 53))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_with_the_field_and_the_reason() {
        let long = "a".repeat(USER_BYTES_MAX + 1);
        for (text, reason) in
            [("", "empty"), (long.as_str(), "33 bytes"), ("Bob", "a-z"), ("a b", "a-z")]
        {
            let error = UserId::new(text).unwrap_err().to_string();
            assert!(error.starts_with("user ") && error.contains(reason), "{error}");
        }
        assert_eq!(UserId::new("alice.b-c_9").unwrap().as_str(), "alice.b-c_9");
    }
}
