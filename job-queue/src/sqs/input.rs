//! A request of either protocol, until it is read as the operation's own type.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri, header};
use serde::de::DeserializeOwned;

use super::errors::{Code, Fault};
use super::query::Form;

/// How the client speaks, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json,
    Query,
}

#[derive(Debug)]
pub(super) enum Input {
    Json { action: Option<String>, body: Bytes },
    Query(Form),
}

impl Input {
    /// JSON names its operation in a header; everything else is a form, in the body or the URL.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let is_json = text(header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with("application/x-amz-json"));
        match text("x-amz-target") {
            Some(target) => {
                let action = target.strip_prefix("AmazonSQS.").map(str::to_owned);
                Self::Json { action: action.or_else(|| Some(target.to_owned())), body }
            }
            None if is_json => Self::Json { action: None, body },
            None => {
                let form = if method == Method::POST { &*body } else { b"" };
                Self::Query(Form::of(uri.query().unwrap_or_default().as_bytes(), form))
            }
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Json { .. } => Protocol::Json,
            Self::Query(_) => Protocol::Query,
        }
    }

    pub(super) fn action(&self) -> Option<&str> {
        match self {
            Self::Json { action, .. } => action.as_deref(),
            Self::Query(form) => form.action(),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        match self {
            // Some clients send nothing at all for an operation without parameters.
            Self::Json { body, .. } if body.is_empty() => read_json(b"{}"),
            Self::Json { body, .. } => read_json(&body),
            Self::Query(form) => {
                let value = form.into_value()?;
                serde_path_to_error::deserialize(value).map_err(|error| wrong_shape(&error))
            }
        }
    }
}

/// Keeping track of where one is in the body costs as much as reading it, so that is done when
/// there is something to say.
fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value =
        serde_path_to_error::deserialize(&mut reader).map_err(|error| wrong_shape(&error))?;
    reader.end().map_err(|error| {
        Fault::new(Code::SerializationException, format!("The body is not one JSON value: {error}"))
    })?;
    Ok(value)
}

fn wrong_shape(error: &serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let (path, cause) = (error.path().to_string(), error.inner());
    Fault::new(Code::SerializationException, format!("{path}: {cause}"))
}
