//! The service's routes and their documentation, nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use service::{Json, Path, Problem, Readiness};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::limiter::{Decision, Grant, Key, Limiter, Source, Store};
use crate::policy::{Policy, PolicySpec};
use crate::registry::Registry;
use crate::resilience::Resilient;
use crate::{denial, headers};

/// The routes of the rate-limiter service over `registry`, with the operator's endpoints.
pub fn router<S: Store>(registry: Arc<Registry<S>>, readiness: Readiness) -> Router {
    let (routes, mut openapi) = OpenApiRouter::new()
        .routes(routes!(check))
        .routes(routes!(take))
        .routes(routes!(refund))
        .routes(routes!(list_policies))
        .routes(routes!(put_policy, get_policy, delete_policy))
        .with_state(Arc::clone(&registry))
        .split_for_parts();
    openapi.info.title = "rate-limiter".to_owned();
    let store = move || {
        let registry = Arc::clone(&registry);
        async move { registry.store().ping().await }
    };
    routes.merge(service::operations(readiness.check("store", store), openapi))
}

type Service<S> = State<Arc<Registry<S>>>;

/// A request to be charged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    /// The policy to check against.
    policy: String,
    /// Who is asking: 1 to 256 bytes.
    #[schema(min_length = 1, max_length = 256)]
    key: String,
    /// What the request costs; 1 when left out, 0 to look without charging.
    #[serde(default = "one")]
    cost: u32,
}

fn one() -> u32 {
    1
}

/// A request for as many as there are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TakeRequest {
    /// The policy to check against.
    policy: String,
    /// Who is asking.
    #[schema(min_length = 1, max_length = 256)]
    key: String,
    /// The most to take.
    at_most: u32,
}

/// A decision in JSON.
#[derive(Debug, Serialize, ToSchema)]
struct DecisionBody {
    /// Whether the request may proceed.
    allowed: bool,
    /// The limit that decided.
    limit_name: String,
    /// The most that it grants at once.
    limit: u32,
    /// What it has left.
    remaining: u32,
    /// When the same request can succeed; absent when it did, or when it never can.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// When the quota is whole again.
    reset_after_ms: u64,
    /// How long to hold the request back; zero except for the shaping queue.
    delay_ms: u64,
    /// Who decided: the store, or what stands in for it.
    #[schema(value_type = String)]
    source: Source,
    /// How many were taken; only in answers to `take`.
    #[serde(skip_serializing_if = "Option::is_none")]
    granted: Option<u32>,
}

impl DecisionBody {
    fn new(policy: &Policy, decision: &Decision, granted: Option<u32>) -> Self {
        Self {
            allowed: decision.allowed(),
            limit_name: policy.limits()[decision.limit_index].name().to_owned(),
            limit: decision.quota.limit,
            remaining: decision.quota.remaining,
            retry_after_ms: decision.retry_after().map(whole_ms),
            reset_after_ms: whole_ms(decision.quota.reset_after),
            delay_ms: whole_ms(decision.delay),
            source: decision.source,
            granted,
        }
    }
}

/// Rounded up: a client that waits as told must not come early.
fn whole_ms(time: Duration) -> u64 {
    time.as_micros().div_ceil(1_000) as u64
}

fn limiter<S: Store>(
    registry: &Registry<S>,
    policy: &str,
) -> Result<Arc<Resilient<S::Limiter>>, Problem> {
    registry.get(policy).ok_or_else(|| {
        let detail = format!("there is no policy \"{policy}\"");
        Problem::not_found(detail.clone()).field("/policy", detail)
    })
}

/// 200 with the decision, or the denial as a problem with the same members.
fn answer(policy: &Policy, decision: &Decision, granted: Option<u32>) -> Response {
    let body = DecisionBody::new(policy, decision, granted);
    if decision.allowed() {
        let mut response = Json(body).into_response();
        headers::apply(response.headers_mut(), policy, decision);
        return response;
    }
    let members = serde_json::to_value(body).unwrap_or_default();
    let members = members.as_object().cloned().unwrap_or_default();
    let problem = denial::problem(policy, decision);
    members
        .into_iter()
        .fold(problem, |problem, (name, value)| problem.extension(name, value))
        .into_response()
}

/// Charge a request to a caller.
#[utoipa::path(post, path = "/v1/check", request_body = CheckRequest, responses(
    (status = 200, description = "Allowed and charged", body = DecisionBody),
    (status = 400, description = "The body is not JSON", body = Problem),
    (status = 404, description = "No such policy", body = Problem),
    (status = 415, description = "The body is not JSON by its content type", body = Problem),
    (status = 422, description = "A field is wrong; errors[] names it", body = Problem),
    (status = 429, description = "Denied; the members of the decision are in the problem", body = Problem),
    (status = 503, description = "The store is down and the policy is closed", body = Problem),
))]
async fn check<S: Store>(
    State(registry): Service<S>,
    Json(request): Json<CheckRequest>,
) -> Result<Response, Problem> {
    let key = Key::new(&request.key)?;
    let limiter = limiter(&registry, &request.policy)?;
    let decision = limiter.check(key, request.cost).await?;
    count(limiter.policy(), &decision);
    Ok(answer(limiter.policy(), &decision, None))
}

