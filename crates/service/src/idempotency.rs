//! `Idempotency-Key`: the client's promise that a repeat is the same request.
//!
//! This parses the key and fingerprints the body; remembering them is the system's job, **in the
//! same transaction** as what the request does. A replay store beside that transaction answers
//! "done" for work that was rolled back.
//! Usual answers: finished -> the stored response with `Idempotency-Replayed: true`; in flight ->
//! 409; same key, other fingerprint -> 422.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::problem::{Place, Problem};

/// The header's name.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key. A longer one is refused, because the store keeps each for a day.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// A key: 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] visible ASCII characters.
///
/// As an extractor it is required; `Option<IdempotencyKey>` takes a request without one, and
/// still refuses a bad one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// As text, without the quotes of a structured field.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key among the headers; `"abc"` (the draft's structured field) and `abc` are the same.
    ///
    /// # Errors
    /// 400 naming the header when there are two, or the key is empty, long or not visible ASCII.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut sent = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = sent.next() else { return Ok(None) };
        if sent.next().is_some() {
            return Err(wrong(StatusCode::BAD_REQUEST, "is given twice"));
        }
        let bytes = value.as_bytes();
        let unquoted = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let key = unquoted.unwrap_or(bytes);
        let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
        match String::from_utf8(key.to_vec()) {
            Ok(key) if fits && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Some(Self(key)))
            }
            _ => {
                let rule =
                    format!("is not 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
                Err(wrong(StatusCode::BAD_REQUEST, &rule))
            }
        }
    }
}

fn wrong(status: StatusCode, what: &str) -> Problem {
    Problem::new(status)
        .detail(format!("Idempotency-Key {what}"))
        .at(Place::Header("Idempotency-Key".to_owned()), what)
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)?.ok_or_else(|| wrong(StatusCode::BAD_REQUEST, "is required here"))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::of(&parts.headers)
    }
}

/// The 422 for a key that comes again with another body.
pub fn reused_key() -> Problem {
    wrong(StatusCode::UNPROCESSABLE_ENTITY, "was used before with another request")
}

/// SHA-256 over the body's canonical JSON: equal for bodies that differ only in white space and
/// in the order of members.
///
/// Trade-off: `1` and `1.0` are different here, as serde_json keeps them apart. A client repeats
/// the bytes it sent, so this only has to be stable, not clever.
pub fn fingerprint(body: &Value) -> [u8; 32] {
    let mut canonical = String::new();
    write_canonical(body, &mut canonical);
    Sha256::digest(canonical).into()
}

/// Sorts members itself: serde_json's map only does while nobody turns on `preserve_order`.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, member) in members {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(member, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
