//! Requests from pages that are not ours.

use serde_json::json;

use crate::running::{Lab, program};
use crate::traffic::settings;

#[tokio::test]
async fn a_page_elsewhere_cannot_change_anything() {
    let lab = Lab::start().await;
    let path = "/rate-limiter/lab/traffic";
    for headers in [
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
        [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
        [("origin", "https://evil.example"), ("sec-fetch-mode", "cors")],
        [("origin", "null"), ("sec-fetch-mode", "cors")],
    ] {
        for (method, path) in [
            ("POST", path),
            ("DELETE", path),
            ("PUT", "/rate-limiter/lab/faults/redis-down"),
            ("POST", "/rate-limiter/v1/check"),
            ("POST", "/questions/rate-limiter/any"),
        ] {
            let (status, answer, body) = lab.ask(method, path, &headers, Some(&json!({}))).await;
            assert_eq!(status, 403, "{method} {path} {headers:?}");
            assert_eq!(answer["content-type"], "application/problem+json");
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["type"], "urn:problem:cross-site");
        }
    }
    let origin = lab.url("");
    let ours = [("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
    let (status, ..) = lab.ask("POST", path, &ours, Some(&settings())).await;
    assert_eq!(status, 204, "a page of ours can");
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_refused() {
    let lab = Lab::start().await;
    for path in ["/", "/healthz", "/rate-limiter/", "/rate-limiter/v1/policies", "/nothing"] {
        let (status, _, body) = lab.ask("GET", path, &[("host", "evil.example:8080")], None).await;
        assert_eq!(status, 421, "{path}");
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains("--names evil.example"), "it says what would allow it: {body}");
    }
    let local = [("host", "localhost:8080")];
    assert_eq!(lab.ask("GET", "/healthz", &local, None).await.0, 200);

    let named = Lab::start_with(program().env("LAB_NAMES", "lab, lab.internal")).await;
    for (host, expected) in [("lab:8080", 200), ("lab.internal", 200), ("lab.external", 421)] {
        let (status, ..) = named.ask("GET", "/healthz", &[("host", host)], None).await;
        assert_eq!(status, expected, "{host}");
    }
}

#[tokio::test]
async fn pages_may_load_nothing_from_elsewhere() {
    let lab = Lab::start().await;
    let mut pages = vec!["/".to_owned(), "/questions".to_owned()];
    pages.extend(benches::systems().iter().map(|system| format!("/{}/", system.name)));
    for page in pages {
        let (status, headers, body) = lab.ask("GET", &page, &[], None).await;
        assert_eq!(status, 200, "{page}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(!html.contains("{{"), "{page} has an unfilled hole");
        for forbidden in ["src=\"http", "src=\"//", "href=\"http", " style=", " onclick="] {
            assert!(!html.contains(forbidden), "{page} contains {forbidden}");
        }
    }
    let (status, headers, _) = lab.ask("GET", "/rate-limiter", &[], None).await;
    assert_eq!((status.as_u16(), headers["location"].to_str().unwrap()), (307, "/rate-limiter/"));
}
