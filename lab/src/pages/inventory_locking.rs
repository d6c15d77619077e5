//! The page of the inventory: a flash sale with the chosen answer, live.

mod selected;
mod sale;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use inventory_locking::http;
use serde_json::json;
use service::{Connection, Json, Problem, Readiness};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use self::sale::{Buyers, Settings};
use self::selected::Selected;
use super::{Lab, Page};
use crate::traffic::Traffic;

/// How often the books are added up while a sale runs.
const AUDIT_EVERY: Duration = Duration::from_millis(500);

struct Console {
    selected: Selected,
    traffic: Traffic,
    buyers: Buyers,
    found: Arc<infra::Found>,
    /// One sale at a time; its auditor ends with it.
    auditor: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// The service with the page's own routes below `/lab`.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let selected = Selected::new()?;
    let traffic = Traffic::new(lab);
    let console = Arc::new(Console {
        selected: selected.clone(),
        buyers: Buyers::new(lab.address),
        traffic,
        found: Arc::clone(&lab.found),
        auditor: Mutex::default(),
    });
    console.tell(None);
    let routes = Router::new()
        .route("/lab/events", get(events))
        .route("/lab/sale", post(start).delete(stop))
        .with_state(console);
    let stored_on = match lab.found.postgres.is_usable() {
        true => "memory, a file, or a Postgres that is started when you choose it",
        false => "memory or a file (no Postgres on this machine)",
    };
    let question = "The last hundred tickets and a hundred thousand buyers: never sell one twice, \
                    and keep the line moving.";
    Ok(Page::new("inventory-locking", "Inventory under contention", question)
        .stored_on(stored_on)
        .serving(http::router(Arc::new(selected), Readiness::new(&lab.shutdown)).merge(routes)))
}

type Shared = State<Arc<Console>>;

impl Console {
    fn tell(&self, settings: Option<&Settings>) {
        self.traffic.note(
            "state",
            json!({
                "settings": settings,
                "postgres_usable": self.found.postgres.is_usable(),
                "postgres_found": self.found.postgres.to_string(),
            }),
        );
    }
}

/// The live stream of the page.
async fn events(State(console): Shared, connection: Connection) -> Result<Response, Problem> {
    console.traffic.events(&connection)
}

/// Opens a shop with fresh stock and lets the buyers in.
async fn start(
    State(console): Shared,
    Json(settings): Json<Settings>,
) -> Result<StatusCode, Problem> {
    settings.check()?;
    let mut auditor = console.auditor.lock().await;
    console.traffic.stop();
    *auditor = None;
    console.selected.open(&settings).await?;
    console.tell(Some(&settings));
    console.traffic.start(settings.buyers_per_s, console.buyers.op());
    let watching = Arc::clone(&console);
    *auditor = Some(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            watching.traffic.note("books", watching.selected.books().await);
            tokio::time::sleep(AUDIT_EVERY).await;
        }
    })));
    Ok(StatusCode::NO_CONTENT)
}

/// Closes the door; the stock stays as it is.
async fn stop(State(console): Shared) -> StatusCode {
    console.traffic.stop();
    let mut auditor = console.auditor.lock().await;
    *auditor = None;
    console.traffic.note("books", console.selected.books().await);
    StatusCode::NO_CONTENT
}
