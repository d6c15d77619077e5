//! `Json`, `Query` and `Path`, named like axum's so that utoipa reads them, but whose rejections
//! are [`Problem`]s that name the wrong field.
//!
//! 400 for what cannot be parsed, 422 for JSON that parses and has a wrong field, 415 and 413 for
//! what is not even looked at.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::problem::{Place, Problem};
use crate::shape::is_object;

/// A JSON body, in either direction.
///
/// Trap: serde buffers `#[serde(flatten)]`, untagged and internally tagged types before it looks
/// inside, so for a fault within one the pointer ends at the value that holds it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_json_content_type(request.headers())?;
        let body = Bytes::from_request(request, state).await.map_err(body_problem)?;
        parse_json(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, json)], body).into_response(),
            Err(error) => Problem::internal(error).into_response(),
        }
    }
}

/// A value from JSON bytes, as [`Json`] reads it: for bodies that arrive by another way.
///
/// # Errors
/// 400 with line and column for what is not JSON; 422 with the field's pointer for what is.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii_start().starts_with(b"[") && is_object::<T>() {
        let detail = "the body is an array where an object is expected";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .field("", detail)
            .detail(detail));
    }
    // Keeping track of the path slows every body down, so only one that failed is parsed again
    // with it.
    serde_json::from_slice(body).or_else(|_| parse_json_with_path(body))
}

fn parse_json_with_path<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = json_pointer(error.path(), &error.inner().to_string());
        json_problem(error.inner(), pointer)
    })?;
    deserializer.end().map_err(|error| json_problem(&error, String::new()))?;
    Ok(value)
}

fn json_problem(error: &serde_json::Error, pointer: String) -> Problem {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => {
            let message = error.to_string();
            // serde_json appends the position, which says less than the pointer does.
            let what = message.split(" at line ").next().unwrap_or(&message).to_owned();
            Problem::invalid(pointer, what)
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::of(StatusCode::BAD_REQUEST, "urn:problem:malformed-json", "Malformed JSON")
                .detail(format!("the body is not JSON: {error}"))
                .extension("line", line)
                .extension("column", column)
        }
    }
}

/// RFC 6901, from serde's path. A missing field is not on the path: serde only names it.
fn json_pointer(path: &serde_path_to_error::Path, message: &str) -> String {
    let mut pointer = String::new();
    let mut push = |token: &str| {
        pointer.push('/');
        pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
    };
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => push(&index.to_string()),
            Segment::Map { key } => push(key),
            // An enum's variant is a key of the JSON object only when it is externally tagged,
            // and `Unknown` has no name: both would make a pointer that points nowhere.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    if let Some((field, _)) = missing {
        push(field);
    }
    pointer
}

fn check_json_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = sent.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    let is_json = essence == b"application/json"
        || (essence.starts_with(b"application/") && essence.ends_with(b"+json"));
    if is_json {
        return Ok(());
    }
    let was = match sent {
        [] => "is missing".to_owned(),
        _ => format!("is `{}`", String::from_utf8_lossy(sent)),
    };
    let detail = format!("Content-Type {was}; this route takes application/json");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .at(Place::Header("Content-Type".to_owned()), detail.clone())
        .detail(detail))
}

fn body_problem(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::bad_request("the body broke off before its end"),
    }
}

pub(crate) fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE).detail("the body is larger than this service takes")
}

/// The query string.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let pairs = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let message = error.inner().to_string();
        let pointer = json_pointer(error.path(), &message);
        let name = pointer.trim_start_matches('/').to_owned();
        let detail = match name.as_str() {
            "" => format!("query string: {message}"),
            _ => format!("query parameter `{name}`: {message}"),
        };
        Problem::bad_request(detail).at(Place::Query(name), message)
    })
}

/// The parameters in the path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(path_problem(rejection, parts)),
        }
    }
}

fn path_problem(rejection: PathRejection, parts: &Parts) -> Problem {
    let PathRejection::FailedToDeserializePathParams(failure) = rejection else {
        return Problem::internal("a handler takes path parameters its route does not have");
    };
    let not_a = |value: &str, expected: &str| format!("`{value}` is not a valid {expected}");
    let (name, detail) = match failure.kind() {
        ErrorKind::ParseErrorAtKey { key, value, expected_type } => {
            (key.clone(), not_a(value, expected_type))
        }
        ErrorKind::ParseErrorAtIndex { index, value, expected_type } => {
            (parameter_name(parts, *index), not_a(value, expected_type))
        }
        ErrorKind::ParseError { value, expected_type } => {
            (parameter_name(parts, 0), not_a(value, expected_type))
        }
        ErrorKind::DeserializeError { key, message, .. } => (key.clone(), message.clone()),
        ErrorKind::InvalidUtf8InPathParam { key } => (key.clone(), "is not UTF-8".to_owned()),
        ErrorKind::Message(message) => (parameter_name(parts, 0), message.clone()),
        other => return Problem::internal(other),
    };
    Problem::bad_request(format!("path parameter `{name}`: {detail}")).at(Place::Path(name), detail)
}

/// The `index`th `{name}` of the route's pattern.
fn parameter_name(parts: &Parts, index: usize) -> String {
    let pattern = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let mut names = pattern.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.nth(index).unwrap_or_default().trim_start_matches('*').to_owned()
}
