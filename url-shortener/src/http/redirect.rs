//! `GET /{code}`: why the rest exists.

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION, REFERER, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use service::{Connection, Path, Problem};

use super::{Api, Service};
use crate::link::{Error, Redirect};
use crate::shortener::Visit;
use crate::store::Store;

/// A browser asks again each time: the click counts, and an edited link takes effect.
const TEMPORARY: HeaderValue = HeaderValue::from_static("private, max-age=0");
/// Without a bound a browser may keep a permanent redirect for ever, and never see an edit.
const PERMANENT: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Follow a link. HEAD answers the same and counts nothing.
#[utoipa::path(method(get, head), path = "/{code}", params(("code" = String, Path)), responses(
    (status = 301, description = "There, for good", headers(("Location" = String))),
    (status = 302, description = "There", headers(("Location" = String))),
    (status = 307, description = "There, with the same method", headers(("Location" = String))),
    (status = 308, description = "There, for good, with the same method", headers(("Location" = String))),
    (status = 400, description = "That cannot be a code", body = Problem),
    (status = 404, description = "No such link", body = Problem),
    (status = 410, description = "Expired, disabled, or used up", body = Problem),
    (status = 429, description = "Too many unknown codes from this address", body = Problem),
    (status = 503, description = "The link counts its visits in a store that does not answer", body = Problem),
))]
pub(super) async fn follow<S: Store>(
    State(api): Service<S>,
    connection: Connection,
    method: Method,
    headers: HeaderMap,
    Path(code): Path<String>,
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
    match api.shortener.follow(&code, visit).await {
        Ok((redirect, target)) => Ok(fields(redirect, target.as_str())?.into_response()),
        Err(error @ (Error::NotFound(_) | Error::Invalid { .. })) => {
            Err(api.scanned(address).unwrap_or_else(|| error.into()))
        }
        Err(error) => Err(error.into()),
    }
}

type Fields = (StatusCode, [(HeaderName, HeaderValue); 2]);

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
    pub fn shortener(&self) -> &std::sync::Arc<crate::shortener::Shortener<S>> {
        &self.shortener
    }
}
