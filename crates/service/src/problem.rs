//! RFC 9457: every failure a client sees is one `application/problem+json` document.
//!
//! A system turns its error enum into problems in one place (`impl From<Error> for Problem`) and
//! its handlers use `?`. `type` is what a program branches on, `detail` is for people,
//! `errors[]` says which field, `instance` is the request id.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::request_id::RequestId;

/// The media type of RFC 9457.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Where in the request a fault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A JSON pointer (RFC 6901) into the body; the empty one is the whole body.
    Pointer(String),
    /// A query parameter.
    Query(String),
    /// A parameter in the path.
    Path(String),
    /// A header.
    Header(String),
    /// Not the request at all: a dependency of this service.
    Dependency(String),
}

/// One entry of `errors[]`, e.g. `{"pointer": "/limits/0/rate", "detail": "must not be zero"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong with it.
    pub detail: String,
}

/// A failure, on its way to the client.
///
/// ```
/// use axum::http::StatusCode;
/// use service::Problem;
///
/// let problem = Problem::of(StatusCode::CONFLICT, "urn:problem:out-of-stock", "Out of stock")
///     .detail("3 left, 5 asked for")
///     .field("/quantity", "at most 3")
///     .extension("available", 3);
/// assert_eq!(problem.status(), StatusCode::CONFLICT);
/// ```
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>); // boxed: a `Result<T, Problem>` stays as small as `T`

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    headers: HeaderMap,
    document: ProblemDocument,
}

/// A failure, as RFC 9457 writes it down.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct ProblemDocument {
    /// What a program branches on; `about:blank` when the status says it all.
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    /// The same for every problem of this type.
    title: Cow<'static, str>,
    /// The HTTP status again, for who only sees the body.
    status: u16,
    /// What happened this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
    /// The request id, as in the log and in `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// Which fields are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Members of this type's own.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    extensions: Map<String, Value>,
}

impl Problem {
    /// A problem that its status says everything about.
    pub fn new(status: StatusCode) -> Self {
        Self::of(status, "about:blank", status.canonical_reason().unwrap_or("Error"))
    }

    /// A problem of a system's own type, e.g. `urn:problem:lease-lost`.
    pub fn of(
        status: StatusCode,
        kind: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        let document = ProblemDocument {
            kind: kind.into(),
            title: title.into(),
            status: status.as_u16(),
            detail: None,
            instance: None,
            errors: Vec::new(),
            extensions: Map::new(),
        };
        Self(Box::new(Parts { status, headers: HeaderMap::new(), document }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND).detail(detail)
    }

    /// 409: right by itself, wrong in the present state.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT).detail(detail)
    }

    /// 422: understood, but this field (a JSON pointer) cannot have this value.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        Self::new(StatusCode::UNPROCESSABLE_ENTITY)
            .detail(format!("{pointer}: {detail}"))
            .field(pointer, detail)
    }

    /// 503: not now; asking again after `retry_after` makes sense.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE).detail(detail).retry_after(retry_after)
    }

    /// 500: `cause` goes to the log under the request id, never to the client.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(error = %cause, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
            .detail("the cause is in this service's log under the request id in `instance`")
    }

    /// What happened this time, for people.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.document.detail = Some(detail.into());
        self
    }

    /// Adds the field at this JSON pointer to `errors[]`.
    pub fn field(self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.at(Place::Pointer(pointer.into()), detail)
    }

    /// Adds any place of the request to `errors[]`.
    pub fn at(mut self, place: Place, detail: impl Into<String>) -> Self {
        self.0.document.errors.push(FieldError { place, detail: detail.into() });
        self
    }

    /// Adds a member of this type's own, such as `remaining`.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.document.extensions.insert(name.into(), value.into());
        self
    }

    /// Adds a response header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Adds `Retry-After`, in whole seconds rounded up: rounding down would invite a retry that
    /// comes too early.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Lays this problem over a response that only has a status, keeping its headers (`Allow`).
    pub(crate) fn onto(self, mut bare: HeaderMap) -> Response {
        bare.remove(axum::http::header::CONTENT_LENGTH);
        bare.remove(CONTENT_TYPE);
        let mut response = self.into_response();
        for (name, value) in &bare {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Parts { status, mut headers, mut document } = *self.0;
        document.instance = RequestId::current().map(|id| id.to_string());
        let body = serde_json::to_vec(&document).expect("strings and JSON values always serialize");
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        (status, headers, body).into_response()
    }
}

/// So that an OpenAPI path can say `body = Problem`.
impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemDocument::schema()
    }
}

impl ToSchema for Problem {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ProblemDocument::schemas(schemas);
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = &self.0.document;
        write!(f, "{} {}", document.status, document.title)?;
        document.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl std::error::Error for Problem {}
