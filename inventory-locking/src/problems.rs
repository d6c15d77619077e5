//! Every error as the problem document its caller can act on, and which routes may answer with
//! which.
//!
//! Sold out is a 409 that says what is there; expired is a 410, for nothing brings it back; too
//! much at once is a 503 with `Retry-After` and never "sold out", because a shop that says so
//! loses a customer it could have served.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderValue};
use service::problem::Place;
use service::{ETag, Problem};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{IntoResponses, ToSchema};

use crate::inventory::Error;

/// When to ask again after the store did not answer.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        let of = |status, kind: &'static str, title: &'static str| {
            Problem::of(status, format!("urn:problem:{kind}"), title).detail(detail.clone())
        };
        match error {
            Error::Invalid { field, reason } => Problem::invalid(format!("/{field}"), reason),
            Error::UnknownSku(sku) => of(StatusCode::NOT_FOUND, "unknown-sku", "Unknown SKU")
                .extension("sku", sku.as_str()),
            Error::UnknownReservation(_) => {
                of(StatusCode::NOT_FOUND, "unknown-reservation", "Unknown reservation")
            }
            Error::Exists(_) => of(StatusCode::CONFLICT, "item-exists", "The item exists"),
            Error::SoldOut { sku, requested, available } => {
                of(StatusCode::CONFLICT, "sold-out", "Sold out")
                    .extension("sku", sku.as_str())
                    .extension("requested", requested)
                    .extension("available", available)
            }
            Error::Conflict { current, .. } => {
                let etag = HeaderValue::try_from(ETag(current).to_string());
                of(StatusCode::PRECONDITION_FAILED, "stale-version", "The item has changed")
                    .at(Place::Header("If-Match".to_owned()), "does not hold")
                    .header(ETAG, etag.expect("digits in quotes are a header value"))
            }
            Error::BelowHeld { held, .. } => {
                of(StatusCode::CONFLICT, "below-held", "More is promised than would be left")
                    .field("/on_hand", format!("must be at least {held}"))
                    .extension("held", held)
            }
            Error::Expired(_) => of(StatusCode::GONE, "expired", "The reservation has expired"),
            Error::Ended { state, .. } => {
                of(StatusCode::CONFLICT, "ended", "The reservation has ended")
                    .extension("state", state.as_str())
            }
            Error::KeyReused(_) => service::idempotency::reused_key(),
            Error::Busy { retry_after_ms, .. } => {
                of(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many at once")
                    .retry_after(Duration::from_millis(retry_after_ms))
            }
            Error::Unavailable { ref source, .. } => {
                // The cause names a full disk or a lost server; the client is not told.
                tracing::error!(error = %detail, cause = ?source, "the store did not answer");
                of(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The store did not answer")
                    .detail("it may have been done: repeat it with the same Idempotency-Key")
                    .retry_after(UNAVAILABLE_RETRY)
            }
        }
    }
}

type Documented = BTreeMap<String, RefOr<Response>>;

/// Declares what groups of routes may answer with besides their own.
macro_rules! groups {
    ($($(#[$about:meta])* $group:ident { $($status:literal: $says:literal),+ $(,)? })+) => {$(
        $(#[$about])*
        pub(crate) struct $group;

        impl IntoResponses for $group {
            fn responses() -> Documented {
                documented(&[$(($status, $says)),+])
            }
        }
    )+};
}

groups! {
    /// Every route.
    AnyRoute { 503: "Busy, or the store did not answer: try again after Retry-After" }
    /// Routes that take JSON.
    TakesJson {
        400: "The body is not JSON, or a parameter cannot be understood",
        413: "The body is too large",
        415: "The body is not JSON by its content type",
        422: "A field is wrong; errors[] names it",
    }
    /// Routes about one item.
    OfItem { 404: "No such SKU" }
    /// The route that looks unless nothing has changed.
    LooksAgain { 400: "If-None-Match cannot be understood" }
    /// The route that makes an item.
    MakesItem { 409: "The SKU exists" }
    /// The route that sets what was counted.
    Counts { 409: "More is held than that" }
    /// The route that reserves.
    Reserves { 409: "Sold out; `available` says what is there" }
    /// Routes about one reservation.
    OfReservation { 400: "The id is no UUID", 404: "No such reservation" }
    /// Routes that end or move a hold.
    OfHold { 409: "It has ended in another way", 410: "It has expired" }
    /// Routes that need a key.
    NeedsKey { 422: "A field is wrong, or the key was used with another request" }
    /// Routes that need to be told a version.
    NeedsVersion {
        412: "The item has changed; the ETag is the current one",
        428: "If-Match is missing",
    }
}

fn documented(all: &[(u16, &str)]) -> Documented {
    let response = |says: &str| {
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        Response::builder().description(says).content("application/problem+json", content).build()
    };
    all.iter().map(|(status, says)| (status.to_string(), response(says).into())).collect()
}
