//! The HTTP front: routes and their documentation, who may use them, and nothing else.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rate_limiter::layer::RateLimitLayer;
use rate_limiter::store::memory::{Memory, MemoryLimiter};
use rate_limiter::{Decision, Key, Limiter as _, Policy, Store as _};
use service::{Connection, Problem, Readiness, TrustedProxies};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::link::Owner;
use crate::shortener::Shortener;
use crate::store::Store;

mod body;
mod problem;
mod links;
mod bulk;
mod stats;
mod redirect;

pub use body::LinkBody;
pub use bulk::BULK_BYTES_MAX;
pub use redirect::Redirects;

/// The largest body of any request but a bulk one.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Who links belong to when the API is open.
const EVERYBODY: &str = "everybody";

/// How the front behaves.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// What short URLs start with, without a slash at the end.
    pub base_url: String,
    /// Whether the API works without a key.
    pub open: bool,
    /// How much one key may ask for.
    pub per_key: Policy,
    /// How many unknown codes one address may try.
    pub unknown_codes: Policy,
    /// Proxies whose word about the client's address counts.
    pub proxies: TrustedProxies,
}

/// The front over one shortener.
pub struct Api<S> {
    shortener: Arc<Shortener<S>>,
    options: ApiOptions,
    scanners: MemoryLimiter,
}

type Service<S> = State<Arc<Api<S>>>;

impl<S: Store> Api<S> {
    /// A front with counts of its own.
    pub fn new(shortener: Arc<Shortener<S>>, options: ApiOptions) -> Arc<Self> {
        let scanners = Memory::default().limiter(options.unknown_codes.clone());
        Arc::new(Self { shortener, options, scanners })
    }

    fn short_url(&self, code: &str) -> String {
        format!("{}/{code}", self.options.base_url)
    }

    fn address(&self, connection: &Connection, headers: &HeaderMap) -> Option<IpAddr> {
        connection.peer().map(|peer| self.options.proxies.client_ip(peer, headers))
    }

    /// Charges an unknown code to who tried it; the denial when that was too many. Whoever is
    /// denied can still follow links that are in memory.
    fn scanned(&self, address: Option<IpAddr>) -> Option<Problem> {
        let address = address?.to_string();
        self.denial(self.scanners.check_now(scanner(&address), 1))
    }

    /// The denial for who has tried too many unknown codes before.
    async fn has_scanned(&self, address: Option<IpAddr>) -> Option<Problem> {
        let address = address?.to_string();
        self.denial(self.scanners.peek(scanner(&address)).await)
    }

    fn denial(&self, checked: Result<Decision, rate_limiter::Error>) -> Option<Problem> {
        match checked {
            Ok(decision) if decision.allowed() => None,
            Ok(decision) => {
                Some(rate_limiter::denial::problem(&self.options.unknown_codes, &decision))
            }
            // The table is full of scanners. A 404 costs less than remembering one more.
            Err(_) => None,
        }
    }
}

fn scanner(address: &str) -> Key<'_> {
    Key::new(address).expect("an address is a short key")
}

/// The routes, with the operator's endpoints.
pub fn router<S: Store>(api: &Arc<Api<S>>, readiness: Readiness) -> Router {
    let per_key = Arc::new(Memory::default().limiter(api.options.per_key.clone()));
    let by_owner =
        |request: &Request| request.extensions().get::<Owner>().map(|owner| owner.0.clone());
    // The last layer is asked first: who is it, and may they ask so often?
    let v1 = OpenApiRouter::new()
        .routes(routes!(links::create, links::list))
        .routes(routes!(links::get, links::update, links::delete))
        .routes(routes!(stats::stats))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .routes(routes!(bulk::create_many))
        .layer(RateLimitLayer::new(per_key, by_owner))
        .layer(from_fn_with_state(Arc::clone(api), authenticate::<S>));
    let (routes, mut openapi) = OpenApiRouter::new()
        .merge(v1)
        .routes(routes!(redirect::follow))
        .with_state(Arc::clone(api))
        .split_for_parts();
    openapi.info.title = "url-shortener".to_owned();
    problem::add_schema(&mut openapi);
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    openapi.components.get_or_insert_default().add_security_scheme("api_key", bearer);
    let store = Arc::clone(api.shortener.store());
    let ping = move || {
        let store = Arc::clone(&store);
        async move { store.ping().await }
    };
    routes.merge(service::operations(readiness.check("store", ping), openapi))
}

/// Finds out whose key it is, or answers 401.
async fn authenticate<S: Store>(
    State(api): Service<S>,
    mut request: Request,
    next: Next,
) -> Response {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let owner = match presented {
        Some(key) => api.shortener.keys().owner(key),
        None if api.options.open => Some(Owner(EVERYBODY.to_owned())),
        None => None,
    };
    let Some(owner) = owner else {
        let detail = match presented {
            Some(_) => "this API key is not known",
            None => "send an API key as `Authorization: Bearer ush_...`",
        };
        return Problem::new(StatusCode::UNAUTHORIZED)
            .detail(detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            .into_response();
    };
    request.extensions_mut().insert(owner);
    next.run(request).await
}
