//! The REST side, over a pooled HTTP client.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use service::reach::innermost;

use crate::ids::{ConversationId, Seq};

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The server answered with a problem.
    #[error("{status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's detail.
        detail: String,
    },
    /// There was no answer, or none that can be read.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// One server's REST side.
#[derive(Clone)]
pub struct Api {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Api {
    /// The server at `base`: `http://host:port[/path]`.
    pub fn new(base: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { base: base.trim_end_matches('/').to_owned(), client }
    }

    /// Any request; `Value::Null` for no body.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let bytes = match body {
            Value::Null => Bytes::new(),
            body => {
                request = request.header("content-type", "application/json");
                Bytes::from(body.to_string())
            }
        };
        let no_answer = |error: &dyn std::fmt::Display| ApiError::NoAnswer(error.to_string());
        let request = request.body(Full::new(bytes)).map_err(|error| no_answer(&error))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| no_answer(&innermost(&error)))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| no_answer(&error))?;
        let body = body.to_bytes();
        let value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).map_err(|error| no_answer(&error))?,
        };
        if status.is_success() {
            return Ok(value);
        }
        let detail = value["detail"].as_str().unwrap_or_default().to_owned();
        Err(ApiError::Refused { status: status.as_u16(), detail })
    }

    /// Creates the account unless it is there, and logs in. Returns the token.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn enter(
        &self,
        user: &str,
        password: &str,
        device: &str,
    ) -> Result<String, ApiError> {
        let account = json!({"user": user, "password": password});
        match self.request(Method::POST, "/v1/register", None, &account).await {
            Ok(_) | Err(ApiError::Refused { status: 409, .. }) => {}
            Err(error) => return Err(error),
        }
        let login = json!({"user": user, "password": password, "device": device});
        let answer = self.request(Method::POST, "/v1/login", None, &login).await?;
        answer["token"].as_str().map(str::to_owned).ok_or(ApiError::NoAnswer("no token".to_owned()))
    }

    /// The conversation with somebody.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn direct(&self, token: &str, with: &str) -> Result<ConversationId, ApiError> {
        let body = json!({"with": with});
        let answer = self.request(Method::POST, "/v1/conversations", Some(token), &body).await?;
        parse(&answer["conversation"])
    }

    /// A new group.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn group(
        &self,
        token: &str,
        title: &str,
        members: &[&str],
    ) -> Result<ConversationId, ApiError> {
        let path = format!("/v1/conversations/{}", ConversationId::fresh());
        let body = json!({"title": title, "members": members});
        let answer = self.request(Method::PUT, &path, Some(token), &body).await?;
        parse(&answer["conversation"])
    }

    /// The newest messages before a place.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn history(
        &self,
        token: &str,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<crate::chat::Message>, ApiError> {
        let before = before.map(|seq| format!("before={seq}&")).unwrap_or_default();
        let path = format!("/v1/conversations/{conversation}/messages?{before}limit={limit}");
        let mut answer = self.request(Method::GET, &path, Some(token), &Value::Null).await?;
        serde_json::from_value(answer["messages"].take())
            .map_err(|error| ApiError::NoAnswer(error.to_string()))
    }
}

fn parse(value: &Value) -> Result<ConversationId, ApiError> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| ApiError::NoAnswer("no conversation in the answer".to_owned()))
}
