//! What a client is told in header fields.
//!
//! `RateLimit-Policy: "burst";q=100;w=60` says what the limits are, `RateLimit: "burst";r=50;t=30`
//! what is left of the one that matters now, `Retry-After` when to come back. Each is an RFC 9651
//! list of strings with integer parameters. Times are whole seconds, rounded up: a client that
//! comes back when told must not be denied again.
//!
//! Source: IETF draft-ietf-httpapi-ratelimit-headers, the revision with policy names (2025). The
//! older forms (`limit=, remaining=, reset=` and three separate fields) are obsolete.

use std::fmt::Write;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

use crate::limiter::Decision;
use crate::policy::Policy;

/// The limits, in full.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The `RateLimit-Policy` field: every limit of the policy.
pub fn policy_field(policy: &Policy) -> HeaderValue {
    let mut field = String::new();
    for limit in policy.limits() {
        let separator = if field.is_empty() { "" } else { ", " };
        let (name, quota, window) = (limit.name(), limit.burst(), limit.window_seconds());
        let _ = write!(field, "{separator}\"{name}\";q={quota};w={window}");
    }
    HeaderValue::try_from(field).expect("policy names are checked to be plain ASCII")
}

/// The `RateLimit` field: the limit that decided.
pub fn quota_field(policy: &Policy, decision: &Decision) -> HeaderValue {
    let name = policy.limits()[decision.limit_index].name();
    let until_change = decision.retry_after().unwrap_or(decision.quota.reset_after);
    let (remaining, seconds) = (decision.quota.remaining, whole_seconds(until_change));
    HeaderValue::try_from(format!("\"{name}\";r={remaining};t={seconds}"))
        .expect("policy names are checked to be plain ASCII")
}

/// Adds all fields that apply to `headers`.
pub fn apply(headers: &mut HeaderMap, policy: &Policy, decision: &Decision) {
    headers.insert(RATELIMIT_POLICY, policy_field(policy));
    headers.insert(RATELIMIT, quota_field(policy, decision));
    if let Some(retry_after) = decision.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::{Outcome, Quota, Source};
    use crate::policy::AlgorithmName;

    #[test]
    fn the_fields_are_structured_and_round_against_an_early_retry() {
        let policy =
            Policy::single("api", AlgorithmName::TokenBucket, 50, 1_000, Some(75)).unwrap();
        assert_eq!(policy_field(&policy), "\"token-bucket\";q=75;w=2");
        let decision = Decision {
            outcome: Outcome::Denied { retry_after: Duration::from_millis(1) },
            limit_index: 0,
            quota: Quota { limit: 75, remaining: 0, reset_after: Duration::from_millis(1_500) },
            delay: Duration::ZERO,
            source: Source::Store,
        };
        assert_eq!(quota_field(&policy, &decision), "\"token-bucket\";r=0;t=1");
        let mut headers = HeaderMap::new();
        apply(&mut headers, &policy, &decision);
        assert_eq!(headers[RETRY_AFTER], "1");
    }
}
