//! One HTTP exchange, for whatever in the lab is a client: the traffic of the pages, and the
//! grader of services at a URL.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Below the server's own limit for idle connections: the client closes first, so no request
/// meets a connection that is being closed under it.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A client that keeps its connections. Redirects are not followed.
#[derive(Clone)]
pub(crate) struct Exchange {
    client: Client<HttpConnector, Full<Bytes>>,
    time_max: Duration,
    answer_bytes_max: usize,
}

/// A whole answer.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It took longer than [`Exchange::new`] allows.
    TooLate,
    /// Nobody was there, or hung up before the head of an answer.
    NoConnection(hyper_util::client::legacy::Error),
    /// The body broke off, or is larger than [`Exchange::new`] allows.
    NoBody(Box<dyn std::error::Error + Send + Sync>),
}

impl Exchange {
    /// A client whose requests take at most so long, whose answers are at most so large, and which
    /// keeps at most so many idle connections to a server.
    pub(crate) fn new(time_max: Duration, answer_bytes_max: usize, idle: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(idle)
            .build(connector);
        Self { client, time_max, answer_bytes_max }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failed> {
        let answer = tokio::time::timeout(self.time_max, self.without_limit(request)).await;
        answer.unwrap_or(Err(Failed::TooLate))
    }

    async fn without_limit(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failed> {
        let response = self.client.request(request).await.map_err(Failed::NoConnection)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.answer_bytes_max).collect().await;
        let body = body.map_err(Failed::NoBody)?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Failed {
    /// The class it is counted in.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::TooLate => "timeout",
            Self::NoConnection(_) => "no connection",
            Self::NoBody(_) => "no answer",
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLate => f.write_str("it took too long"),
            // Its own words are only "client error (Connect)".
            Self::NoConnection(error) => match std::error::Error::source(error) {
                Some(source) => write!(f, "{error}: {source}"),
                None => write!(f, "{error}"),
            },
            Self::NoBody(error) => write!(f, "{error}"),
        }
    }
}
