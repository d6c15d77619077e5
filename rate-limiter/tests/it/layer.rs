//! The tower layer in front of an axum route, over a real socket.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use rate_limiter::layer::RateLimitLayer;
use rate_limiter::store::memory::Memory;
use rate_limiter::{AlgorithmName, Policy, Store};

use crate::http::{Client, serve};

#[tokio::test]
async fn a_limited_route_tells_its_clients_what_is_left_and_when_to_come_back() {
    let policy = Policy::single("api", AlgorithmName::TokenBucket, 2, 60_000, None).unwrap();
    let limiter = Arc::new(Memory::default().limiter(policy));
    let caller =
        |request: &Request| request.headers().get("x-api-key")?.to_str().ok().map(str::to_owned);
    let app =
        Router::new().route("/", get(async || "hello")).layer(RateLimitLayer::new(limiter, caller));
    let client = Client::to(serve(app).await);

    let first = client.get("/", &[("x-api-key", "a")]).await;
    assert_eq!((first.status, first.text()), (200, "hello"));
    assert_eq!(first.header("ratelimit-policy"), Some("\"token-bucket\";q=2;w=60"));
    assert_eq!(first.header("ratelimit"), Some("\"token-bucket\";r=1;t=30"));
    assert_eq!(client.get("/", &[("x-api-key", "a")]).await.status, 200);

    let denied = client.get("/", &[("x-api-key", "a")]).await;
    assert_eq!(denied.status, 429);
    assert_eq!(denied.header("content-type"), Some("application/problem+json"));
    assert_eq!(denied.header("retry-after"), Some("30"));
    assert_eq!(denied.header("ratelimit"), Some("\"token-bucket\";r=0;t=30"));
    let problem = denied.json();
    assert_eq!(problem["type"], rate_limiter::denial::QUOTA_EXCEEDED);
    assert_eq!(problem["violated-policies"][0], "token-bucket");

    assert_eq!(client.get("/", &[("x-api-key", "b")]).await.status, 200, "another caller");
    assert_eq!(client.get("/", &[]).await.status, 401, "leaving the key out is no way around");
    let long = "k".repeat(300);
    assert_eq!(client.get("/", &[("x-api-key", &long)]).await.status, 422);
}
