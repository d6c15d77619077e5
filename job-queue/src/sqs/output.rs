//! A result on its way to the client.

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::errors::{Code, Fault};
use super::input::Protocol;
use super::xml;

pub(super) const JSON: (&str, HeaderValue) =
    ("content-type", HeaderValue::from_static("application/x-amz-json-1.0"));
pub(super) const XML: (&str, HeaderValue) =
    ("content-type", HeaderValue::from_static("text/xml; charset=utf-8"));

/// A result as JSON text. The older protocol pays for one more parse.
#[derive(Debug)]
pub(super) struct Output(Vec<u8>);

impl Output {
    pub(super) fn of(result: &impl Serialize) -> Result<Self, Fault> {
        let body = serde_json::to_vec(result).map_err(|error| {
            tracing::error!(%error, "a result cannot be written as JSON");
            Fault::new(Code::ServiceUnavailable, "The result cannot be written.")
        });
        body.map(Self)
    }

    pub(super) fn into_response(self, protocol: Protocol, action: &str) -> Response {
        let id = request_id();
        match protocol {
            Protocol::Json => ([JSON, ("x-amzn-requestid", id)], self.0).into_response(),
            Protocol::Query => {
                let value: Value =
                    serde_json::from_slice(&self.0).expect("serde_json wrote it just now");
                let body = xml::result(action, &value, &id);
                ([XML, ("x-amzn-requestid", id)], body).into_response()
            }
        }
    }
}

/// An id for this answer, the way clients expect one: a UUID.
pub(super) fn request_id() -> HeaderValue {
    let id = crate::message::MessageId::fresh().to_string();
    HeaderValue::from_str(&id).expect("a UUID is plain ASCII")
}

/// An operation without a result.
#[derive(Debug, Serialize)]
pub(super) struct Nothing {}
