//! What an error says about the charge: the rule that decides whether a call may be sent again.
//!
//! A call is repeated only after a reply that *proves* that nothing was applied. Whatever is not on
//! this list (a timeout, a connection that broke after the command was written) leaves the outcome
//! unknown: it is counted as such, reported as unavailable, and never sent again.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A reply that proves that nothing was charged, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The script cache was emptied (a restart, a failover): load the script and call again.
    NoScript,
    /// The slot lives elsewhere, for good: remember it.
    Moved(String),
    /// The slot is on its way: ask there, this once.
    Ask(String),
    /// The keys of the call are on both ends of a slot on its way: soon.
    TryAgain,
    /// No quorum, or nobody serves the slot: soon, if a failover is under way.
    ClusterDown,
    /// A replica was asked to write: its primary is elsewhere.
    ReadOnly,
    /// The server reads its data: soon.
    Loading,
    /// Fewer replicas than `min-replicas-to-write` are in touch: the server refuses to write.
    NoReplicas,
    /// Another script runs for too long.
    Busy,
    /// Nobody listens at the address: nothing was sent.
    Unreachable,
}

impl Refusal {
    /// Reads an error; `None` when it proves nothing.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        let ErrorKind::Server(kind) = error.kind() else {
            return match error.code() {
                Some("NOREPLICAS") => Some(Self::NoReplicas),
                Some("BUSY") => Some(Self::Busy),
                _ => error.is_connection_refusal().then_some(Self::Unreachable),
            };
        };
        let elsewhere = || error.redirect_node().map(|(address, _)| address.to_owned());
        match kind {
            ServerErrorKind::NoScript => Some(Self::NoScript),
            ServerErrorKind::Moved => elsewhere().map(Self::Moved),
            ServerErrorKind::Ask => elsewhere().map(Self::Ask),
            ServerErrorKind::TryAgain => Some(Self::TryAgain),
            ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => Some(Self::ClusterDown),
            ServerErrorKind::ReadOnly => Some(Self::ReadOnly),
            ServerErrorKind::BusyLoading => Some(Self::Loading),
            _ => None,
        }
    }

    /// Its name in `rate_limiter_redis_refusals_total`.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::NoScript => "noscript",
            Self::Moved(_) => "moved",
            Self::Ask(_) => "ask",
            Self::TryAgain => "tryagain",
            Self::ClusterDown => "clusterdown",
            Self::ReadOnly => "readonly",
            Self::Loading => "loading",
            Self::NoReplicas => "noreplicas",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether the connection that said so must not be used again without a fresh look at who is
    /// at its other end: it may be promoted again later, without the writes of the meantime.
    pub(super) const fn ends_the_session(&self) -> bool {
        matches!(self, Self::Moved(_) | Self::ReadOnly)
    }

    /// Whether the map of the cluster may be out of date.
    pub(super) const fn questions_the_map(&self) -> bool {
        matches!(self, Self::Moved(_) | Self::ReadOnly | Self::ClusterDown | Self::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Option<Refusal> {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        Refusal::of(&value.extract_error().unwrap_err())
    }

    #[test]
    fn only_what_proves_that_nothing_was_applied_is_a_refusal() {
        use Refusal::*;
        for (line, expected) in [
            ("MOVED 3999 127.0.0.1:6381", Moved("127.0.0.1:6381".to_owned())),
            ("ASK 3999 127.0.0.1:6381", Ask("127.0.0.1:6381".to_owned())),
            ("TRYAGAIN Multiple keys request during rehashing of slot", TryAgain),
            ("CLUSTERDOWN The cluster is down", ClusterDown),
            ("MASTERDOWN Link with MASTER is down", ClusterDown),
            ("READONLY You can't write against a read only replica.", ReadOnly),
            ("LOADING Redis is loading the dataset in memory", Loading),
            ("NOSCRIPT No matching script.", NoScript),
            ("NOREPLICAS Not enough good replicas to write.", NoReplicas),
            ("BUSY Redis is busy running a script.", Busy),
        ] {
            assert_eq!(refusal(line), Some(expected), "{line}");
        }
        for line in ["ERR user_script:1: something", "OOM command not allowed", "UNKILLABLE x"] {
            assert_eq!(refusal(line), None, "{line}");
        }
        for broken in [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::TimedOut] {
            assert_eq!(Refusal::of(&std::io::Error::from(broken).into()), None, "{broken:?}");
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(Refusal::of(&refused.into()), Some(Unreachable));
    }
}
