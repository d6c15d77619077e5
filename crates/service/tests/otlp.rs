//! Feature `otlp`: a request's span reaches a collector, at the latest when the service stops.

#![allow(missing_docs, reason = "tests say what they show in their names")]

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use clap::Parser;
use service::{Limits, Readiness, ServerSettings, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerSettings,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_span_of_a_request_reaches_the_collector_before_serve_returns() {
    let (send, mut received) = mpsc::unbounded_channel();
    let collector = Router::new().route(
        "/v1/traces",
        post(async move |body: Bytes| send.send(body).expect("the test is listening")),
    );
    let listener = service::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(service::serve(listener, collector, Shutdown::new()));

    let flags = Flags::try_parse_from(["test", "--otlp-endpoint", &endpoint]).unwrap();
    service::telemetry::init(&flags.server);
    let shutdown = Shutdown::new();
    let openapi = utoipa::openapi::OpenApiBuilder::new().build();
    let router = Router::new()
        .route("/rows/{id}", get(async || "row"))
        .merge(service::operations(Readiness::new(&shutdown), openapi));
    let router = service::harden(router, Limits::default());
    let listener = service::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(service::serve(listener, router, shutdown.clone()));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /rows/7 HTTP/1.1\r\nhost: t\r\nx-request-id: seen-in-the-trace\r\n\
                   connection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("row"), "{answer}");

    shutdown.begin();
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it stops").unwrap();
    let batch = received.try_recv().expect("flushed before serve returned");
    let batch = String::from_utf8_lossy(&batch);
    for text in ["GET /rows/{id}", "seen-in-the-trace"] {
        assert!(batch.contains(text), "{text} is not in {batch}");
    }
}

#[test]
fn an_endpoint_that_cannot_work_names_its_flag() {
    let error = Flags::try_parse_from(["test", "--otlp-endpoint", "https://c"]).err().unwrap();
    assert!(error.to_string().contains("--otlp-endpoint"), "{error}");
}
