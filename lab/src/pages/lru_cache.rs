//! The page of the LRU cache: the same requests through several policies, side by side, live.

mod race;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use service::{Connection, Json, Problem, Readiness};
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;

use self::race::{Race, Settings};
use super::{Lab, Page};
use crate::console::sse;

/// More races at once than this would slow each other, and the rest of the lab, down.
const RACES_MAX: usize = 4;

/// The page with its one route: there is no HTTP service below it, the cache's own speaks RESP.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let places = Arc::new(Semaphore::new(RACES_MAX));
    let operations = service::operations(Readiness::new(&lab.shutdown), OpenApi::default());
    let routes = Router::new().route("/lab/race", post(race)).with_state(places).merge(operations);
    let title = "LRU cache";
    let question = "An in-memory cache with O(1) get and put that stays fast when many threads \
                    share it. Then: expiry, memory limits, and a hit rate under scans.";
    Ok(Page::new("lru-cache", title, question).stored_on("in process").serving(routes))
}

/// Streams a race until it is over or the page goes away.
async fn race(
    State(places): State<Arc<Semaphore>>,
    connection: Connection,
    Json(settings): Json<Settings>,
) -> Result<Response, Problem> {
    let race = Race::new(&settings)?;
    let place = places.try_acquire_owned().map_err(|_| {
        Problem::of(StatusCode::CONFLICT, "urn:problem:busy", "Too many races are running")
            .detail(format!("{RACES_MAX} run at a time; stop one or wait"))
    })?;
    Ok(sse::stream(&connection, race.moments(place)).into_response())
}
