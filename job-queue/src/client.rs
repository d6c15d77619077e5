//! A client of any SQS-compatible endpoint, as small as the worker library and the commands need.
//!
//! Trade-off: plain HTTP and a signature nobody checks, which is right for a queue of your own and
//! wrong for Amazon's. For that, implement [`Source`](crate::worker::Source) with the AWS SDK.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service::reach::innermost;

/// Longest wait for an answer: a long poll and some.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(35);
/// Largest answer: ten messages of the largest size, escaped.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection pool to one endpoint; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    endpoint: Uri,
    authorization: String,
    urls: Arc<Mutex<HashMap<String, String>>>,
    knows_lease_epochs: bool,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint said no: the error's name and its words.
    #[error("{action}: {code}: {message}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// `QueueDoesNotExist` and the like.
        code: String,
        /// For people.
        message: String,
    },
    /// The endpoint is not an address.
    #[error("the endpoint {0:?} is not an http:// address")]
    Endpoint(String),
    /// No answer, or none that can be read. What was asked may have been done.
    #[error("{action}: no answer: {cause}")]
    NoAnswer {
        /// What was asked.
        action: &'static str,
        /// Why.
        cause: String,
    },
}

impl Client {
    /// A client of `endpoint` (`http://127.0.0.1:9324`) for queues of `region`.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn new(endpoint: &str, region: &str) -> Result<Self, Error> {
        let uri: Uri = endpoint.parse().map_err(|_| Error::Endpoint(endpoint.to_owned()))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(Error::Endpoint(endpoint.to_owned()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            endpoint: uri,
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential=worker/20260101/{region}/sqs/aws4_request, \
                 SignedHeaders=host, Signature=0"
            ),
            urls: Arc::default(),
            knows_lease_epochs: true,
        })
    }

    /// For a server that is not this crate's: ask for nothing that only ours knows.
    #[must_use]
    pub fn of_another_server(self) -> Self {
        Self { knows_lease_epochs: false, ..self }
    }

    pub(crate) fn knows_lease_epochs(&self) -> bool {
        self.knows_lease_epochs
    }

    /// The address of a queue, asked once.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn queue_url(&self, queue: &str) -> Result<String, Error> {
        if let Some(url) = self.urls.lock().get(queue) {
            return Ok(url.clone());
        }
        let input = serde_json::json!({ "QueueName": queue });
        let answer: Value = self.call("GetQueueUrl", &input).await?;
        let url = answer["QueueUrl"].as_str().unwrap_or_default().to_owned();
        self.urls.lock().insert(queue.to_owned(), url.clone());
        Ok(url)
    }

    /// Calls an operation of the JSON protocol.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::NoAnswer`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        action: &'static str,
        input: &impl Serialize,
    ) -> Result<T, Error> {
        let no_answer = |cause: String| Error::NoAnswer { action, cause };
        let body = serde_json::to_vec(input).map_err(|error| no_answer(error.to_string()))?;
        let request = Request::post(self.endpoint.clone())
            .header("x-amz-target", format!("AmazonSQS.{action}"))
            .header(CONTENT_TYPE, "application/x-amz-json-1.0")
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::from(body))
            .map_err(|error| no_answer(error.to_string()))?;
        let answer = async {
            let response =
                self.pool.request(request).await.map_err(|error| no_answer(self.cause(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| no_answer(error.to_string()))?.to_bytes()))
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, answer).await;
        let (status, body) = answer.map_err(|_| no_answer("timed out".to_owned()))??;
        if status.is_success() {
            let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
            return serde_json::from_slice(&body).map_err(|error| no_answer(error.to_string()));
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let code = error["__type"].as_str().and_then(|it| it.rsplit('#').next());
        Err(Error::Refused {
            action,
            code: code.unwrap_or(status.as_str()).to_owned(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Who was asked, and what the innermost error says: "connection refused" and not "Connect".
    fn cause(&self, error: &(dyn std::error::Error + 'static)) -> String {
        format!("{}: {}", self.endpoint, innermost(error))
    }

    /// Reads a JSON document of the service around the protocol: `/stats`, `/peek`.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::NoAnswer`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let action = "GET";
        let no_answer = |cause: String| Error::NoAnswer { action, cause };
        let base = self.endpoint.to_string();
        let uri = format!("{}{path}", base.trim_end_matches('/'));
        let uri: Uri = uri.parse().map_err(|_| Error::Endpoint(uri))?;
        let response = tokio::time::timeout(ANSWER_TIME_MAX, self.pool.get(uri)).await;
        let response = response.map_err(|_| no_answer("timed out".to_owned()))?;
        let response = response.map_err(|error| no_answer(self.cause(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| no_answer(error.to_string()))?.to_bytes();
        if !status.is_success() {
            // A problem document says in `detail` what a person wants to read.
            let problem = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            let message = problem["detail"].as_str().map(str::to_owned);
            let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
            return Err(Error::Refused { action, code: status.to_string(), message });
        }
        serde_json::from_slice(&body).map_err(|error| no_answer(error.to_string()))
    }
}
