//! What a request asks for. Everything that can be wrong with one is found here, before anything is
//! charged.

use ::resp::frame::Version;

use crate::limiter::Key;

/// A command, its arguments checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// `CL.THROTTLE`
    Throttle(Throttle<'a>),
    /// `RL.CHECK`: a policy by its name.
    Check { policy: &'a str, key: Key<'a>, cost: u32 },
    /// Answers `PONG`, or what was sent.
    Ping(Option<&'a [u8]>),
    /// Chooses the protocol version.
    Hello(Option<Version>),
    /// `COMMAND`: answered with none, and clients do without hints.
    Nothing,
    /// `CONFIG GET`: no setting has a value. `redis-benchmark` asks.
    Config(&'a [u8]),
    /// What clients send about themselves. Accepted and ignored.
    Agree,
    /// Good-bye.
    Quit,
}

/// A limit and a request under it, as redis-cell takes them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Throttle<'a> {
    pub(super) key: Key<'a>,
    /// `max_burst + 1`: one is allowed even without any burst.
    pub(super) burst: u32,
    pub(super) count: u32,
    pub(super) period_s: u32,
    pub(super) quantity: u32,
}

/// Reads a command.
///
/// # Errors
/// The text of the error reply.
pub(super) fn parse<'a>(arguments: &[&'a [u8]]) -> Result<Command<'a>, String> {
    let (&name, rest) = arguments.split_first().ok_or("ERR empty command")?;
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"CL.THROTTLE") {
        return throttle(rest).map(Command::Throttle);
    }
    match rest {
        [policy, key] if is(b"RL.CHECK") => check(policy, key, b"1"),
        [policy, key, cost] if is(b"RL.CHECK") => check(policy, key, cost),
        _ if is(b"RL.CHECK") => Err(arity("rl.check")),
        [] if is(b"PING") => Ok(Command::Ping(None)),
        [text] if is(b"PING") || is(b"ECHO") => Ok(Command::Ping(Some(text))),
        [] if is(b"HELLO") => Ok(Command::Hello(None)),
        [b"2", ..] if is(b"HELLO") => Ok(Command::Hello(Some(Version::Resp2))),
        [b"3", ..] if is(b"HELLO") => Ok(Command::Hello(Some(Version::Resp3))),
        _ if is(b"HELLO") => Err("NOPROTO unsupported protocol version".into()),
        [get, name] if is(b"CONFIG") && get.eq_ignore_ascii_case(b"GET") => {
            Ok(Command::Config(name))
        }
        _ if is(b"COMMAND") => Ok(Command::Nothing),
        [_, ..] if is(b"CLIENT") => Ok(Command::Agree),
        [b"0"] if is(b"SELECT") => Ok(Command::Agree),
        [] if is(b"QUIT") => Ok(Command::Quit),
        _ => {
            let shown = String::from_utf8_lossy(&name[..name.len().min(64)]);
            Err(format!("ERR unknown command '{shown}', or wrong arguments for it"))
        }
    }
}

fn throttle<'a>(rest: &[&'a [u8]]) -> Result<Throttle<'a>, String> {
    let (fixed, quantity) = match rest {
        [key, burst, count, period] => ([*key, *burst, *count, *period], &b"1"[..]),
        [key, burst, count, period, quantity] => ([*key, *burst, *count, *period], *quantity),
        _ => return Err(arity("cl.throttle")),
    };
    let [key, max_burst, count, period] = fixed;
    let burst = number(max_burst, "max_burst", 0)?;
    Ok(Throttle {
        key: super::key(key)?,
        burst: burst.checked_add(1).ok_or("ERR max_burst is too large")?,
        count: number(count, "count per period", 1)?,
        period_s: number(period, "period", 1)?,
        quantity: number(quantity, "quantity", 0)?,
    })
}

fn check<'a>(policy: &'a [u8], key: &'a [u8], cost: &[u8]) -> Result<Command<'a>, String> {
    let policy = std::str::from_utf8(policy).map_err(|_| "ERR policy must be UTF-8")?;
    Ok(Command::Check { policy, key: super::key(key)?, cost: number(cost, "cost", 0)? })
}

fn arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

fn number(argument: &[u8], name: &str, least: u32) -> Result<u32, String> {
    let number = std::str::from_utf8(argument).ok().and_then(|text| text.parse::<u32>().ok());
    number
        .filter(|number| *number >= least)
        .ok_or_else(|| format!("ERR {name} must be a whole number from {least} to {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(line: &str) -> String {
        let arguments: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        parse(&arguments).unwrap_err()
    }

    #[test]
    fn a_limit_is_read_as_redis_cell_reads_it() {
        let arguments: [&[u8]; 5] = [b"cl.Throttle", b"user", b"15", b"30", b"60"];
        let Command::Throttle(throttle) = parse(&arguments).unwrap() else { panic!("a throttle") };
        let Throttle { burst, count, period_s, quantity, .. } = throttle;
        assert_eq!((burst, count, period_s, quantity), (16, 30, 60, 1));
    }

    #[test]
    fn what_is_wrong_names_the_argument() {
        for (line, said) in [
            ("CL.THROTTLE", "wrong number of arguments for 'cl.throttle'"),
            ("CL.THROTTLE k 1 1 1 1 1", "wrong number of arguments"),
            ("CL.THROTTLE k -1 30 60", "max_burst must be"),
            ("CL.THROTTLE k 4294967295 30 60", "max_burst is too large"),
            ("CL.THROTTLE k 15 0 60", "count per period must be"),
            ("CL.THROTTLE k 15 30 x", "period must be"),
            ("CL.THROTTLE k 15 30 0", "period must be"),
            ("CL.THROTTLE k 15 30 60 1.5", "quantity must be"),
            ("CL.THROTTLE  15 30 60", "key must not be empty"),
            ("RL.CHECK api", "wrong number of arguments for 'rl.check'"),
            ("RL.CHECK api k -2", "cost must be"),
            ("GET k", "unknown command 'GET'"),
            ("HELLO 4", "unsupported protocol version"),
        ] {
            let complaint = complaint(line);
            assert!(complaint.contains(said), "{line}: {complaint}");
        }
    }
}
