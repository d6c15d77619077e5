//! Every failure is a problem document.

use std::time::Duration;

use serde_json::json;
use service::Limits;

use crate::support::{Server, get_request, post_as, post_json};

#[tokio::test]
async fn an_unknown_route_is_a_404_problem() {
    let problem = Server::default().await.ask(get_request("/nowhere?q=1")).await.problem(404);
    assert_eq!(problem["detail"], "no such route: /nowhere");
}

#[tokio::test]
async fn a_wrong_method_is_a_405_problem_that_keeps_allow() {
    let request = "PATCH /policies HTTP/1.1\r\nhost: test\r\n\r\n";
    let answer = Server::default().await.ask(request).await;
    let problem = answer.problem(405);
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_eq!(problem["detail"], "PATCH is not allowed here; `Allow` says what is");
}

#[tokio::test]
async fn malformed_json_tells_line_and_column() {
    let server = Server::default().await;
    let problem = server.ask(post_json("/policies", "{\n  \"name\": oops}")).await.problem(400);
    assert_eq!(problem["type"], "urn:problem:malformed-json");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(11)), "{problem}");
    for body in ["", "{", "{\"name\":\"a\",\"limits\":[]} x", "\u{fffd}"] {
        server.ask(post_json("/policies", body)).await.problem(400);
    }
}

