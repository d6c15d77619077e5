//! An HTTP client for this lab's own address: connections are kept, and every request has a limit.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::IN_FLIGHT_MAX;

/// A request that takes longer is an error of the class `timeout`.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
/// Below the server's own limit for idle connections: the client closes first, so no request
/// meets a connection that is being closed under it.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Nothing the lab's services answer is larger.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The client.
#[derive(Clone)]
pub(crate) struct Loopback {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

/// A whole response.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Loopback {
    /// A client for the lab at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IN_FLIGHT_MAX)
            .build(connector);
        Self { client, address }
    }

    /// Posts JSON to `path`.
    ///
    /// # Errors
    /// The class of the failure: `timeout`, `no connection`, `no answer`.
    pub(crate) async fn post(&self, path: &str, json: String) -> Result<Answer, &'static str> {
        self.post_with(path, &[], json).await
    }

    /// The same with headers of one's own.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    ///
    /// # Panics
    /// When a header is not one.
    pub(crate) async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        json: String,
    ) -> Result<Answer, &'static str> {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(json)).expect("an address and a path are a URI");
        let answer = tokio::time::timeout(REQUEST_TIME_MAX, self.send(request)).await;
        answer.unwrap_or(Err("timeout"))
    }

    /// Gets `path` with these headers. Redirects are not followed.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    ///
    /// # Panics
    /// When a header is not one.
    pub(crate) async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, &'static str> {
        let mut request = Request::get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("an address and a path are a URI");
        let answer = tokio::time::timeout(REQUEST_TIME_MAX, self.send(request)).await;
        answer.unwrap_or(Err("timeout"))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, &'static str> {
        let response = self.client.request(request).await.map_err(|_| "no connection")?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| "no answer")?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}
