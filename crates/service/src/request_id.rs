//! One id for each request: in every log line, in the response's `X-Request-Id`, and as the
//! `instance` of every problem.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header an id is read from and echoed in.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a client; a longer one would let clients fill the log.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// A request's id: letters, digits and `-_.`, nothing that needs escaping anywhere.
///
/// An id made here is only a number until somebody reads it: most requests log nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Source);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Client(HeaderValue),
    Counted(u64),
}

impl RequestId {
    /// The id the client sent, when it is sane, else a fresh one.
    ///
    /// Taking a client's id over is what lets one id follow a call through several services.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(sent) if is_sane(sent.as_bytes()) => Self(Source::Client(sent.clone())),
            _ => Self::fresh(),
        }
    }

    /// The same, for a field that is not in a map.
    pub(crate) fn of_field(sent: Option<&[u8]>) -> Self {
        let sane = sent.filter(|sent| is_sane(sent));
        match sane.and_then(|sent| HeaderValue::from_bytes(sent).ok()) {
            Some(sent) => Self(Source::Client(sent)),
            None => Self::fresh(),
        }
    }

    /// A new id: a prefix drawn once per process, and a counter.
    ///
    /// Trade-off: unique and cheap (one atomic add), but guessable: never use it as a secret.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Source::Counted(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The id of the request this task is working on; `None` outside a hardened router.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(crate) fn is_set() -> bool {
        CURRENT.try_with(|_| ()).is_ok()
    }

    /// Runs `work` with this id as the current one: wrap spawned tasks in it.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// As the value of [`X_REQUEST_ID`].
    pub fn header(&self) -> HeaderValue {
        match &self.0 {
            Source::Client(sent) => sent.clone(),
            Source::Counted(number) => {
                // Every response has one; the formatting machinery takes five times as long.
                let mut text = [b'-'; 8 + 1 + 16];
                let digits = (u64::BITS - (number | 1).leading_zeros()).div_ceil(4) as usize;
                write_hex(u64::from(*PREFIX), &mut text[..8]);
                write_hex(*number, &mut text[9..9 + digits]);
                HeaderValue::from_bytes(&text[..9 + digits])
                    .expect("hex digits and a dash are a header value")
            }
        }
    }
}

/// Tells the ids of this process from those of every other; std seeds `RandomState` from the
/// operating system.
static PREFIX: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(0) as u32);

/// The last digits of a number, as many as there is room for.
fn write_hex(mut number: u64, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

fn is_sane(id: &[u8]) -> bool {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(harmless)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Client(sent) => f.write_str(sent.to_str().expect("sane ids are ASCII")),
            Source::Counted(number) => write!(f, "{:08x}-{number:x}", *PREFIX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_the_same_in_the_header_and_in_the_log() {
        for number in [0, 1, 0xf, 0x10, 0xabc, u64::MAX] {
            let id = RequestId(Source::Counted(number));
            assert_eq!(id.header().to_str().expect("ASCII"), id.to_string());
        }
    }
}
