//! A lab as a child process, and a client for it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use testkit::crash::{Child, Program};

/// Longer than anything here should take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A running lab.
pub(crate) struct Lab {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    client: Client<HttpConnector, Body>,
}

/// The binary that is under test.
pub(crate) fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_lab"))
}

impl Lab {
    /// Starts one on a free port, and learns the port from the table it prints.
    pub(crate) async fn start() -> Self {
        Self::start_with(program()).await
    }

    /// The same with arguments or an environment of the test's own.
    pub(crate) async fn start_with(program: Program) -> Self {
        let mut child = program.args(["--listen", "127.0.0.1:0"]).start();
        let line = child.wait_line("http://").await;
        let place = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let address = place.expect("the table has an address").trim_end_matches('/');
        let address = address.parse().expect("what the table prints is an address");
        child.wait_http_ok(address, "/healthz").await;
        Self { child, address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// `http://127.0.0.1:PORT/path`
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request; the body is read by the caller.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> axum::http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |json| Body::from(json.to_string()));
        let request = request.body(body).expect("a request of a test is one");
        self.client.request(request).await.expect("the lab answers")
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let (head, body) = self.open(method, path, headers, body).await.into_parts();
        let body = body.collect().await.expect("the answer is whole").to_bytes();
        (head.status, head.headers, body)
    }

    /// The same for answers in JSON.
    pub(crate) async fn json(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let (status, _, body) = self.ask(method, path, &[], body).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// A stream of server-sent events, read one by one.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    pub(crate) fn of(response: axum::http::Response<Incoming>) -> Self {
        assert_eq!(response.status(), StatusCode::OK, "the stream opens");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The data of the next event; `None` when the stream ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                let data = data.map(|data| serde_json::from_str(data).expect("data is JSON"));
                self.text = rest.to_owned();
                match data {
                    Some(data) => return Some(data),
                    None => continue, // a comment that keeps the connection alive
                }
            }
            let frame = tokio::time::timeout(LIMIT, self.body.frame()).await;
            let data = frame.expect("the stream goes on or ends")?.ok()?.into_data().ok()?;
            self.text += std::str::from_utf8(&data).expect("events are text");
        }
    }

    /// The first event that `is` true of.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let looking = async {
            loop {
                let event = self.next().await;
                let event = event.unwrap_or_else(|| panic!("the stream ended before {what}"));
                if is(&event) {
                    return event;
                }
            }
        };
        let found = tokio::time::timeout(LIMIT, looking).await;
        found.unwrap_or_else(|_| panic!("no {what} within {LIMIT:?}"))
    }
}
