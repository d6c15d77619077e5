//! A service to talk to, and a client that reads whole responses.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use http_body_util::BodyExt;
use hyper_util::client::legacy::{Client as Hyper, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rate_limiter::{AlgorithmName, Policy};
use serde_json::Value;
use service::{Clock, Readiness, Shutdown, TrustedProxies};
use url_shortener::http::{self, Api, ApiOptions, BULK_BYTES_MAX, Redirects};
use url_shortener::keys;
use url_shortener::shortener::Options;
use url_shortener::store::memory::Memory;
use url_shortener::{Shortener, Store, UrlPolicy};

/// When the clock of these tests starts: 2026-11-22, in the middle of the day.
pub(crate) const NOON_MS: u64 = 1_795_348_800_000;

/// A running service.
pub(crate) struct App<S> {
    pub(crate) shortener: Arc<Shortener<S>>,
    pub(crate) clock: Clock,
    pub(crate) client: Client,
    pub(crate) shutdown: Shutdown,
}

/// What a test chooses.
pub(crate) struct Choices {
    pub(crate) requests_per_second: u32,
    pub(crate) unknown_per_minute: u32,
    pub(crate) durable_clicks: bool,
    pub(crate) recent_bytes: Option<u64>,
    pub(crate) beside_the_router: bool,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            requests_per_second: 1_000_000,
            unknown_per_minute: 1_000_000,
            durable_clicks: false,
            recent_bytes: None,
            beside_the_router: true,
        }
    }
}

/// A service in memory whose client has a key.
pub(crate) async fn app() -> App<Memory> {
    app_on(Arc::default(), Choices::default()).await
}

/// The same over any store.
pub(crate) async fn app_on<S: Store>(store: Arc<S>, choices: Choices) -> App<S> {
    let clock = Clock::manual(NOON_MS);
    let (key, record) = keys::new_key("test", NOON_MS).await.unwrap();
    store.add_key(record).await.unwrap();
    let options = Options {
        policy: UrlPolicy::new(["sho.rt"]).unwrap(),
        durable_clicks: choices.durable_clicks,
        recent_bytes: choices.recent_bytes,
        clock: clock.clone(),
        ..Options::default()
    };
    let shutdown = Shutdown::new();
    let shortener = Shortener::start(store, options).await.unwrap();
    shortener.run(&shutdown);
    let bucket = AlgorithmName::TokenBucket;
    let per_second = choices.requests_per_second;
    let per_minute = choices.unknown_per_minute;
    let api = Api::new(
        Arc::clone(&shortener),
        ApiOptions {
            base_url: "https://sho.rt".to_owned(),
            open: false,
            per_key: Policy::single("per-key", bucket, per_second, 1_000, None).unwrap(),
            unknown_codes: Policy::single("unknown-codes", bucket, per_minute, 60_000, None)
                .unwrap(),
            proxies: TrustedProxies::default(),
        },
    );
    let limits = service::Limits { body_bytes: BULK_BYTES_MAX, ..service::Limits::default() };
    let router = service::harden(http::router(&api, Readiness::new(&shutdown)), limits);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (limits, stop) = (service::ConnectionLimits::default(), shutdown.clone());
    tokio::spawn(async move {
        // Both ways of a redirect are tested: beside the router and through it.
        match choices.beside_the_router {
            true => service::serve_first(listener, Redirects(api), router, stop, limits).await,
            false => service::serve_with(listener, router, stop, limits).await,
        }
    });
    App { shortener, clock, client: Client::to(address, Some(key)), shutdown }
}

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Client {
    hyper: Hyper<HttpConnector, Body>,
    address: SocketAddr,
    key: Option<String>,
}

/// A whole response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value =
            self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The code of a created link.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.text());
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn to(address: SocketAddr, key: Option<String>) -> Self {
        Self { hyper: Hyper::builder(TokioExecutor::new()).build_http(), address, key }
    }

    /// Where the service listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the service describes itself, and the key that opens it.
    pub(crate) fn document(&self) -> (String, String) {
        let key = self.key.clone().unwrap_or_default();
        (format!("http://{}/openapi.json", self.address), key)
    }

    pub(crate) fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        let uri = format!("http://{}{path}", self.address);
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.hyper.request(request.body(body.into())?).await?.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Response {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], Body::empty()).await
    }

    pub(crate) async fn json(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let headers: Vec<_> =
            headers.iter().copied().chain([("content-type", "application/json")]).collect();
        self.send(method, path, &headers, body.to_string()).await
    }

    pub(crate) async fn create(&self, body: Value) -> Response {
        self.json("POST", "/v1/links", &[], &body).await
    }

    /// Follows a link as a person with this browser would.
    pub(crate) async fn follow(&self, code: &str) -> Response {
        let firefox = "Mozilla/5.0 (X11; rv:144.0) Gecko/20100101 Firefox/144.0";
        self.send("GET", &format!("/{code}"), &[("user-agent", firefox)], Body::empty()).await
    }
}
