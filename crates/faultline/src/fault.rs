//! The faults and their names: one vocabulary for tests, the command line and the lab.
//!
//! A fault is written `name` or `name:value`, and with `@up` or `@down` behind it when it is
//! meant for one direction only: `latency:50ms`, `reset:4KiB@down`, `partition`. Writing a fault
//! and reading it back gives the same fault.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Something that happens to the bytes between a client and its upstream.
///
/// Different faults combine; setting one again replaces its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// `latency:50ms`: every byte arrives this much later. Bytes follow each other as closely as
    /// before, up to the proxy's buffer: a long line, not a slow one.
    Latency {
        /// Added to each direction the fault is set on; set on both, a round trip takes twice it.
        delay: Duration,
    },
    /// `jitter:20ms`: a random delay from zero to this, on top of any latency. Order is kept, as
    /// TCP keeps it, so one late piece holds up those behind it.
    Jitter {
        /// The longest extra delay.
        delay_max: Duration,
    },
    /// `bandwidth:64KiB/s`: bytes pass at this rate.
    Bandwidth {
        /// The rate of each connection and direction.
        bytes_per_second: u64,
    },
    /// `slice:16B`: bytes arrive in pieces of random size up to this, a millisecond apart. Finds
    /// code that takes one read for one message.
    Slice {
        /// The largest piece.
        bytes_max: u64,
    },
    /// `reset` or `reset:4KiB`: after so many more bytes the connection is reset (RST) at both
    /// ends. On `up`, the request never arrives; on `down`, the server has done the work and the
    /// answer is lost, and the client cannot tell the two apart.
    Reset {
        /// How many bytes still pass, counted per connection from when the fault is set.
        after_bytes: u64,
    },
    /// `partition`: nothing passes, and nobody is told. Bytes wait, and arrive when the fault is
    /// cleared, as TCP's retransmissions do after a network partition.
    Partition,
    /// `blackhole`: bytes are swallowed, and nobody is told. A connection that lost bytes cannot
    /// go on, so it is reset when the fault is cleared.
    Blackhole,
    /// `half-open`: the upstream forgets the connections that are open now, and their clients are
    /// not told: what they send disappears. New connections work. When the fault is cleared, the
    /// forgotten connections are reset, as by a restarted host.
    HalfOpen,
    /// `cut`: every connection is reset at once, and every new one as soon as it is made.
    Cut,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From the client to the upstream: requests.
    Up,
    /// From the upstream to the client: replies.
    Down,
    /// Either way.
    #[default]
    Both,
}

/// A fault and the direction it is meant for: `latency:50ms@down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScopedFault {
    /// What happens.
    pub fault: Fault,
    /// To which bytes. [`Fault::HalfOpen`] and [`Fault::Cut`] concern whole connections, so for
    /// them this is always [`Direction::Both`].
    pub direction: Direction,
}

impl Fault {
    /// Each fault once, in its written form, for help texts and menus.
    pub const EXAMPLES: [&str; 9] = [
        "latency:50ms",
        "jitter:20ms",
        "bandwidth:64KiB/s",
        "slice:16B",
        "reset:4KiB",
        "partition",
        "blackhole",
        "half-open",
        "cut",
    ];

    /// The fault's name, without its value: `"latency"`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Jitter { .. } => "jitter",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Slice { .. } => "slice",
            Self::Reset { .. } => "reset",
            Self::Partition => "partition",
            Self::Blackhole => "blackhole",
            Self::HalfOpen => "half-open",
            Self::Cut => "cut",
        }
    }

    /// The same fault on one direction only; whole-connection faults stay on both.
    pub fn on(self, direction: Direction) -> ScopedFault {
        let whole = matches!(self, Self::HalfOpen | Self::Cut);
        ScopedFault { fault: self, direction: if whole { Direction::Both } else { direction } }
    }
}

impl From<Fault> for ScopedFault {
    fn from(fault: Fault) -> Self {
        fault.on(Direction::Both)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Self::Latency { delay } => write!(f, ":{}", duration_text(delay)),
            Self::Jitter { delay_max } => write!(f, ":{}", duration_text(delay_max)),
            Self::Bandwidth { bytes_per_second } => {
                write!(f, ":{}/s", size_text(bytes_per_second))
            }
            Self::Slice { bytes_max } => write!(f, ":{}", size_text(bytes_max)),
            Self::Reset { after_bytes: 0 } => Ok(()),
            Self::Reset { after_bytes } => write!(f, ":{}", size_text(after_bytes)),
            Self::Partition | Self::Blackhole | Self::HalfOpen | Self::Cut => Ok(()),
        }
    }
}

impl fmt::Display for ScopedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Up => "@up",
            Direction::Down => "@down",
            Direction::Both => "",
        };
        write!(f, "{}{direction}", self.fault)
    }
}

impl FromStr for Fault {
    type Err = Error;

    /// Reads `name` or `name:value`.
    ///
    /// # Errors
    /// [`Error::BadFault`], which lists the forms that exist.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|why| Error::BadFault { given: text.to_owned(), why })
    }
}

impl FromStr for ScopedFault {
    type Err = Error;

    /// Reads a fault with `@up`, `@down` or nothing behind it.
    ///
    /// # Errors
    /// [`Error::BadFault`]; also for a direction on a fault of whole connections.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| Error::BadFault { given: text.to_owned(), why };
        let (fault, direction) = match text.split_once('@') {
            None => (text, Direction::Both),
            Some((fault, "up")) => (fault, Direction::Up),
            Some((fault, "down")) => (fault, Direction::Down),
            Some((_, other)) => return Err(bad(format!("@{other} is neither @up nor @down"))),
        };
        let fault = parse(fault).map_err(bad)?;
        let scoped = fault.on(direction);
        if scoped.direction != direction {
            return Err(bad(format!("{} concerns whole connections", fault.name())));
        }
        Ok(scoped)
    }
}

