//! `GET /{code}`: why the rest exists.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION, REFERER, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use service::client_ip::X_FORWARDED_FOR;
use service::{Connection, First, Head, Path, Problem};

use super::body::CodePath;
use super::problem::RedirectProblems;
use super::{Api, Service};
use crate::link::{Error, Redirect};
use crate::lookup::{Found, Lookup as _};
use crate::shortener::Visit;
use crate::store::Store;

/// A browser asks again each time: the click counts, and an edited link takes effect.
const TEMPORARY: HeaderValue = HeaderValue::from_static("private, max-age=0");
/// Without a bound a browser may keep a permanent redirect for ever, and never see an edit.
const PERMANENT: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Follow a link. HEAD answers the same and counts nothing.
#[utoipa::path(method(get, head), path = "/{code}", params(CodePath), responses(
    RedirectProblems,
    (status = 301, description = "There, for good", headers(("Location" = String))),
    (status = 302, description = "There", headers(("Location" = String))),
    (status = 307, description = "There, with the same method", headers(("Location" = String))),
    (status = 308, description = "There, for good, with the same method", headers(("Location" = String))),
))]
pub(super) async fn follow<S: Store>(
    State(api): Service<S>,
    connection: Connection,
    method: Method,
    headers: HeaderMap,
    Path(CodePath { code }): Path<CodePath>,
) -> Result<Response, Problem> {
    let address = api.address(&connection, &headers);
    let visit = (method == Method::GET).then(|| Visit {
        address,
        agent: text(&headers, USER_AGENT).unwrap_or_default(),
        referer: text(&headers, REFERER),
    });
    if let Some(fields) = api.shortener.follow_now(&code, visit, fields) {
        return Ok(fields?.into_response());
    }
    // A look-up costs the store something: whoever tried too many unknown codes gets no more.
    if api.shortener.lookup().find_now(&code, |_| ()) == Found::AskTheStore
        && let Some(denial) = api.has_scanned(address).await
    {
        return Err(denial);
    }
    match api.shortener.follow(&code, visit).await {
        Ok((redirect, target)) => Ok(fields(redirect, target.as_str())?.into_response()),
        Err(error @ (Error::NotFound(_) | Error::Invalid { .. })) => {
            Err(api.scanned(address).unwrap_or_else(|| error.into()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The redirect beside the router: every plain link that can be answered from memory. Routing,
/// extractors and the layers around them cost more than the redirect itself.
pub struct Redirects<S>(pub Arc<Api<S>>);

impl<S: Store> First for Redirects<S> {
    const ROUTE: &'static str = "/{code}";
    type Fields = Pair;

    fn answer(&self, head: &impl Head, peer: IpAddr) -> Option<Fields> {
        let counts = match *head.method() {
            Method::GET => true,
            Method::HEAD => false,
            _ => return None,
        };
        let code = head.path().strip_prefix('/')?;
        let Self(api) = self;
        let visit = counts.then(|| Visit {
            address: Some(api.options.proxies.client_ip_in(peer, head.fields(&X_FORWARDED_FOR))),
            agent: head.text(&USER_AGENT).unwrap_or_default(),
            referer: head.text(&REFERER),
        });
        api.shortener.follow_now(code, visit, fields)?.ok()
    }
}

type Pair = [(HeaderName, HeaderValue); 2];
type Fields = (StatusCode, Pair);

fn fields(redirect: Redirect, target: &str) -> Result<Fields, Problem> {
    let status = StatusCode::from_u16(redirect.status()).map_err(Problem::internal)?;
    // Refuses control characters once more, whatever the policy thought of them.
    let location = HeaderValue::from_str(target).map_err(Problem::internal)?;
    let caching = if redirect.is_permanent() { PERMANENT } else { TEMPORARY };
    Ok((status, [(LOCATION, location), (CACHE_CONTROL, caching)]))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

impl<S: Store> Api<S> {
    /// The shortener behind the front.
    pub fn shortener(&self) -> &Arc<crate::shortener::Shortener<S>> {
        &self.shortener
    }
}
