//! One layer around a whole router: everything that must hold for every request, in one function
//! that reads in the order it happens.
//!
//! A stack of small middlewares would box and clone the inner service once for each; this is one
//! box for all, and the order is not spread over a builder.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use futures::FutureExt;
use http_body_util::{BodyExt, Limited};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::extract::too_large;
use crate::limits::Limits;
use crate::metrics::RouteMetrics;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::request_id::{RequestId, X_REQUEST_ID};

/// How long a client is asked to wait when the service is full.
const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// How much of a plain-text error of axum's own becomes the problem's `detail`.
const PLAIN_DETAIL_BYTES_MAX: usize = 4 * 1024;

/// The router with everything around it that no route should have to think of: request id, size
/// and time limits, load shedding, panics, metrics, and a problem document for every error,
/// including those that axum answers itself (404, 405, rejections).
///
/// Call it last, on the outermost router. Calling it twice is harmless: the outer one works, the
/// inner one steps aside, so that a system that hardens itself can be mounted in the lab.
pub fn harden(router: Router, limits: Limits) -> Router {
    crate::metrics::install();
    // Trap: without `with_state` axum turns each handler into a route, and so applies this layer,
    // again for every request; metrics would be looked up by name each time.
    let router = router.with_state(());
    router.layer(HardenLayer(Arc::new(Guard { limits, in_flight: AtomicUsize::new(0) })))
}

struct Guard {
    limits: Limits,
    in_flight: AtomicUsize,
}

#[derive(Clone)]
struct HardenLayer(Arc<Guard>);

impl Layer<Route> for HardenLayer {
    type Service = Hardened;

    /// axum calls this for each route and method: each gets metrics of its own to look into.
    fn layer(&self, inner: Route) -> Hardened {
        Hardened { inner, guard: Arc::clone(&self.0), metrics: Arc::default() }
    }
}

#[derive(Clone)]
struct Hardened {
    inner: Route,
    guard: Arc<Guard>,
    metrics: Arc<RouteMetrics>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request> for Hardened {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <Route as Service<Request>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, mut request: Request) -> Answering {
        if RequestId::is_set() {
            return Box::pin(self.inner.call(request)); // an outer `harden` does all of it
        }
        let started = Instant::now();
        let id = RequestId::of(request.headers());
        let current = id.clone();
        let asked = Asked::of(&request);
        let metrics = Arc::clone(&self.metrics);
        let request_time = self.guard.limits.request_time;
        let admitted = Guard::admit(&self.guard, &mut request)
            .map(|in_flight| (in_flight, self.inner.call(request)));

        #[cfg(feature = "otlp")]
        let span = crate::otlp::span(&asked.method, asked.route(), &id);
        let answering = async move {
            let response = match admitted {
                Ok((_in_flight, handler)) => bounded(handler, started, request_time).await,
                Err(problem) => problem.into_response(),
            };
            let mut response = match response.status().as_u16() {
                400.. => as_problem(response, &asked).await,
                _ => response,
            };
            response.headers_mut().insert(X_REQUEST_ID, id.header());
            let (status, elapsed) = (response.status(), started.elapsed());
            metrics.record(asked.route(), &asked.method, status, elapsed);
            log(&asked, status, elapsed);
            Ok(response)
        };
        // A span for each request costs as much as all the rest here: only with a collector.
        #[cfg(feature = "otlp")]
        let answering = tracing::Instrument::instrument(answering, span);
        Box::pin(current.scope(answering))
    }
}

/// What of the request is still needed when the handler has consumed it.
struct Asked {
    method: Method,
    place: Result<MatchedPath, Uri>, // the URI is only kept to say what was not found
}

impl Asked {
    fn of(request: &Request) -> Self {
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let place = matched.ok_or_else(|| request.uri().clone());
        Self { method: request.method().clone(), place }
    }

    /// The pattern, never the path: paths are chosen by clients, so as labels they would grow the
    /// metrics without bound, and in logs they may tell secrets. All unknown paths share one.
    fn route(&self) -> &str {
        self.place.as_ref().map_or("unmatched", MatchedPath::as_str)
    }
}

