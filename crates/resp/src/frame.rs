//! Bytes to requests, replies to bytes. <https://redis.io/docs/latest/develop/reference/protocol-spec/>
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\na\r\n    an array of bulk strings: what every client library sends
//! GET a\r\n                         inline: what a person types
//! ```
//!
//! Nothing is allocated for a request before all its bytes are there, and no length that a client
//! claims is believed beyond the limits below: memory per connection is bounded.

use std::{io::Write, ops::Range, sync::Arc};

/// A longer argument is refused and the connection closed. It is also the largest value.
pub const ARGUMENT_BYTES_MAX: usize = 1 << 20;
/// More arguments are refused: `MGET` of more keys has to be split.
pub const ARGUMENTS_MAX: usize = 1024;
/// A longer request is refused, whatever it consists of.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// A longer line is refused: an inline command, or a length with far too many digits.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Why bytes are no request. The connection is closed after this was answered, because nobody knows
/// where the next request begins.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Protocol error: {0}")]
pub struct Malformed(pub String);

/// A request in a buffer: where its arguments are, and how many bytes it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The arguments, the first being the command's name. Empty for an empty line.
    pub arguments: Vec<Range<usize>>,
    /// Where the next request begins.
    pub bytes: usize,
}

/// Finds the first request in `buffer`; `None` when it is not complete yet.
///
/// # Errors
/// When what is there can be no request.
pub fn parse(buffer: &[u8]) -> Result<Option<Request>, Malformed> {
    match buffer.first() {
        None => Ok(None),
        Some(b'*') => parse_array(buffer),
        Some(_) => parse_inline(buffer),
    }
}

fn parse_inline(buffer: &[u8]) -> Result<Option<Request>, Malformed> {
    let Some(line) = line_at(buffer, 0)? else { return Ok(None) };
    let bytes = line.end + 1;
    let mut arguments = Vec::new();
    let mut start = 0;
    // An end of line like any other space, so that the last argument ends too.
    for (at, byte) in buffer[..bytes].iter().enumerate() {
        if byte.is_ascii_whitespace() {
            if at > start {
                arguments.push(start..at);
            }
            start = at + 1;
        }
    }
    if arguments.len() > ARGUMENTS_MAX {
        return Err(Malformed(format!("more than {ARGUMENTS_MAX} arguments")));
    }
    Ok(Some(Request { arguments, bytes }))
}

fn parse_array(buffer: &[u8]) -> Result<Option<Request>, Malformed> {
    let Some((count, mut at)) = length_at(buffer, 0, "invalid multibulk length")? else {
        return Ok(None);
    };
    let count = count.unwrap_or(0);
    if count > ARGUMENTS_MAX {
        return Err(Malformed("invalid multibulk length".into()));
    }
    let mut arguments = Vec::with_capacity(count);
    for _ in 0..count {
        match buffer.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => {
                return Err(Malformed(format!("expected '$', got '{}'", other.escape_ascii())));
            }
        }
        let Some((length, start)) = length_at(buffer, at, "invalid bulk length")? else {
            return Ok(None);
        };
        let length = length
            .filter(|&length| length <= ARGUMENT_BYTES_MAX)
            .ok_or_else(|| Malformed("invalid bulk length".into()))?;
        let end = start + length;
        if end + 2 > REQUEST_BYTES_MAX {
            return Err(Malformed(format!("a request of more than {REQUEST_BYTES_MAX} bytes")));
        }
        let Some(after) = buffer.get(end..end + 2) else { return Ok(None) };
        if after != b"\r\n" {
            return Err(Malformed("a bulk string does not end where it says".into()));
        }
        arguments.push(start..end);
        at = end + 2;
    }
    Ok(Some(Request { arguments, bytes: at }))
}

/// The number after the type byte at `at`, and where the next line begins. Negative is `None`.
fn length_at(
    buffer: &[u8],
    at: usize,
    complaint: &str,
) -> Result<Option<(Option<usize>, usize)>, Malformed> {
    let Some(line) = line_at(buffer, at)? else { return Ok(None) };
    let digits = buffer[at + 1..line.end].trim_ascii_end();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok());
    let number = number.ok_or_else(|| Malformed(complaint.into()))?;
    Ok(Some((usize::try_from(number).ok(), line.end + 1)))
}

