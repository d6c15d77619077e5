//! The page of the rate limiter: real traffic against the mounted service, live, with faults.

mod settings;
mod store;
mod redis;
mod requests;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, put};
use rate_limiter::http;
use rate_limiter::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Connection, Json, Path, Problem, Readiness};
use tokio::sync::Mutex;

use self::redis::{FaultName, LabRedis};
use self::requests::Requests;
use self::settings::{Settings, StoreName};
use self::store::Selected;
use super::{Lab, Page};
use crate::traffic::Traffic;

/// The policy that the page's settings become. It can be looked at like any other:
/// `GET /rate-limiter/v1/policies/lab`.
const POLICY: &str = "lab";
/// This server acts as one of so many: with `on_store_failure: local` it enforces a quarter of the
/// limit while the store is down.
const SERVERS: u32 = 4;

struct Console {
    registry: Arc<Registry<Selected>>,
    traffic: Traffic,
    requests: Requests,
    found: Arc<infra::Found>,
    /// Started when first asked for. One change of settings or faults at a time.
    changing: Mutex<Changing>,
}

#[derive(Default)]
struct Changing {
    redis: Option<LabRedis>,
    settings: Option<Settings>,
}

/// The service with the page's own routes below `/lab`.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let registry = Arc::new(Registry::new(Selected::default(), SERVERS));
    let traffic = Traffic::new(lab);
    let console = Arc::new(Console {
        registry: Arc::clone(&registry),
        requests: Requests::new(lab.address, traffic.clone()),
        traffic,
        found: Arc::clone(&lab.found),
        changing: Mutex::default(),
    });
    console.tell(&Changing::default());
    let routes = Router::new()
        .route("/lab/events", get(events))
        .route("/lab/traffic", get(running).post(start).delete(stop))
        .route("/lab/faults/{name}", put(fault))
        .with_state(console);
    let stored_on = match lab.found.redis.is_usable() {
        true => "in process, or a Redis that is started when you choose it",
        false => "in process (no redis-server on this machine)",
    };
    let title = "Rate limiter";
    let question = "A strongly consistent token-bucket rate limiter for N stateless API servers: \
                    no races, low latency.";
    Ok(Page::new("rate-limiter", title, question)
        .stored_on(stored_on)
        .serving(http::router(registry, Readiness::new(&lab.shutdown)).merge(routes)))
}

type Shared = State<Arc<Console>>;

impl Console {
    /// Takes every fault away: traffic that does not go to Redis must not be marked with its faults.
    async fn heal(&self, now: &mut Changing) -> Result<(), Problem> {
        let Some(redis) = now.redis.as_mut() else { return Ok(()) };
        for name in redis.faults() {
            redis.switch(name, false, None).await?;
            self.traffic.mark(name.as_str(), false);
        }
        Ok(())
    }

    /// Tells every page how things stand.
    fn tell(&self, now: &Changing) {
        let redis = now.redis.as_ref();
        self.traffic.note(
            "state",
            json!({
                "settings": now.settings,
                "redis_usable": self.found.redis.is_usable(),
                "redis_found": self.found.redis.to_string(),
                "redis": redis.map(LabRedis::describe),
                "faults": redis.map(LabRedis::faults).unwrap_or_default(),
            }),
        );
    }
}

/// The live stream of the page.
async fn events(State(console): Shared, connection: Connection) -> Result<Response, Problem> {
    console.traffic.events(&connection)
}

/// Whether traffic is running.
async fn running(State(console): Shared) -> Json<Value> {
    Json(json!({ "running": console.traffic.is_running() }))
}

/// Enforces the settings afresh and sends the traffic they describe.
async fn start(
    State(console): Shared,
    Json(settings): Json<Settings>,
) -> Result<StatusCode, Problem> {
    let policy = settings.check(POLICY)?;
    let mut now = console.changing.lock().await;
    let store = console.registry.store();
    match settings.store {
        StoreName::InProcess => {
            console.heal(&mut now).await?;
            store.select_memory();
        }
        StoreName::Redis => {
            if now.redis.is_none() {
                now.redis = Some(LabRedis::start().await?);
            }
            let redis = now.redis.as_ref().expect("it was started above");
            store.select_redis(redis.store());
        }
    }
    // Removed first: an equal policy would keep its counts, and with them the store it was on.
    console.registry.remove(POLICY);
    console.registry.put(policy)?;
    let op = console.requests.op(&settings, POLICY);
    let per_s = settings.requests_per_s;
    now.settings = Some(settings);
    // Started before it is told: a page that shows the new settings has dropped the old figures.
    console.traffic.start(per_s, op);
    console.tell(&now);
    Ok(StatusCode::NO_CONTENT)
}

/// Stops the traffic; the policy stays.
async fn stop(State(console): Shared) -> StatusCode {
    console.traffic.stop();
    StatusCode::NO_CONTENT
}

/// A switch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
    /// For `latency`: how much is added each way.
    #[serde(default)]
    latency_ms: Option<u64>,
}

/// Turns a fault between the service and its Redis on or off.
async fn fault(
    State(console): Shared,
    Path(name): Path<FaultName>,
    Json(switch): Json<Switch>,
) -> Result<StatusCode, Problem> {
    let mut now = console.changing.lock().await;
    let redis = now.redis.as_mut().ok_or_else(|| {
        Problem::conflict("no Redis is running here yet: start traffic with the store Redis first")
    })?;
    redis.switch(name, switch.on, switch.latency_ms).await?;
    console.traffic.mark(name.as_str(), switch.on);
    console.tell(&now);
    Ok(StatusCode::NO_CONTENT)
}
