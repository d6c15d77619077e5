//! What a visitor of a short URL is told: a decision over what the index knows, the time, and the
//! policy of today. No clock, no store.

use crate::code::Code;
use crate::link::{Entry, Error, State, Why};
use crate::target_url::UrlPolicy;

/// What the index alone can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Redirect.
    Go,
    /// Redirect if the store can charge a visit: the link admits a limited number, and that number
    /// is exact only where it is kept.
    Charge,
    /// 410.
    Gone(Why),
    /// 404.
    Unknown,
}

/// Decides about `entry` at this time.
///
/// A target that today's policy refuses is treated like a disabled link: what was stored under an
/// older policy, or by other hands, must not get out.
pub fn decide(entry: Entry<'_>, now_ms: u64, policy: &UrlPolicy) -> Decision {
    match entry.state {
        State::Deleted => Decision::Unknown,
        State::Disabled => Decision::Gone(Why::Disabled),
        State::Enabled if entry.expires_at_ms.is_some_and(|at| at <= now_ms) => {
            Decision::Gone(Why::Expired)
        }
        State::Enabled if !policy.allows(entry.target) => Decision::Gone(Why::Disabled),
        State::Enabled if entry.limited => Decision::Charge,
        State::Enabled => Decision::Go,
    }
}

impl Decision {
    /// The error for whoever does not redirect.
    pub(crate) fn refusal(self, code: &Code) -> Option<Error> {
        match self {
            Self::Go | Self::Charge => None,
            Self::Gone(why) => Some(Error::Gone(why)),
            Self::Unknown => Some(Error::NotFound(code.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{LinkId, Redirect, Version};

    #[test]
    fn every_reason_not_to_redirect_in_its_order() {
        let policy = UrlPolicy::new(["sho.rt"]).unwrap();
        let fine = Entry {
            id: LinkId(1),
            version: Version::FIRST,
            state: State::Enabled,
            redirect: Redirect::Found,
            limited: false,
            expires_at_ms: Some(1_000),
            code: "abc",
            target: "https://example.com/",
        };
        for (entry, now_ms, expected) in [
            (fine, 999, Decision::Go),
            (fine, 1_000, Decision::Gone(Why::Expired)),
            (Entry { limited: true, ..fine }, 0, Decision::Charge),
            (Entry { limited: true, ..fine }, 1_000, Decision::Gone(Why::Expired)),
            (Entry { state: State::Disabled, ..fine }, 2_000, Decision::Gone(Why::Disabled)),
            (Entry { state: State::Deleted, target: "", ..fine }, 2_000, Decision::Unknown),
            (Entry { target: "https://sho.rt/a", ..fine }, 0, Decision::Gone(Why::Disabled)),
            (Entry { target: "javascript:x", ..fine }, 0, Decision::Gone(Why::Disabled)),
        ] {
            assert_eq!(decide(entry, now_ms, &policy), expected, "{entry:?}");
        }
    }
}
