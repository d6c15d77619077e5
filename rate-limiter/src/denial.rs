//! A denial as an HTTP response: status, problem document, fields. Shared by the tower layer and
//! the service, so that a client sees the same wherever the limiter sits.

use axum::http::{HeaderMap, StatusCode};
use service::Problem;

use crate::headers;
use crate::limiter::{Decision, Error, Outcome, Source};
use crate::policy::Policy;

/// Problem type of a denial, registered by the IETF draft of the `RateLimit` fields.
pub const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Problem type while the limiter's store is down and the policy is closed.
pub const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
/// Problem type of a request that can never pass.
pub const COST_EXCEEDS_LIMIT: &str = "urn:problem:cost-exceeds-limit";

/// The response to a request that `decision` did not allow.
///
/// 429 when the caller is over its quota or can never pass; 503 when it did nothing wrong and the
/// limiter cannot tell.
pub fn problem(policy: &Policy, decision: &Decision) -> Problem {
    let name = policy.limits()[decision.limit_index].name().to_owned();
    let problem = match (decision.outcome, decision.source) {
        (_, Source::FailClosed) => {
            Problem::of(StatusCode::SERVICE_UNAVAILABLE, REDUCED_CAPACITY, "Reduced capacity")
                .detail("the limiter's store is down and this policy refuses while it is")
        }
        (Outcome::TooLarge, _) => {
            let limit = decision.quota.limit;
            Problem::of(StatusCode::TOO_MANY_REQUESTS, COST_EXCEEDS_LIMIT, "Cost exceeds the limit")
                .detail(format!("the cost is above {limit}, which \"{name}\" never grants at once"))
        }
        _ => Problem::of(StatusCode::TOO_MANY_REQUESTS, QUOTA_EXCEEDED, "Quota exceeded")
            .detail(format!("\"{name}\" is used up"))
            .extension("violated-policies", vec![name]),
    };
    with_fields(problem, policy, decision)
}

fn with_fields(problem: Problem, policy: &Policy, decision: &Decision) -> Problem {
    let mut fields = HeaderMap::new();
    headers::apply(&mut fields, policy, decision);
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name?, value)));
    fields.fold(problem, |problem, (name, value)| problem.header(name, value))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { field, reason } => Problem::invalid(format!("/{field}"), reason),
            Error::Unavailable { what, .. } => {
                tracing::warn!(%what, "the store did not answer");
                let wait = std::time::Duration::from_secs(1);
                Problem::unavailable("the store did not answer; a charge may have been made", wait)
            }
            Error::Full { .. } => {
                let wait = std::time::Duration::from_secs(1);
                Problem::unavailable(error.to_string(), wait)
            }
        }
    }
}