/// Charge as many as are left, up to a bound.
#[utoipa::path(post, path = "/v1/take", request_body = TakeRequest, responses(
    (status = 200, description = "Something was granted", body = DecisionBody),
    (status = 400, description = "The body is not JSON", body = Problem),
    (status = 404, description = "No such policy", body = Problem),
    (status = 415, description = "The body is not JSON by its content type", body = Problem),
    (status = 422, description = "A field is wrong; errors[] names it", body = Problem),
    (status = 429, description = "Nothing is left", body = Problem),
    (status = 503, description = "The store is down and the policy is closed", body = Problem),
))]
async fn take<S: Store>(
    State(registry): Service<S>,
    Json(request): Json<TakeRequest>,
) -> Result<Response, Problem> {
    let key = Key::new(&request.key)?;
    let limiter = limiter(&registry, &request.policy)?;
    let Grant { granted, decision } = limiter.take_up_to(key, request.at_most).await?;
    Ok(answer(limiter.policy(), &decision, Some(granted)))
}

/// Give back what was charged and not used.
#[utoipa::path(post, path = "/v1/refund", request_body = CheckRequest, responses(
    (status = 200, description = "The quota after the refund", body = DecisionBody),
    (status = 400, description = "The body is not JSON", body = Problem),
    (status = 404, description = "No such policy", body = Problem),
    (status = 415, description = "The body is not JSON by its content type", body = Problem),
    (status = 422, description = "A field is wrong; errors[] names it", body = Problem),
    (status = 503, description = "The store is down: the refund is lost", body = Problem),
))]
async fn refund<S: Store>(
    State(registry): Service<S>,
    Json(request): Json<CheckRequest>,
) -> Result<Response, Problem> {
    let key = Key::new(&request.key)?;
    let limiter = limiter(&registry, &request.policy)?;
    let decision = limiter.refund(key, request.cost).await?;
    Ok(answer(limiter.policy(), &decision, None))
}

/// A policy by its name.
#[derive(Debug, Serialize, ToSchema)]
struct NamedPolicy {
    /// Its name.
    name: String,
    /// What it says, with every default filled in.
    #[serde(flatten)]
    policy: PolicySpec,
}

impl From<&Policy> for NamedPolicy {
    fn from(policy: &Policy) -> Self {
        Self { name: policy.name().to_owned(), policy: policy.spec() }
    }
}

/// All policies.
#[utoipa::path(get, path = "/v1/policies", responses(
    (status = 200, description = "All policies, by name", body = Vec<NamedPolicy>),
))]
async fn list_policies<S: Store>(State(registry): Service<S>) -> Json<Vec<NamedPolicy>> {
    Json(registry.policies().iter().map(NamedPolicy::from).collect())
}

/// Add or replace a policy on this server. A policy that is equal keeps its counts; another one
/// starts afresh. For a fleet, ship the policy file instead.
#[utoipa::path(put, path = "/v1/policies/{name}", params(("name" = String, Path)),
    request_body = PolicySpec, responses(
    (status = 200, description = "Replaced", body = NamedPolicy),
    (status = 201, description = "Added", body = NamedPolicy),
    (status = 400, description = "The body is not JSON", body = Problem),
    (status = 415, description = "The body is not JSON by its content type", body = Problem),
    (status = 422, description = "A field is wrong; errors[] names it", body = Problem),
))]
async fn put_policy<S: Store>(
    State(registry): Service<S>,
    Path(name): Path<String>,
    Json(spec): Json<PolicySpec>,
) -> Result<Response, Problem> {
    let policy = Policy::new(&name, &spec)?;
    let body = Json(NamedPolicy::from(&policy));
    Ok(match registry.put(policy)? {
        true => (StatusCode::CREATED, body).into_response(),
        false => body.into_response(),
    })
}

/// One policy.
#[utoipa::path(get, path = "/v1/policies/{name}", params(("name" = String, Path)), responses(
    (status = 200, description = "The policy", body = NamedPolicy),
    (status = 404, description = "No such policy", body = Problem),
))]
async fn get_policy<S: Store>(
    State(registry): Service<S>,
    Path(name): Path<String>,
) -> Result<Json<NamedPolicy>, Problem> {
    Ok(Json(NamedPolicy::from(limiter(&registry, &name)?.policy())))
}

/// Remove a policy from this server.
#[utoipa::path(delete, path = "/v1/policies/{name}", params(("name" = String, Path)), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "No such policy", body = Problem),
))]
async fn delete_policy<S: Store>(
    State(registry): Service<S>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    match registry.remove(&name) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("there is no policy \"{name}\""))),
    }
}

/// Counted by policy and outcome; never by key, of which clients can make any number.
fn count(policy: &Policy, decision: &Decision) {
    let outcome = if decision.allowed() { "allowed" } else { "denied" };
    let policy = policy.name().to_owned();
    metrics::counter!("rate_limiter_decisions_total", "policy" => policy, "outcome" => outcome)
        .increment(1);
}
