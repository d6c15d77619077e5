//! Every error of the service as a problem document, in one place.

use std::time::Duration;

use axum::http::header::ETAG;
use axum::http::{HeaderValue, StatusCode};
use service::problem::Place;
use service::{ETag, Problem, idempotency};

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
