//! What a request asks for. Everything that can be wrong with one is found here, before anything is
//! done.

use super::frame::Version;

/// A command, its arguments checked.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Answers `PONG`, or what was sent.
    Ping(Option<&'a [u8]>),
    /// The value of a key.
    Get(&'a [u8]),
    /// The values of several keys.
    MultiGet(Vec<&'a [u8]>),
    /// Writes a value.
    Set {
        /// Under this key.
        key: &'a [u8],
        /// This value.
        value: &'a [u8],
        /// For so long; for ever without.
        lifetime_ms: Option<u64>,
        /// Only if there is none yet.
        only_if_absent: bool,
    },
    /// Removes keys and counts them.
    Delete(Vec<&'a [u8]>),
    /// Counts keys that are there.
    Exists(Vec<&'a [u8]>),
    /// How long a key has to live, in seconds or milliseconds.
    TimeToLive {
        /// This key.
        key: &'a [u8],
        /// `PTTL`.
        in_ms: bool,
    },
    /// How many keys there are.
    Size,
    /// Removes everything.
    Flush,
    /// Settings and counters, as text.
    Info,
    /// Which commands there are. Answered with none: clients then do without hints.
    Describe,
    /// Chooses the protocol version.
    Hello(Option<Version>),
    /// What clients send about themselves. Accepted and ignored.
    Client,
    /// `CONFIG GET`: no setting has a value. `redis-benchmark` asks.
    Config(&'a [u8]),
    /// There is one database, number 0.
    Select,
    /// Good-bye.
    Quit,
}

/// Reads a command.
///
/// # Errors
/// The text of the error reply.
pub fn parse<'a>(arguments: &[&'a [u8]]) -> Result<Command<'a>, String> {
    let (name, rest) = arguments.split_first().ok_or("ERR empty command")?;
    let name = name.to_ascii_uppercase();
    let arity = || {
        let name = String::from_utf8_lossy(&name).to_lowercase();
        format!("ERR wrong number of arguments for '{name}' command")
    };
    match (name.as_slice(), rest) {
        (b"PING", []) => Ok(Command::Ping(None)),
        (b"PING" | b"ECHO", [text]) => Ok(Command::Ping(Some(text))),
        (b"GET", [key]) => Ok(Command::Get(key)),
        (b"MGET", [_, ..]) => Ok(Command::MultiGet(rest.to_vec())),
        (b"SET", [key, value, options @ ..]) => set(key, value, options),
        (b"DEL" | b"UNLINK", [_, ..]) => Ok(Command::Delete(rest.to_vec())),
        (b"EXISTS", [_, ..]) => Ok(Command::Exists(rest.to_vec())),
        (b"TTL", [key]) => Ok(Command::TimeToLive { key, in_ms: false }),
        (b"PTTL", [key]) => Ok(Command::TimeToLive { key, in_ms: true }),
        (b"DBSIZE", []) => Ok(Command::Size),
        (b"FLUSHALL" | b"FLUSHDB", [] | [_]) => Ok(Command::Flush),
        (b"INFO", _) => Ok(Command::Info),
        (b"COMMAND", _) => Ok(Command::Describe),
        (b"HELLO", _) => hello(rest),
        (b"CLIENT", [_, ..]) => Ok(Command::Client),
        (b"CONFIG", [get, name]) if get.eq_ignore_ascii_case(b"GET") => Ok(Command::Config(name)),
        (b"SELECT", [b"0"]) => Ok(Command::Select),
        (b"SELECT", [_]) => Err("ERR DB index is out of range".into()),
        (b"QUIT", []) => Ok(Command::Quit),
        (
            b"PING" | b"ECHO" | b"GET" | b"MGET" | b"SET" | b"DEL" | b"UNLINK" | b"EXISTS" | b"TTL"
            | b"PTTL" | b"DBSIZE" | b"FLUSHALL" | b"FLUSHDB" | b"CLIENT" | b"SELECT" | b"QUIT",
            _,
        ) => Err(arity()),
        _ => Err(unknown(arguments[0])),
    }
}

/// How much of an unknown name is repeated to its sender.
const NAME_SHOWN_MAX: usize = 64;

fn unknown(name: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&name[..name.len().min(NAME_SHOWN_MAX)]);
    format!("ERR unknown command '{shown}'")
}

fn set<'a>(key: &'a [u8], value: &'a [u8], options: &[&'a [u8]]) -> Result<Command<'a>, String> {
    let (mut lifetime_ms, mut only_if_absent) = (None, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let unit_ms = match option.to_ascii_uppercase().as_slice() {
            b"NX" if !only_if_absent => {
                only_if_absent = true;
                continue;
            }
            b"EX" if lifetime_ms.is_none() => 1000,
            b"PX" if lifetime_ms.is_none() => 1,
            _ => return Err("ERR syntax error".into()),
        };
        let amount = options.next().ok_or("ERR syntax error")?;
        lifetime_ms = Some(lifetime(amount, unit_ms)?);
    }
    Ok(Command::Set { key, value, lifetime_ms, only_if_absent })
}

fn lifetime(amount: &[u8], unit_ms: u64) -> Result<u64, String> {
    let amount = std::str::from_utf8(amount).ok().and_then(|amount| amount.parse::<i64>().ok());
    let amount = amount.ok_or("ERR value is not an integer or out of range")?;
    let amount = u64::try_from(amount).ok().filter(|&amount| amount > 0);
    let lifetime_ms = amount.and_then(|amount| amount.checked_mul(unit_ms));
    lifetime_ms.ok_or_else(|| "ERR invalid expire time in 'set' command".into())
}

fn hello<'a>(rest: &[&'a [u8]]) -> Result<Command<'a>, String> {
    match rest.first().copied() {
        None => Ok(Command::Hello(None)),
        Some(b"2") => Ok(Command::Hello(Some(Version::Resp2))),
        Some(b"3") => Ok(Command::Hello(Some(Version::Resp3))),
        Some(_) => Err("NOPROTO unsupported protocol version".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};

    fn complaint(line: &str) -> String {
        let arguments: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        parse(&arguments).unwrap_err()
    }

    #[test]
    fn names_and_options_have_no_case() {
        let arguments: [&[u8]; 6] = [b"sEt", b"k", b"v", b"nx", b"eX", b"2"];
        let expected =
            Command::Set { key: b"k", value: b"v", lifetime_ms: Some(2_000), only_if_absent: true };
        assert_eq!(parse(&arguments), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said_as_redis_says_it() {
        assert_eq!(complaint("GET"), "ERR wrong number of arguments for 'get' command");
        assert_eq!(complaint("SET k v EX"), "ERR syntax error");
        assert_eq!(complaint("SET k v EX 1 PX 1"), "ERR syntax error");
        assert_eq!(complaint("SET k v EX 0"), "ERR invalid expire time in 'set' command");
        assert_eq!(complaint("SET k v PX -5"), "ERR invalid expire time in 'set' command");
        assert_eq!(
            complaint("SET k v EX 9223372036854775807"),
            "ERR invalid expire time in 'set' command"
        );
        assert_eq!(complaint("SET k v EX x"), "ERR value is not an integer or out of range");
        assert_eq!(complaint("HELLO 4"), "NOPROTO unsupported protocol version");
        assert_eq!(complaint("LPUSH a b"), "ERR unknown command 'LPUSH'");
    }
}
