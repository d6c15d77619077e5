//! The client for this lab's own address: failures are classes to be counted.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::Full;

use super::IN_FLIGHT_MAX;
use crate::exchange::{Answer, Exchange};

/// A request that takes longer is an error of the class `timeout`.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
/// Nothing the lab's services answer is larger.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The client.
#[derive(Clone)]
pub(crate) struct Loopback {
    exchange: Exchange,
    address: SocketAddr,
}

impl Loopback {
    /// A client for the lab at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let exchange = Exchange::new(REQUEST_TIME_MAX, ANSWER_BYTES_MAX, IN_FLIGHT_MAX);
        Self { exchange, address }
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
        self.send(request).await
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
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, &'static str> {
        self.exchange.send(request).await.map_err(|failed| failed.class())
    }
}
