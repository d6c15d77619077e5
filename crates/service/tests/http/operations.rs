//! What operators and their machinery see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use service::{ConnectionLimits, Limits, Readiness, Shutdown, harden, operations};

use crate::support::{Server, empty_openapi, get_request, routes};

#[tokio::test]
async fn readiness_names_the_dependency_that_is_down_while_health_stays_up() {
    let redis_up = Arc::new(AtomicBool::new(true));
    let probe = Arc::clone(&redis_up);
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(&shutdown)
        .check("postgres", async || Ok::<(), String>(()))
        .check("redis", move || {
            let up = probe.load(Ordering::SeqCst);
            async move { if up { Ok(()) } else { Err("connection refused") } }
        });
    let router = harden(operations(readiness, empty_openapi()), Limits::default());
    let server = Server::start_with(router, shutdown, ConnectionLimits::default()).await;

    assert_eq!(server.ask(get_request("/readyz")).await.body, r#"{"status":"ready"}"#);
    redis_up.store(false, Ordering::SeqCst);
    let problem = server.ask(get_request("/readyz")).await.problem(503);
    assert_eq!(problem["detail"], "not available: redis");
    assert_eq!(problem["errors"][0]["dependency"], "redis");
    assert_eq!(problem["errors"][0]["detail"], "connection refused");
    assert_eq!(server.ask(get_request("/healthz")).await.body, r#"{"status":"alive"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_hangs_counts_as_down() {
    let never = || std::future::pending::<Result<(), String>>();
    let readiness = Readiness::new(&Shutdown::new()).check("redis", never);
    let problem = readiness.ask().await.unwrap_err().to_string();
    assert_eq!(problem, "503 Not ready: not available: redis");
}

#[tokio::test]
async fn readiness_turns_503_before_the_port_closes() {
    let shutdown = Shutdown::new().with_delay(Duration::from_secs(3600));
    let router = harden(operations(Readiness::new(&shutdown), empty_openapi()), Limits::default());
    let server = Server::start_with(router, shutdown, ConnectionLimits::default()).await;
    server.shutdown.begin();
    let problem = server.ask(get_request("/readyz")).await.problem(503);
    assert_eq!(problem["detail"], "shutting down");
}

#[tokio::test]
async fn requests_are_counted_by_route_pattern_and_unknown_paths_share_one_label() {
    let mounted = Router::new().nest("/counted", routes());
    let server = Server::start(harden(mounted, Limits::default())).await;
    for path in ["/counted/rows/a/1", "/counted/rows/b/2", "/counted/rows/b/x"] {
        server.ask(get_request(path)).await;
    }
    for attack in 0..50 {
        server.ask(get_request(&format!("/counted/attack-{attack}"))).await.problem(404);
        let invented = format!("ATTACK{attack} /counted/page HTTP/1.1\r\nhost: t\r\n\r\n");
        server.ask(invented).await.problem(405);
    }
    let metrics = service::metrics::install().render();
    let series = |labels: &str| format!("http_requests_total{{{labels}}} ");
    let pattern = r#"route="/counted/rows/{table}/{id}",method="GET""#;
    for (labels, count) in [
        (format!(r#"{pattern},status="200""#), 2),
        (format!(r#"{pattern},status="400""#), 1),
        (r#"route="/counted/page",method="OTHER",status="405""#.to_owned(), 50),
    ] {
        let line = format!("{}{count}\n", series(&labels));
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert!(
        metrics.contains(r#"http_requests_total{route="unmatched",method="GET",status="404"}"#)
    );
    assert!(!metrics.contains("attack-"), "a path chosen by a client became a label\n{metrics}");
    assert!(!metrics.contains("ATTACK"), "a method chosen by a client became a label\n{metrics}");
    let bucket =
        format!(r#"http_request_duration_seconds_bucket{{{pattern},status="200",le="30"}} 2"#);
    assert!(metrics.contains(&bucket), "{bucket} is not in\n{metrics}");
}

#[tokio::test]
async fn several_systems_in_one_process_share_one_metrics_page() {
    let system = |shutdown: &Shutdown| {
        let operations = operations(Readiness::new(shutdown), empty_openapi());
        harden(routes().merge(operations), Limits::default())
    };
    let shutdown = Shutdown::new();
    let lab = Router::new()
        .nest("/first-system", system(&shutdown))
        .nest("/second-system", system(&shutdown));
    let server = Server::start(harden(lab, Limits::default())).await;
    server.ask(get_request("/first-system/page?limit=1")).await;
    server.ask(get_request("/second-system/page?limit=1")).await;
    let answer = server.ask(get_request("/second-system/metrics")).await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for route in ["/first-system/page", "/second-system/page"] {
        let line =
            format!("http_requests_total{{route=\"{route}\",method=\"GET\",status=\"200\"}} 1");
        assert!(answer.body.contains(&line), "{line} is not in\n{}", answer.body);
    }
}

#[tokio::test]
async fn the_openapi_document_names_where_it_is_mounted() {
    let service = operations(Readiness::new(&Shutdown::new()), empty_openapi());
    let router = service.clone().nest("/job-queue", service);
    let server = Server::start(harden(router, Limits::default())).await;
    for (path, mounted_at) in [("/openapi.json", "/"), ("/job-queue/openapi.json", "/job-queue")] {
        let answer = server.ask(get_request(path)).await;
        let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["servers"][0]["url"], mounted_at, "{document}");
    }
}
