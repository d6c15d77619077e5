//! Connections that misbehave, and the other protocol.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use axum::routing::get;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client as PooledClient;
use hyper_util::rt::TokioExecutor;
use service::{Connection, ConnectionLimits, Limits, Shutdown, harden};

use crate::support::{Server, get_request, patient, routes};

async fn impatient() -> Server {
    let limits = ConnectionLimits { head_time: Duration::from_millis(50), ..Default::default() };
    Server::start_with(harden(routes(), Limits::default()), Shutdown::new(), limits).await
}

#[tokio::test]
async fn a_client_that_trickles_its_head_is_cut_off() {
    let server = impatient().await;
    for beginning in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: t\r\nx-slow: "] {
        let mut slow = server.connect().await;
        slow.send(beginning).await;
        assert!(!slow.closed().await.contains("200 OK"), "{beginning:?} got an answer");
    }
}

#[tokio::test]
async fn a_kept_alive_connection_that_idles_too_long_is_closed() {
    let mut client = impatient().await.connect().await;
    assert_eq!(client.ask(&get_request("/")).await.body, "hello");
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn the_connection_after_the_last_waits_for_a_place() {
    let limits = ConnectionLimits { connections: 1, ..Default::default() };
    let router = harden(routes(), Limits::default());
    let server = Server::start_with(router, Shutdown::new(), limits).await;
    let mut first = server.connect().await;
    first.ask(&get_request("/")).await;
    let mut second = server.connect().await; // the kernel accepts it, the service does not yet
    second.send(&get_request("/")).await;
    let answered = tokio::time::timeout(Duration::from_millis(50), second.0.readable()).await;
    assert!(answered.is_err(), "served beyond the limit");
    drop(first);
    assert_eq!(second.answer().await.body, "hello");
}

#[tokio::test]
async fn the_same_port_speaks_http_2_and_drains_it() {
    let peer = async |connection: Connection| connection.peer().unwrap().to_string();
    let router = harden(routes().route("/peer", get(peer)), Limits::default());
    let server = Server::start(router).await;
    let client: PooledClient<_, Body> =
        PooledClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let ask = async |path: &str| {
        let uri = format!("http://{}{path}", server.address);
        let response = client.request(Request::get(uri).body(Body::empty()).unwrap());
        let response = patient(response).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask("/peer").await, (200, "127.0.0.1".into()));
    let (status, body) = ask("/nowhere").await;
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &problem["status"]), (404, &404.into()));
    server.shutdown.begin(); // the pooled connection is idle and open
    assert_eq!(server.drained().await.aborted, 0);
}

#[tokio::test]
async fn bytes_that_are_not_http_get_a_bare_400() {
    let server = Server::start(harden(Router::new(), Limits::default())).await;
    let mut client = server.connect().await;
    client.send("this is not HTTP\r\n\r\n").await;
    let answer = client.closed().await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
}
