//! The HTTP service over a real socket: the main path, and every way to hold it wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper_util::client::legacy::{Client as Hyper, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rate_limiter::registry::Registry;
use rate_limiter::store::memory::Memory;
use serde_json::{Value, json};
use service::{Limits, Readiness, Shutdown};

/// Serves `app` on a free port until the test ends.
pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service::serve(listener, app, Shutdown::new()));
    address
}

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Client {
    hyper: Hyper<HttpConnector, Body>,
    address: SocketAddr,
}

/// A whole response.
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Client {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { hyper: Hyper::builder(TokioExecutor::new()).build_http(), address }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Response {
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.hyper.request(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Response { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", path, headers, Body::empty()).await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: Value) -> Response {
        self.send(method, path, &[("content-type", "application/json")], body.to_string()).await
    }
}

async fn service() -> Client {
    let registry = Arc::new(Registry::new(Memory::default(), 1));
    let router = rate_limiter::http::router(registry, Readiness::new(&Shutdown::new()));
    Client::to(serve(service::harden(router, Limits::default())).await)
}

fn bucket(rate: i64, burst: i64) -> Value {
    let limit =
        json!({"algorithm": "token-bucket", "rate": rate, "per_ms": 60_000, "burst": burst});
    json!({"limits": [limit], "on_store_failure": "closed"})
}

#[tokio::test]
async fn a_policy_is_put_and_enforced_and_removed() {
    let client = service().await;
    let put = client.json("PUT", "/v1/policies/api", bucket(2, 3)).await;
    assert_eq!(put.status, 201);
    assert_eq!(client.json("PUT", "/v1/policies/api", bucket(2, 3)).await.status, 200);
    let got = client.get("/v1/policies/api", &[]).await.json();
    assert_eq!(got["limits"][0]["burst"], 3);
    assert_eq!(client.get("/v1/policies", &[]).await.json()[0]["name"], "api");

    let ask = json!({"policy": "api", "key": "user:1"});
    for remaining in [2, 1, 0] {
        let allowed = client.json("POST", "/v1/check", ask.clone()).await;
        assert_eq!(allowed.status, 200);
        let body = allowed.json();
        assert_eq!((&body["allowed"], &body["remaining"]), (&json!(true), &json!(remaining)));
        assert_eq!(body["limit"], 3);
    }
    let denied = client.json("POST", "/v1/check", ask.clone()).await;
    assert_eq!((denied.status, denied.header("retry-after")), (429, Some("30")));
    let body = denied.json();
    assert_eq!((&body["allowed"], &body["remaining"]), (&json!(false), &json!(0)));
    assert!((29_000..=30_000).contains(&body["retry_after_ms"].as_u64().unwrap()), "{body}");

    let refund = json!({"policy": "api", "key": "user:1", "cost": 2});
    assert_eq!(client.json("POST", "/v1/refund", refund).await.json()["remaining"], 2);
    let take = json!({"policy": "api", "key": "user:1", "at_most": 10});
    assert_eq!(client.json("POST", "/v1/take", take).await.json()["granted"], 2);

    let never = json!({"policy": "api", "key": "user:1", "cost": 4});
    let never = client.json("POST", "/v1/check", never).await;
    assert_eq!((never.status, never.header("retry-after")), (429, None));
    assert_eq!(never.json()["type"], rate_limiter::denial::COST_EXCEEDS_LIMIT);

    assert_eq!(client.send("DELETE", "/v1/policies/api", &[], Body::empty()).await.status, 204);
    assert_eq!(client.send("DELETE", "/v1/policies/api", &[], Body::empty()).await.status, 404);
    assert_eq!(client.json("POST", "/v1/check", ask).await.status, 404);
}

#[tokio::test]
async fn whatever_is_wrong_is_a_problem_that_names_the_field() {
    let client = service().await;
    client.json("PUT", "/v1/policies/api", bucket(2, 3)).await;
    let check = |key: &str, cost: Value| json!({"policy": "api", "key": key, "cost": cost});
    let long = "k".repeat(257);
    for (method, path, body, status, pointer) in [
        ("PUT", "/v1/policies/api", bucket(0, 3), 422, "/limits/0/rate"),
        ("PUT", "/v1/policies/api", bucket(-5, 3), 422, "/limits/0/rate"),
        ("PUT", "/v1/policies/api", bucket(5, 0), 422, "/limits/0/burst"),
        ("PUT", "/v1/policies/api", json!({"limits": []}), 422, "/limits"),
        ("PUT", "/v1/policies/api", json!({}), 422, "/limits"),
        (
            "PUT",
            "/v1/policies/api",
            json!({"limits": [{"algorithm": "magic"}]}),
            422,
            "/limits/0/algorithm",
        ),
        ("PUT", "/v1/policies/api", json!({"limit": []}), 422, "/limit"),
        ("PUT", "/v1/policies/not%20a%20name", bucket(5, 5), 422, "/name"),
        ("POST", "/v1/check", check("user", json!(-1)), 422, "/cost"),
        ("POST", "/v1/check", check("user", json!("much")), 422, "/cost"),
        ("POST", "/v1/check", check("", json!(1)), 422, "/key"),
        ("POST", "/v1/check", check(&long, json!(1)), 422, "/key"),
        ("POST", "/v1/check", json!({"policy": "nope", "key": "user"}), 404, "/policy"),
        ("POST", "/v1/check", json!({"policy": "api"}), 422, "/key"),
    ] {
        let refused = client.json(method, path, body.clone()).await;
        let said = refused.text();
        assert_eq!(refused.status, status, "{method} {path} {body}: {said}");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{body}: {said}");
    }
    let kept = client.get("/v1/policies/api", &[]).await.json();
    assert_eq!(kept["limits"][0]["rate"], 2, "a refused policy changes nothing");
    assert_eq!(
        client.send("POST", "/v1/check", &[("content-type", "application/json")], "{").await.status,
        400
    );
    assert_eq!(client.send("POST", "/v1/check", &[], "{}").await.status, 415);
    assert_eq!(client.get("/v1/check", &[]).await.status, 405);
    assert_eq!(client.get("/v2", &[]).await.status, 404);
}

#[tokio::test]
async fn the_operator_finds_health_metrics_and_the_api_document() {
    let client = service().await;
    client.json("PUT", "/v1/policies/api", bucket(2, 3)).await;
    client.json("POST", "/v1/check", json!({"policy": "api", "key": "user"})).await;
    assert_eq!(client.get("/healthz", &[]).await.status, 200);
    assert_eq!(client.get("/readyz", &[]).await.status, 200);
    let metrics = client.get("/metrics", &[]).await;
    assert!(
        metrics.text().contains("rate_limiter_decisions_total{policy=\"api\",outcome=\"allowed\"}")
    );
    let openapi = client.get("/openapi.json", &[]).await.json();
    for path in ["/v1/check", "/v1/take", "/v1/refund", "/v1/policies", "/v1/policies/{name}"] {
        assert!(openapi["paths"][path].is_object(), "{path} is not documented");
    }
}