/// One place among the requests in flight, given back when dropped.
struct InFlight(Arc<Guard>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guard {
    /// Checks all that can be said from the head alone, and makes the body stop at its limit.
    fn admit(guard: &Arc<Self>, request: &mut Request) -> Result<InFlight, Problem> {
        let limits = &guard.limits;
        // Taken first, so that the place is given back whichever check fails.
        let others = guard.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = InFlight(Arc::clone(guard));
        if others >= limits.in_flight {
            return Err(Problem::of(
                StatusCode::SERVICE_UNAVAILABLE,
                "urn:problem:overloaded",
                "Overloaded",
            )
            .detail("too many requests are in flight; this one was not started")
            .retry_after(RETRY_AFTER_OVERLOAD));
        }
        if header_bytes(request.headers()) > limits.header_bytes {
            let detail = format!("the headers take more than {} bytes", limits.header_bytes);
            return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).detail(detail));
        }
        limit_body(request, limits.body_bytes)?;
        Ok(place)
    }
}

pub(crate) fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// A declared length is judged at once; hyper then holds the client to it. Only a body of unknown
/// length has to be counted while it is read.
fn limit_body(request: &mut Request, limit: usize) -> Result<(), Problem> {
    let size = request.body().size_hint();
    if size.lower() > limit as u64 {
        return Err(too_large());
    }
    if size.upper().is_none() {
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::new(Limited::new(body, limit));
    }
    if size.upper() != Some(0) {
        // Ours decides: without this axum's own 2 MB would cut a larger limit short.
        DefaultBodyLimit::disable().apply(request);
    }
    Ok(())
}

/// The handler's answer, or the problem that took its place: too slow, or panicked.
async fn bounded<F>(handler: F, started: Instant, request_time: Duration) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let caught = AssertUnwindSafe(handler).catch_unwind();
    match tokio::time::timeout_at(started + request_time, caught).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(panic)) => {
            Problem::internal(format_args!("panic: {}", panic_text(&*panic))).into_response()
        }
        Err(_elapsed) => {
            Problem::of(StatusCode::SERVICE_UNAVAILABLE, "urn:problem:timeout", "Timeout")
                .detail(format!("no answer within {} ms", request_time.as_millis()))
                .into_response()
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not text")
}

/// Turns an error that is bare or plain text (axum's own, or a handler's lazy one) into a
/// problem. Anything that chose a content type of its own is left alone.
async fn as_problem(response: Response, asked: &Asked) -> Response {
    let is_plain = match response.headers().get(CONTENT_TYPE) {
        None => true,
        Some(kind) if *kind == PROBLEM_JSON => return response,
        Some(kind) => kind.as_bytes().starts_with(b"text/plain"),
    };
    if !is_plain {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = Limited::new(body, PLAIN_DETAIL_BYTES_MAX).collect().await;
    let text = text.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    let text = text.unwrap_or_default();
    let problem = match (parts.status, &asked.place) {
        (StatusCode::NOT_FOUND, Err(uri)) => {
            Problem::not_found(format!("no such route: {}", uri.path()))
        }
        // What a handler wrote into a 5xx may tell internals: it goes to the log.
        (status, _) if status.is_server_error() && !text.is_empty() => {
            tracing::error!(error = %text, "request failed");
            Problem::new(status)
        }
        (StatusCode::METHOD_NOT_ALLOWED, _) => {
            // axum adds `Allow` itself, outside of this layer.
            let detail = format!("{} is not allowed here; `Allow` says what is", asked.method);
            Problem::new(parts.status).detail(detail)
        }
        (status, _) if text.is_empty() => Problem::new(status),
        (status, _) => Problem::new(status).detail(text),
    };
    problem.onto(parts.headers)
}

/// A line for each request at `debug`, so that a busy service at the default `info` writes none;
/// a failure of ours always gets one.
fn log(asked: &Asked, status: StatusCode, elapsed: Duration) {
    let (method, route) = (&asked.method, asked.route());
    let (status_code, elapsed_us) = (status.as_u16(), elapsed.as_micros() as u64);
    if status.is_server_error() {
        tracing::warn!(%method, route, status = status_code, elapsed_us, "failed");
    } else {
        tracing::debug!(%method, route, status = status_code, elapsed_us, "done");
    }
}