#[tokio::test]
async fn a_wrong_field_is_named_by_its_pointer() {
    let server = Server::default().await;
    for (body, pointer, says) in [
        (r#"{"name":"a","limits":[{"rate":1},{"rate":"x"}]}"#, "/limits/1/rate", "expected u32"),
        (r#"{"name":"a","limits":[{"rate":-1}]}"#, "/limits/0/rate", "expected u32"),
        (r#"{"name":"a","limits":[{}]}"#, "/limits/0/rate", "missing field `rate`"),
        (r#"{"limits":[]}"#, "/name", "missing field `name`"),
        (r#"{"name":"a","limits":[],"a/b~c":1}"#, "/a~1b~0c", "unknown field"),
        (r#"["a",[]]"#, "", "is an array where an object is expected"),
        (r#""policy""#, "", "expected struct Policy"),
    ] {
        let problem = server.ask(post_json("/policies", body)).await.problem(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_415() {
    let server = Server::default().await;
    let body = r#"{"name":"a","limits":[]}"#;
    let problem = server.ask(post_as("/policies", "text/plain", body)).await.problem(415);
    assert_eq!(problem["errors"][0]["header"], "Content-Type");
    let missing = format!("POST /policies HTTP/1.1\r\nhost: t\r\ncontent-length: 24\r\n\r\n{body}");
    server.ask(missing).await.problem(415);
    for accepted in ["application/json; charset=utf-8", "application/merge-patch+json"] {
        assert_eq!(server.ask(post_as("/policies", accepted, body)).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_its_length_is_told_or_not() {
    let server = Server::limited(Limits { body_bytes: 8, ..Limits::default() }).await;
    assert_eq!(server.ask(post_as("/bytes", "text/plain", "12345678")).await.body, "8");
    server.ask(post_as("/bytes", "text/plain", "123456789")).await.problem(413);
    server.ask(post_json("/policies", "[1,2,3,4,5]")).await.problem(413);
    for (path, size, status) in [("/bytes", 8, 200), ("/bytes", 9, 413), ("/policies", 9, 413)] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n",
            "1".repeat(size)
        );
        let answer = server.ask(request).await;
        assert_eq!(answer.status, status, "{path} {size}: {answer:?}");
        if status == 413 {
            answer.problem(413);
        }
    }
}

#[tokio::test]
async fn a_limit_above_axums_own_two_megabytes_holds() {
    let size = 3 * 1024 * 1024;
    let server = Server::limited(Limits { body_bytes: size, ..Limits::default() }).await;
    let answer = server.ask(post_as("/bytes", "text/plain", &"x".repeat(size))).await;
    assert_eq!(answer.body, size.to_string());
}

#[tokio::test]
async fn a_wrong_query_parameter_is_named() {
    let server = Server::default().await;
    assert_eq!(server.ask(get_request("/page?limit=%31%30")).await.body, "10");
    for (query, says) in [
        ("limit=many", "invalid digit"),
        ("limit=70000", "too large"),
        ("", "missing field `limit`"),
    ] {
        let problem = server.ask(get_request(&format!("/page?{query}"))).await.problem(400);
        assert_eq!(problem["errors"][0]["query"], "limit", "{problem}");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(says), "{problem}");
    }
}

#[tokio::test]
async fn a_wrong_path_parameter_is_named() {
    let server = Server::default().await;
    assert_eq!(server.ask(get_request("/rows/users/7")).await.body, "users 7");
    let problem = server.ask(get_request("/rows/users/seven")).await.problem(400);
    assert_eq!(problem["errors"][0], json!({"path": "id", "detail": "`seven` is not a valid u64"}));
    let problem = server.ask(get_request("/rows/%FF/7")).await.problem(400);
    assert_eq!(problem["errors"][0]["path"], "table", "{problem}");
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing_and_the_service_goes_on() {
    let server = Server::default().await;
    let mut client = server.connect().await;
    let answer = client.ask(&get_request("/panic")).await;
    answer.problem(500);
    assert!(!answer.body.contains("secret"), "{answer:?}");
    assert_eq!(client.ask(&get_request("/")).await.body, "hello", "same connection");
}

#[tokio::test]
async fn a_plain_text_500_is_not_shown_to_the_client() {
    let answer = Server::default().await.ask(get_request("/lazy-500")).await;
    answer.problem(500);
    assert!(!answer.body.contains("secret"), "{answer:?}");
}

#[tokio::test]
async fn rejections_of_axums_own_extractors_become_problems_too() {
    let server = Server::default().await;
    let problem = server.ask(post_json("/axum-json", "{}")).await.problem(422);
    assert!(problem["detail"].as_str().unwrap().contains("missing field"), "{problem}");
}

#[tokio::test]
async fn a_slow_handler_is_a_503_after_the_limit() {
    let request_time = Duration::from_millis(30);
    let server = Server::limited(Limits { request_time, ..Limits::default() }).await;
    let problem = server.ask(get_request("/never")).await.problem(503);
    assert_eq!(problem["type"], "urn:problem:timeout");
    assert_eq!(problem["detail"], "no answer within 30 ms");
}

#[tokio::test]
async fn one_request_too_many_is_shed_at_once_and_its_place_comes_back() {
    let server = Server::limited(Limits { in_flight: 1, ..Limits::default() }).await;
    let mut holding = server.connect().await;
    holding.send(&get_request("/never")).await;
    let shed = async || server.ask(get_request("/")).await.status == 503;
    crate::support::wait_until("the held request is in flight", shed).await;
    let answer = server.ask(get_request("/")).await;
    assert_eq!(answer.problem(503)["type"], "urn:problem:overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(holding); // the client goes away: the handler is dropped and its place is free
    let free = async || server.ask(get_request("/")).await.status == 200;
    crate::support::wait_until("the place comes back", free).await;
}

#[tokio::test]
async fn too_many_header_bytes_are_a_431_problem() {
    let server = Server::default().await;
    let request = |size| format!("GET / HTTP/1.1\r\nhost: t\r\nx-a: {}\r\n\r\n", "a".repeat(size));
    assert_eq!(server.ask(request(15 * 1024)).await.status, 200);
    server.ask(request(17 * 1024)).await.problem(431);
}

#[tokio::test]
async fn a_systems_own_problem_keeps_all_it_says() {
    let answer = Server::default().await.ask(get_request("/mine")).await;
    let mut problem = answer.problem(409);
    problem["instance"].take();
    let expected = json!({
        "type": "urn:problem:out-of-stock", "title": "Out of stock", "status": 409,
        "detail": "3 left", "instance": null, "available": 3,
        "errors": [{"pointer": "/quantity", "detail": "at most 3"}],
    });
    assert_eq!(problem, expected);
    assert_eq!(answer.header("retry-after"), Some("2"), "1.5 s is rounded up");
}

#[tokio::test]
async fn a_sane_request_id_is_echoed_and_any_other_replaced() {
    let server = Server::default().await;
    let with_id =
        |id: &str| format!("GET /nowhere HTTP/1.1\r\nhost: t\r\nx-request-id: {id}\r\n\r\n");
    let answer = server.ask(with_id("trace-1.a_B")).await;
    answer.problem(404);
    assert_eq!(answer.header("x-request-id"), Some("trace-1.a_B"));
    for hostile in ["", "a b", "\"},{\"", &"x".repeat(65)] {
        let answer = server.ask(with_id(hostile)).await;
        answer.problem(404);
        assert_ne!(answer.header("x-request-id"), Some(hostile));
    }
}

#[tokio::test]
async fn hardening_twice_counts_once() {
    let inner = service::harden(crate::support::routes(), Limits::default());
    let router = service::harden(axum::Router::new().nest("/twice", inner), Limits::default());
    let server = Server::start(router).await;
    server.ask(get_request("/twice/panic")).await.problem(500);
    let metrics = service::metrics::install().render();
    let line = r#"http_requests_total{route="/twice/panic",method="GET",status="500"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}
