//! The endpoints an operator and their machinery use: `/healthz`, `/readyz`, `/metrics` and
//! `/openapi.json`.
//!
//! Alive is not ready: `/healthz` answers as long as the process can answer at all, and failing
//! it means "restart me"; `/readyz` asks the dependencies, and failing it means "send me no
//! traffic now". A store that is down must never fail `/healthz`: restarting every server at once
//! does not bring the store back.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use utoipa::openapi::{Info, OpenApi, Server};

use crate::extract::Json;
use crate::problem::{Place, Problem};
use crate::shutdown::Shutdown;

/// Longest time one dependency may take to say it is there; after it, it counts as down.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(1);

type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What must answer before this service wants traffic.
#[derive(Clone)]
pub struct Readiness {
    shutdown: Shutdown,
    checks: Vec<(&'static str, Probe)>,
}

impl Readiness {
    /// Ready until the shutdown begins.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self { shutdown: shutdown.clone(), checks: Vec::new() }
    }

    /// Asks `probe` too. It runs on every `/readyz`: make it a ping, not a query.
    #[must_use]
    pub fn check<F, Fut, E>(mut self, dependency: &'static str, probe: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let probe: Probe = Arc::new(move || {
            let asked = probe();
            Box::pin(async move { asked.await.map_err(|error| error.to_string()) })
        });
        self.checks.push((dependency, probe));
        self
    }

    /// Asks all dependencies at once.
    ///
    /// # Errors
    /// A 503 [`Problem`] that names those that failed, or says that the service is stopping.
    pub async fn ask(&self) -> Result<(), Problem> {
        let not_ready =
            || Problem::of(StatusCode::SERVICE_UNAVAILABLE, "urn:problem:not-ready", "Not ready");
        if self.shutdown.has_begun() {
            return Err(not_ready().detail("shutting down"));
        }
        let asked = join_all(self.checks.iter().map(|(dependency, probe)| async move {
            let answer = tokio::time::timeout(CHECK_TIME_MAX, probe()).await;
            let late = || Err(format!("no answer within {} ms", CHECK_TIME_MAX.as_millis()));
            (*dependency, answer.unwrap_or_else(|_| late()))
        }));
        let failed =
            asked.await.into_iter().filter_map(|(name, answer)| Some((name, answer.err()?)));
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
        let problem = not_ready().detail(format!("not available: {}", names.join(", ")));
        Err(failed.into_iter().fold(problem, |problem, (name, error)| {
            problem.at(Place::Dependency(name.to_owned()), error)
        }))
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

#[derive(Clone)]
struct Operator {
    readiness: Readiness,
    openapi: Arc<OpenApi>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
}

/// The router of the operator's endpoints, to be merged with a system's routes before they are
/// hardened or mounted.
pub fn operations(readiness: Readiness, mut openapi: OpenApi) -> Router {
    // Trap: utoipa-axum fills in its own description, version and author, who is not whom to ask.
    openapi.info = Info::new(openapi.info.title, env!("CARGO_PKG_VERSION").to_owned());
    let openapi = Arc::new(openapi);
    Router::new()
        .route("/healthz", get(async || Json(Status { status: "alive" })))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .route("/openapi.json", get(describe))
        .with_state(Operator { readiness, openapi, metrics: crate::metrics::install() })
}

async fn ready(State(operator): State<Operator>) -> Result<Json<Status>, Problem> {
    operator.readiness.ask().await?;
    Ok(Json(Status { status: "ready" }))
}

async fn render_metrics(State(operator): State<Operator>) -> impl IntoResponse {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, text)], operator.metrics.render())
}

/// The document names the path it was found under as the server, so that it is right both alone
/// (`/openapi.json`) and mounted (`/job-queue/openapi.json`).
async fn describe(
    State(operator): State<Operator>,
    OriginalUri(uri): OriginalUri,
) -> Json<OpenApi> {
    let mounted_at = uri.path().strip_suffix("/openapi.json").unwrap_or_default();
    let mut openapi = OpenApi::clone(&operator.openapi);
    openapi.servers = Some(vec![Server::new(if mounted_at.is_empty() { "/" } else { mounted_at })]);
    Json(openapi)
}