fn parse(text: &str) -> std::result::Result<Fault, String> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let wanted = |example: &str| format!("{name} wants a value, as in {name}:{example}");
    let duration = || duration(value.ok_or_else(|| wanted("50ms"))?);
    let size = || size(value.ok_or_else(|| wanted("16B"))?);
    let plain = |fault| match value {
        None => Ok(fault),
        Some(_) => Err(format!("{name} takes no value")),
    };
    let positive = |number: u64| match number {
        0 => Err(format!("{name} must be above zero")),
        _ => Ok(number),
    };
    match name {
        "latency" => Ok(Fault::Latency { delay: duration()? }),
        "jitter" => Ok(Fault::Jitter { delay_max: duration()? }),
        "bandwidth" => {
            let rate = value.and_then(|value| value.strip_suffix("/s"));
            let bytes_per_second = positive(self::size(rate.ok_or_else(|| wanted("64KiB/s"))?)?)?;
            Ok(Fault::Bandwidth { bytes_per_second })
        }
        "slice" => Ok(Fault::Slice { bytes_max: positive(size()?)? }),
        "reset" if value.is_none() => Ok(Fault::Reset { after_bytes: 0 }),
        "reset" => Ok(Fault::Reset { after_bytes: size()? }),
        "partition" => plain(Fault::Partition),
        "blackhole" => plain(Fault::Blackhole),
        "half-open" => plain(Fault::HalfOpen),
        "cut" => plain(Fault::Cut),
        _ => Err("there is none of that name".to_owned()),
    }
}

/// A longer delay than this is a partition; the bound keeps deadlines within what a clock holds.
const DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const DURATION_UNITS: [(&str, u64); 3] = [("s", 1_000_000), ("ms", 1_000), ("us", 1)];
const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let delay = Duration::from_micros(number_with_unit(text, &DURATION_UNITS)?);
    if delay > DELAY_MAX {
        return Err(format!("{text} is more than a day"));
    }
    Ok(delay)
}

fn size(text: &str) -> std::result::Result<u64, String> {
    number_with_unit(text, &SIZE_UNITS)
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        return Err(format!("{text:?} wants a number and one of {}", names.join(", ")));
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} does not start with a number"))?;
    number.checked_mul(*factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// Writes a value in the largest unit that holds it exactly, so that it reads back the same.
fn text_with_unit(value: u64, units: &[(&str, u64)]) -> String {
    let exact = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (name, factor) = exact.or(units.last()).expect("there is always a smallest unit");
    format!("{}{name}", value / factor)
}

fn duration_text(delay: Duration) -> String {
    text_with_unit(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

fn size_text(bytes: u64) -> String {
    text_with_unit(bytes, &SIZE_UNITS)
}

impl TryFrom<String> for Fault {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl TryFrom<String> for ScopedFault {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ScopedFault> for String {
    fn from(fault: ScopedFault) -> Self {
        fault.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_reads_back_as_itself() {
        for example in Fault::EXAMPLES {
            let fault: Fault = example.parse().unwrap();
            assert_eq!(fault.to_string(), example);
            assert!(example.starts_with(fault.name()));
            for direction in [Direction::Up, Direction::Down, Direction::Both] {
                let scoped = fault.on(direction);
                assert_eq!(scoped.to_string().parse::<ScopedFault>().unwrap(), scoped);
            }
        }
    }

    #[test]
    fn any_value_is_written_without_loss() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            // Shifting spreads the values over all magnitudes and units.
            let number = (random.u64(..) >> random.u32(1..64)).max(1);
            let delay = Duration::from_micros(number % 86_400_000_000);
            for fault in [
                Fault::Latency { delay },
                Fault::Jitter { delay_max: delay },
                Fault::Bandwidth { bytes_per_second: number },
                Fault::Slice { bytes_max: number },
                Fault::Reset { after_bytes: number },
            ] {
                assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
            }
        }
    }

    #[test]
    fn what_is_not_a_fault_is_refused_with_the_reason() {
        let cases = [
            ("", "none of that name"),
            ("lag:50ms", "none of that name"),
            ("latency", "latency:50ms"),
            ("latency:50", "one of s, ms, us"),
            ("latency:-1ms", "one of s, ms, us"),
            ("latency:2000000s", "more than a day"),
            ("latency:99999999999999999999s", "does not start with a number"),
            ("bandwidth:64KiB", "bandwidth:64KiB/s"),
            ("bandwidth:0B/s", "above zero"),
            ("slice:0B", "above zero"),
            ("slice:99999999999999GiB", "too large"),
            ("cut:now", "takes no value"),
            ("cut@up", "whole connections"),
            ("latency:5ms@sideways", "neither @up nor @down"),
        ];
        for (text, why) in cases {
            let message = text.parse::<ScopedFault>().unwrap_err().to_string();
            assert!(message.contains(why), "{text:?} gave {message}");
        }
    }

    #[test]
    fn faults_are_strings_in_json() {
        let fault: ScopedFault = serde_json::from_str(r#""jitter:20ms@up""#).unwrap();
        assert_eq!(fault, Fault::Jitter { delay_max: Duration::from_millis(20) }.on(Direction::Up));
        assert_eq!(serde_json::to_string(&fault).unwrap(), r#""jitter:20ms@up""#);
    }
}
