//! What the promises over the wire share: an HTTP client that says which request broke a promise,
//! and names that no earlier run has used.

use std::time::Duration;

use axum::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::conformance::{Broken, Verdict};
use testkit::ensure;

use crate::exchange::{self, Exchange};

/// A request that takes longer breaks the promise it was sent for.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Nothing the services answer is larger.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// No promise sends more at once.
const CONNECTIONS_KEPT_MAX: usize = 256;

/// A service written in any language, at a URL.
#[derive(Clone)]
pub(super) struct Wire {
    base: String,
    headers: Vec<(String, String)>,
    exchange: Exchange,
    run: String,
}

impl Wire {
    /// The service at `base`; `headers` go with every request (an API key, say).
    pub(super) fn new(base: &str, headers: Vec<(String, String)>) -> Self {
        let exchange = Exchange::new(REQUEST_TIME_MAX, ANSWER_BYTES_MAX, CONNECTIONS_KEPT_MAX);
        let run = format!("{:08x}", fastrand::u32(..));
        Self { base: base.trim_end_matches('/').to_owned(), headers, exchange, run }
    }

    /// The URL without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A name that nobody else uses: the service may keep what earlier runs left behind.
    pub(super) fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.run)
    }

    /// Sends `body` (null for none) and reads the whole answer.
    ///
    /// # Errors
    /// [`Broken`] when there is none.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Broken> {
        let asked = match body {
            Value::Null => format!("{method} {path}"),
            body => format!("{method} {path} {body}"),
        };
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !body.is_null() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let always = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in always.chain(headers.iter().copied()) {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(bytes)).map_err(|error| no_answer(&asked, &error))?;
        let sent = self.exchange.send(request).await;
        let exchange::Answer { status, headers, body } =
            sent.map_err(|failed| no_answer(&asked, &failed))?;
        Ok(Answer { asked, status: status.as_u16(), headers, body })
    }

    /// [`send`](Self::send) as POST with JSON.
    pub(super) async fn post(&self, path: &str, body: Value) -> Result<Answer, Broken> {
        self.send(Method::POST, path, &[], &body).await
    }

    /// [`send`](Self::send) as GET.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Broken> {
        self.send(Method::GET, path, &[], &Value::Null).await
    }
}

fn no_answer(asked: &str, why: &dyn std::fmt::Display) -> Broken {
    Broken::because(format!("{asked}: no answer: {why}"))
}

/// What came back, and for what.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    asked: String,
    /// The status code.
    pub(super) status: u16,
    headers: HeaderMap,
    /// The body as it came.
    pub(super) body: Bytes,
}

impl Answer {
    /// This answer, if it has that status.
    ///
    /// # Errors
    /// [`Broken`] with request and answer.
    pub(super) fn is(self, status: u16) -> Result<Self, Broken> {
        ensure!(self.status == status, "expected {status} and got {self}");
        Ok(self)
    }

    /// A header as text, empty when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Broken`] when it is none.
    pub(super) fn json(&self) -> Result<Value, Broken> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Broken::because(format!("the body is not JSON ({error}): {self}")))
    }

    /// That it is a problem document (RFC 9457) which names this field.
    pub(super) fn names(&self, field: &str) -> Verdict {
        let kind = self.header("content-type");
        ensure!(kind.starts_with("application/problem+json"), "no problem document: {self}");
        let told = String::from_utf8_lossy(&self.body).into_owned();
        ensure!(told.contains(field), "the problem does not name `{field}`: {self}");
        Ok(())
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(400).collect();
        write!(f, "{} {shown}\n  for {}", self.status, self.asked)
    }
}

/// Sends `count` requests at once and returns every answer.
pub(super) async fn at_once<Fut>(
    count: usize,
    request: impl Fn(usize) -> Fut,
) -> Result<Vec<Answer>, Broken>
where
    Fut: Future<Output = Result<Answer, Broken>>,
{
    futures::future::join_all((0..count).map(request)).await.into_iter().collect()
}

/// How many of the answers have this status.
pub(super) fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// That bad bodies are refused with a 4xx problem, never with a 5xx: not JSON, not an object, and
/// a field nobody knows.
pub(super) async fn refuses_nonsense(wire: &Wire, path: &str) -> Verdict {
    let json = [("content-type", "application/json")];
    for body in [json!("nonsense"), json!([]), json!({"no-such-field": 1})] {
        let answer = wire.send(Method::POST, path, &json, &body).await?;
        ensure!((400..500).contains(&answer.status), "nonsense is the client's fault: {answer}");
        let kind = answer.header("content-type").to_owned();
        ensure!(kind.starts_with("application/problem+json"), "no problem document: {answer}");
    }
    let plain = [("content-type", "text/plain")];
    let answer = wire.send(Method::POST, path, &plain, &json!({})).await?;
    ensure!(answer.status == 415, "a body that is not JSON by its type is a 415: {answer}");
    let answer = wire.get("/no/such/path").await?;
    ensure!(answer.status == 404, "an unknown path is a 404: {answer}");
    Ok(())
}
