//! Every error of the service as a problem document, and which routes may answer with which, in
//! one place.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::header::ETAG;
use axum::http::{HeaderValue, StatusCode};
use service::problem::Place;
use service::{ETag, Problem, idempotency};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use crate::link::Error;

const RETRY_SOON: Duration = Duration::from_secs(1);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let said = error.to_string();
        match error {
            Error::Invalid { field, reason } if field == "code" => {
                Problem::bad_request(said).at(Place::Path(field), reason)
            }
            Error::Invalid { field, reason } if field == "cursor" => {
                Problem::bad_request(said).at(Place::Query(field), reason)
            }
            Error::Invalid { field, reason } => Problem::invalid(format!("/{field}"), reason),
            Error::Taken(_) => {
                Problem::of(StatusCode::CONFLICT, "urn:problem:code-taken", "Code taken")
                    .detail(said)
                    .field("/alias", "is taken")
            }
            Error::NotFound(_) => Problem::not_found(said),
            Error::Gone(_) => Problem::new(StatusCode::GONE).detail(said),
            Error::VersionMismatch { current } => {
                let etag = ETag(current.0.into()).to_string();
                let etag = HeaderValue::try_from(etag).expect("digits in quotes");
                Problem::new(StatusCode::PRECONDITION_FAILED)
                    .detail(said)
                    .at(Place::Header("If-Match".to_owned()), "does not hold")
                    .header(ETAG, etag)
            }
            Error::KeyReused => idempotency::reused_key(),
            Error::KeyInFlight => Problem::conflict(said)
                .at(Place::Header("Idempotency-Key".to_owned()), "is being worked on")
                .retry_after(RETRY_SOON),
            Error::NoFreeCode { .. } => Problem::unavailable(said, RETRY_SOON),
            Error::Unavailable { what, source } => {
                tracing::warn!(%what, error = ?source, "the store did not answer");
                let detail = "the store did not answer; a write may have been made";
                Problem::unavailable(detail, RETRY_SOON)
            }
        }
    }
}

type Documented = BTreeMap<String, RefOr<Response>>;

/// What every route of the API may answer with.
pub(super) struct ApiProblems;

impl IntoResponses for ApiProblems {
    fn responses() -> Documented {
        documented(&[
            (400, "A path, query or header parameter is wrong; errors[] names it"),
            (401, "No API key, or an unknown one"),
            (429, "Too many requests with this key"),
            (503, "The store does not answer; a write may have been made"),
        ])
    }
}

/// What routes about one link may also answer with.
pub(super) struct LinkProblems;

impl IntoResponses for LinkProblems {
    fn responses() -> Documented {
        documented(&[(404, "You have no such link")])
    }
}

/// What routes that take JSON may also answer with.
pub(super) struct BodyProblems;

impl IntoResponses for BodyProblems {
    fn responses() -> Documented {
        documented(&[
            (400, "The body is not JSON, or a parameter is wrong; errors[] names it"),
            (413, "The body is too large"),
            (415, "The content type is not that of this route"),
            (422, "A field is wrong; errors[] names it"),
        ])
    }
}

/// What a create may also answer with.
pub(super) struct TakenProblem;

impl IntoResponses for TakenProblem {
    fn responses() -> Documented {
        documented(&[(409, "The alias is taken, or the same request is in flight")])
    }
}

/// What routes that must be told a version may also answer with.
pub(super) struct VersionProblems;

impl IntoResponses for VersionProblems {
    fn responses() -> Documented {
        documented(&[(412, "Somebody changed it since"), (428, "If-Match is missing")])
    }
}

/// What a visitor may be told instead of where to go.
pub(super) struct RedirectProblems;

impl IntoResponses for RedirectProblems {
    fn responses() -> Documented {
        documented(&[
            (400, "That cannot be a code"),
            (404, "No such link"),
            (410, "Expired, disabled, or used up"),
            (429, "Too many unknown codes from this address"),
            (503, "The store does not answer, and the link is not known or not free without it"),
        ])
    }
}

fn documented(problems: &[(u16, &str)]) -> Documented {
    let response = |says: &str| {
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        Response::builder().description(says).content("application/problem+json", content).build()
    };
    problems.iter().map(|(status, says)| (status.to_string(), response(says).into())).collect()
}

/// Adds the shape that [`documented`] refers to.
pub(super) fn add_schema(openapi: &mut OpenApi) {
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    openapi.components.get_or_insert_default().schemas.extend(schemas);
}