/// The line that begins at `at`, without its end; `None` when it has not ended yet.
fn line_at(buffer: &[u8], at: usize) -> Result<Option<Range<usize>>, Malformed> {
    let rest = &buffer[at..];
    let looked_at = &rest[..rest.len().min(LINE_BYTES_MAX)];
    match looked_at.iter().position(|&byte| byte == b'\n') {
        Some(length) => Ok(Some(at..at + length)),
        None if looked_at.len() == LINE_BYTES_MAX => {
            Err(Malformed("too big inline request".into()))
        }
        None => Ok(None),
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A word, such as `OK`.
    Status(&'static str),
    /// A failure: a code in capitals, then a sentence.
    Error(String),
    /// A number.
    Integer(i64),
    /// A value. Shared, so that many large values in one reply are not copied before they are sent.
    Bulk(Arc<[u8]>),
    /// No value.
    Null,
    /// Several replies.
    Array(Vec<Reply>),
    /// Names and replies. An array of twice the length before RESP3.
    Map(Vec<(&'static str, Reply)>),
}

impl Reply {
    /// A text as a value.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Bulk(text.as_ref().as_bytes().into())
    }
}

/// Which version of the protocol a connection speaks; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The old one.
    #[default]
    Resp2,
    /// With nulls and maps of their own.
    Resp3,
}

/// The parts of a reply that need no recursion: a head, and for a bulk string its bytes.
pub fn encode_head(reply: &Reply, version: Version, out: &mut Vec<u8>) {
    let mut line = |kind: char, rest: std::fmt::Arguments<'_>| {
        write!(out, "{kind}{rest}\r\n").expect("a buffer in memory takes everything");
    };
    match reply {
        Reply::Status(word) => line('+', format_args!("{word}")),
        Reply::Error(text) => {
            // A line break in an error would end it and begin a reply nobody sent.
            line('-', format_args!("{}", text.replace(['\r', '\n'], " ")));
        }
        Reply::Integer(number) => line(':', format_args!("{number}")),
        Reply::Bulk(bytes) => {
            line('$', format_args!("{}", bytes.len()));
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Null if version == Version::Resp3 => line('_', format_args!("")),
        Reply::Null => line('$', format_args!("-1")),
        Reply::Array(replies) => line('*', format_args!("{}", replies.len())),
        Reply::Map(pairs) if version == Version::Resp3 => {
            line('%', format_args!("{}", pairs.len()))
        }
        Reply::Map(pairs) => line('*', format_args!("{}", pairs.len() * 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, Malformed, parse};

    fn words(buffer: &[u8]) -> Vec<String> {
        let request = parse(buffer).unwrap().expect("complete");
        let text = |range: &std::ops::Range<usize>| String::from_utf8_lossy(&buffer[range.clone()]);
        request.arguments.iter().map(|range| text(range).into_owned()).collect()
    }

    #[test]
    fn a_request_is_found_however_many_bytes_have_come() {
        let whole = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), Ok(None), "after {length} bytes");
        }
        assert_eq!(words(whole), ["SET", "a", "\r\n\r\n"]);
        let pipelined = [&whole[..], b"PING\r\n"].concat();
        assert_eq!(parse(&pipelined).unwrap().unwrap().bytes, whole.len());
        assert_eq!(words(b"  get   a \r\n"), ["get", "a"]);
        assert_eq!(words(b"\r\n"), Vec::<String>::new());
    }

    #[test]
    fn what_can_be_no_request_is_refused() {
        let cases: [(&[u8], &str); 8] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*99999999\r\n", "invalid multibulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "a bulk string does not end where it says"),
            (&[b'a'; LINE_BYTES_MAX], "too big inline request"),
        ];
        for (buffer, complaint) in cases {
            assert_eq!(parse(buffer), Err(Malformed(complaint.into())));
        }
    }
}
