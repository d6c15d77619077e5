//! The code of a short URL: what is accepted, and base 62.

use std::fmt;

use crate::link::Error;

/// The longest code, in bytes. Every code is a key of the index: a longer one costs everybody.
pub const CODE_BYTES_MAX: usize = 32;

/// The digits of base 62, in ASCII order, so that equal-length codes sort like their numbers.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Paths of the service itself. Trap: a *generated* code can spell them too ("healthz" and
/// "metrics" have seven letters), and that link would never be reachable.
const RESERVED: [&str; 8] =
    ["v1", "healthz", "readyz", "metrics", "openapi", "url-shortener", "favicon", "robots"];

/// The code of a link: 1 to [`CODE_BYTES_MAX`] of `0-9 A-Z a-z _ -`. Case matters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Box<str>);

impl Code {
    /// Any code that a link may have, such as from a path.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field `code`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match fault(text) {
            None => Ok(Self(text.into())),
            Some(reason) => Err(Error::invalid("code", reason)),
        }
    }

    /// A code of the client's own choice.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field `alias`, also for a path of the service itself.
    pub fn alias(text: &str) -> Result<Self, Error> {
        let code = match fault(text) {
            None => Self(text.into()),
            Some(reason) => return Err(Error::invalid("alias", reason)),
        };
        match code.is_reserved() {
            false => Ok(code),
            true => Err(Error::invalid("alias", "is a path of this service")),
        }
    }

    /// The base-62 form of `number`, padded to `width` digits.
    pub fn base62(mut number: u64, width: usize) -> Self {
        let mut digits = Vec::with_capacity(width.max(11));
        while number > 0 || digits.len() < width {
            digits.push(ALPHABET[(number % 62) as usize]);
            number /= 62;
        }
        digits.reverse();
        let text = String::from_utf8(digits).expect("the alphabet is ASCII");
        Self(text.into_boxed_str())
    }

    /// Whether it is a path of the service, so that no link may have it.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&&*self.0)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The number that these base-62 digits stand for; at most ten of them.
pub(crate) fn from_base62(digits: &str) -> Option<u64> {
    let value = |digit: u8| ALPHABET.binary_search(&digit).ok().map(|value| value as u64);
    let all = digits.len() <= 10;
    all.then(|| digits.bytes().try_fold(0, |number, digit| Some(number * 62 + value(digit)?)))?
}

fn fault(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match text.len() {
        0 => Some("must not be empty".to_owned()),
        n if n > CODE_BYTES_MAX => Some(format!("is {n} bytes long; at most {CODE_BYTES_MAX} are")),
        _ if !text.bytes().all(allowed) => {
            Some("may only hold letters, digits, `_` and `-`".to_owned())
        }
        _ => None,
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_is_padded_and_keeps_the_order_of_numbers() {
        assert_eq!(Code::base62(0, 3).as_str(), "000");
        assert_eq!(Code::base62(61, 2).as_str(), "0z");
        assert_eq!(Code::base62(62 * 62, 2).as_str(), "100");
        assert!(Code::base62(9, 4) < Code::base62(10, 4));
        assert_eq!(Code::base62(u64::MAX, 0).as_str(), "LygHa16AHYF");
    }

    #[test]
    fn bad_codes_and_reserved_aliases_are_refused_with_the_reason() {
        for (alias, reason) in [
            ("", "empty"),
            ("a/b", "letters"),
            ("ä", "letters"),
            ("a.b", "letters"),
            ("healthz", "path of this service"),
            (&"a".repeat(33), "33 bytes"),
        ] {
            let error = Code::alias(alias).unwrap_err().to_string();
            assert!(error.starts_with("alias ") && error.contains(reason), "{error}");
        }
        assert!(Code::parse("healthz").is_ok_and(|code| code.is_reserved()));
    }
}
