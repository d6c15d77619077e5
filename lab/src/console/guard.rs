//! What a request must satisfy before any route sees it: that it was meant for this lab.
//!
//! The lab listens on loopback, where every page in the reader's browser can send requests too.
//! Two things keep strangers out. A request must name an address or a known name as its host: a
//! name of somebody else's that was made to point here (DNS rebinding) is refused. And a request
//! that changes something, or opens a socket, must come from a page of this lab or from no page.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use service::Problem;

/// Scripts, styles, images and requests from this origin and nothing else; no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// The names this lab answers to.
#[derive(Debug)]
pub(crate) struct Guard {
    names: Vec<String>,
}

impl Guard {
    /// Answers to addresses, to `localhost`, and to these names.
    pub(crate) fn new(names: Vec<String>) -> Self {
        let lower = |name: String| name.trim().trim_end_matches('.').to_ascii_lowercase();
        Self { names: names.into_iter().map(lower).collect() }
    }

    /// # Errors
    /// 421 for a host that is not ours, 403 for a request that another site's page made.
    fn admit(&self, request: &Request) -> Result<(), Problem> {
        let host =
            authority(request).ok_or_else(|| Problem::bad_request("the request names no host"))?;
        if !self.is_ours(name_of(host)) {
            let detail = format!(
                "this lab is not called {host}; start it with --names {} if it should be",
                name_of(host)
            );
            let kind = "urn:problem:unknown-host";
            return Err(
                Problem::of(StatusCode::MISDIRECTED_REQUEST, kind, "Unknown host").detail(detail)
            );
        }
        if needs_our_page(request) && !is_same_origin(request.headers(), host) {
            return Err(Problem::of(
                StatusCode::FORBIDDEN,
                "urn:problem:cross-site",
                "Cross-site request",
            )
            .detail("only a page of this lab, or no page at all, may do this"));
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        bare.parse::<IpAddr>().is_ok() || name == "localhost" || self.names.contains(&name)
    }
}

/// HTTP/2 carries the host in the URI, HTTP/1 in a header.
fn authority(request: &Request) -> Option<&str> {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    in_uri.or_else(|| request.headers().get(HOST)?.to_str().ok())
}

/// `localhost:8080` without its port; the colons of `[::1]:8080` are not a port's.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    }
}

/// Reading is harmless, unless a page elsewhere embeds us to spend our work; a browser's own
/// navigation (a link from a README) is always welcome.
fn needs_our_page(request: &Request) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let opens_socket = request.headers().contains_key(UPGRADE);
    let is_navigation = request.headers().get("sec-fetch-mode").is_some_and(|m| m == "navigate");
    !reads || opens_socket || !is_navigation
}

/// Browsers send `Sec-Fetch-Site` (and no script can forge it) or at least `Origin`; programs
/// send neither. Another port of this machine is `same-site`, which is not enough.
fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    from.is_some_and(|from| from.eq_ignore_ascii_case(host))
}

/// The middleware around the whole lab.
pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"text/html") {
        for (name, value) in [
            (CONTENT_SECURITY_POLICY, POLICY),
            (REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn status(method: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let guard = Guard::new(vec!["Lab.internal".to_owned()]);
        guard.admit(&request).err().map(|problem| problem.status().as_u16())
    }

    #[test]
    fn only_addresses_and_known_names_are_answered() {
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8080",
            "10.0.0.7:80",
            "lab.internal:8080",
            "localhost.",
        ] {
            assert_eq!(status("GET", &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert_eq!(status("GET", &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(status("GET", &[]), Some(400));
    }

    #[test]
    fn a_page_elsewhere_can_link_here_and_do_nothing_else() {
        let host = ("host", "127.0.0.1:8080");
        let post = |extra: &[(&str, &str)]| status("POST", &[&[host], extra].concat());
        assert_eq!(post(&[]), None, "a program sends no such header");
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), None);
        assert_eq!(post(&[("origin", "http://127.0.0.1:8080")]), None);
        for headers in [
            [("sec-fetch-site", "cross-site"), ("accept", "*/*")],
            [("sec-fetch-site", "same-site"), ("accept", "*/*")],
            [("origin", "http://127.0.0.1:3000"), ("accept", "*/*")],
            [("origin", "https://evil.example"), ("accept", "*/*")],
            [("origin", "null"), ("accept", "*/*")],
            [("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
        ] {
            assert_eq!(post(&headers), Some(403), "{headers:?}");
        }
        let cross = ("sec-fetch-site", "cross-site");
        let get = |extra: &[(&str, &str)]| status("GET", &[&[host, cross], extra].concat());
        assert_eq!(get(&[("sec-fetch-mode", "navigate")]), None, "a link");
        assert_eq!(get(&[("sec-fetch-mode", "no-cors")]), Some(403), "an embedded image");
        assert_eq!(get(&[("sec-fetch-mode", "websocket"), ("upgrade", "websocket")]), Some(403));
        let socket = [("upgrade", "websocket"), ("sec-fetch-mode", "navigate")];
        assert_eq!(get(&socket), Some(403));
    }
}
