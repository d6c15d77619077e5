//! The limiter in front of any axum or tower service.
//!
//! ```
//! use std::sync::Arc;
//! use axum::{Router, extract::Request, routing::get};
//! use rate_limiter::layer::RateLimitLayer;
//! use rate_limiter::store::memory::Memory;
//! use rate_limiter::{AlgorithmName, Policy, Store};
//!
//! let policy = Policy::single("api", AlgorithmName::TokenBucket, 50, 1_000, Some(100))?;
//! let limiter = Arc::new(Memory::default().limiter(policy));
//! let by_token = |request: &Request| {
//!     let token = request.headers().get("x-api-key")?;
//!     token.to_str().ok().map(str::to_owned)
//! };
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(RateLimitLayer::new(limiter, by_token));
//! # Ok::<(), rate_limiter::Error>(())
//! ```

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use service::Problem;
use tower::{Layer, Service};

use crate::limiter::{Key, Limiter};
use crate::{denial, headers};

/// Charges one request to the caller that `caller_of` names, before the inner service sees it.
///
/// A request without a caller (`None`) is refused with 401: letting it pass would make leaving
/// the key out the way around the limit.
pub struct RateLimitLayer<L, F> {
    limiter: Arc<L>,
    caller_of: Arc<F>,
}

impl<L, F> RateLimitLayer<L, F>
where
    L: Limiter,
    F: Fn(&Request) -> Option<String> + Send + Sync + 'static,
{
    /// Limits by what `caller_of` returns.
    pub fn new(limiter: Arc<L>, caller_of: F) -> Self {
        Self { limiter, caller_of: Arc::new(caller_of) }
    }
}

impl<L, F> Clone for RateLimitLayer<L, F> {
    fn clone(&self) -> Self {
        Self { limiter: Arc::clone(&self.limiter), caller_of: Arc::clone(&self.caller_of) }
    }
}

impl<S, L, F> Layer<S> for RateLimitLayer<L, F> {
    type Service = RateLimited<S, L, F>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimited { inner, layer: self.clone() }
    }
}

/// A service behind a [`RateLimitLayer`].
pub struct RateLimited<S, L, F> {
    inner: S,
    layer: RateLimitLayer<L, F>,
}

impl<S: Clone, L, F> Clone for RateLimited<S, L, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, L, F> Service<Request> for RateLimited<S, L, F>
where
    S: Service<Request, Response: IntoResponse, Future: Send> + Clone + Send + 'static,
    L: Limiter,
    F: Fn(&Request) -> Option<String> + Send + Sync + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The service that was polled ready is the one to call; its clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let limiter = Arc::clone(&self.layer.limiter);
        let caller = (self.layer.caller_of)(&request);
        Box::pin(async move {
            let Some(caller) = caller else {
                let unknown = Problem::new(StatusCode::UNAUTHORIZED);
                return Ok(unknown
                    .detail("the request does not say who is calling")
                    .into_response());
            };
            let checked = match Key::new(&caller) {
                Ok(key) => limiter.check(key, 1).await,
                Err(error) => Err(error),
            };
            let decision = match checked {
                Ok(decision) if decision.allowed() => decision,
                Ok(decision) => {
                    return Ok(denial::problem(limiter.policy(), &decision).into_response());
                }
                Err(error) => return Ok(Problem::from(error).into_response()),
            };
            if !decision.delay.is_zero() {
                tokio::time::sleep(decision.delay).await;
            }
            let mut response = inner.call(request).await?.into_response();
            headers::apply(response.headers_mut(), limiter.policy(), &decision);
            Ok(response)
        })
    }
}
