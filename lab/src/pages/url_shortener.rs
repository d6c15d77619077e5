//! The page of the URL shortener: shorten, send visitors, watch their clicks arrive, and see how
//! six generators make codes.

mod generators;
mod visitors;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use parking_lot::Mutex;
use rate_limiter::{AlgorithmName, Policy};
use serde_json::json;
use service::{Connection, Json, Problem, Readiness, TrustedProxies};
use url_shortener::http::{self, Api, ApiOptions};
use url_shortener::link::Owner;
use url_shortener::shortener::{Options, Shortener};
use url_shortener::store::sqlite::Sqlite;
use url_shortener::target_url::UrlPolicy;
use url_shortener::{Code, Link};

use self::generators::Generator;
use self::visitors::{Settings, Visitors};
use super::{Lab, Page};
use crate::traffic::Traffic;

/// Who owns links when the API is open.
const OWNER: &str = "everybody";
/// How often the committed clicks are read for the page.
const COUNTED_EVERY: Duration = Duration::from_millis(250);

struct Console {
    shortener: Arc<Shortener<Sqlite>>,
    traffic: Traffic,
    visitors: Visitors,
    /// The link whose clicks are shown, and those it had when its visitors were sent.
    watched: Mutex<Option<(Link, u64)>>,
}

/// The service on a SQLite file that goes when the lab stops, with the page's own routes below
/// `/lab`.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let directory = tempfile::tempdir().context("a directory for the links")?;
    let store = Arc::new(Sqlite::open(&directory.path().join("links.db"))?);
    let own_host = lab.address.ip().to_string();
    let options = Options { policy: UrlPolicy::new([own_host.as_str()])?, ..Options::default() };
    let shortener = Shortener::start(store, options).await?;
    // Registered first, so that it runs last: after the clicks that are still to be written.
    lab.shutdown.on_drained("url-shortener", async move { drop(directory) });
    shortener.run(&lab.shutdown);
    let bucket = AlgorithmName::TokenBucket;
    let api = Api::new(
        Arc::clone(&shortener),
        ApiOptions {
            base_url: format!("http://{}/url-shortener", lab.address),
            open: true,
            per_key: Policy::single("per-key", bucket, 100, 1_000, Some(1_000))?,
            unknown_codes: Policy::single("unknown-codes", bucket, 60, 60_000, None)?,
            proxies: TrustedProxies::default(),
        },
    );
    let traffic = Traffic::new(lab);
    let visitors = Visitors::new(lab.address, traffic.clone());
    let console = Arc::new(Console { shortener, traffic, visitors, watched: Mutex::default() });
    let closing = lab.shutdown.closing();
    let counting = Arc::clone(&console);
    tokio::spawn(closing.run_until_cancelled_owned(async move { counting.tell_counted().await }));
    let routes = Router::new()
        .route("/lab/events", get(events))
        .route("/lab/visitors", post(send).delete(stop))
        .route("/lab/codes", get(codes))
        .with_state(console);
    let router = http::router(&api, Readiness::new(&lab.shutdown)).merge(routes);
    let question = "Short links that resolve in microseconds, cannot be guessed, never collide, \
                    and survive one of them becoming famous.";
    Ok(Page::new("url-shortener", "URL shortener", question)
        .stored_on("a SQLite file that goes when the lab stops")
        .serving(router))
}

type Shared = State<Arc<Console>>;

impl Console {
    /// Tells every page what the store counts for the watched link, whenever that changed.
    async fn tell_counted(&self) {
        let mut every = tokio::time::interval(COUNTED_EVERY);
        let mut told = serde_json::Value::Null;
        loop {
            every.tick().await;
            let watched = self.watched.lock().clone();
            let Some((link, before)) = watched else { continue };
            let counted = match self.counted(&link, before).await {
                Ok(counted) => counted,
                Err(error) => json!({ "error": error.to_string() }),
            };
            if counted != told {
                self.traffic.note("counted", counted.clone());
                told = counted;
            }
        }
    }

    async fn counted(
        &self,
        link: &Link,
        before: u64,
    ) -> Result<serde_json::Value, url_shortener::Error> {
        let code = &link.terms.code;
        let days = self.shortener.clicks(&Owner(OWNER.to_owned()), code).await?;
        let mut sum = url_shortener::clicks::DayTally::default();
        days.iter().for_each(|(_, day)| sum.merge(day));
        let browsers = url_shortener::clicks::visit::Browser::ALL;
        let browsers =
            browsers.iter().map(|browser| (browser.name(), sum.browsers[*browser as usize]));
        let browsers: Vec<_> = browsers.filter(|(_, clicks)| *clicks > 0).collect();
        let referrers: Vec<_> = sum.referrers.iter().collect();
        Ok(json!({
            "code": code.as_str(),
            "people": sum.clicks,
            "bots": sum.bots,
            "since": sum.clicks + sum.bots - before,
            "unique": sum.visitors.estimate(),
            "browsers": browsers,
            "referrers": referrers,
        }))
    }
}

/// The live stream of the page.
async fn events(State(console): Shared, connection: Connection) -> Result<Response, Problem> {
    console.traffic.events(&connection)
}

/// Sends visitors to a link.
async fn send(
    State(console): Shared,
    Json(settings): Json<Settings>,
) -> Result<StatusCode, Problem> {
    settings.check()?;
    let owner = Owner(OWNER.to_owned());
    let code = Code::parse(&settings.code)?;
    let link = console.shortener.get(&owner, &code).await?;
    console.traffic.stop();
    // Those of earlier visitors are committed before the new ones are counted.
    console.shortener.flush_clicks().await?;
    let days = console.shortener.clicks(&owner, &code).await?;
    let before = days.iter().map(|(_, day)| day.clicks + day.bots).sum();
    *console.watched.lock() = Some((link, before));
    console.traffic.start(settings.visits_per_s, console.visitors.op(&settings));
    console.traffic.note("settings", json!(settings));
    Ok(StatusCode::NO_CONTENT)
}

/// Stops them; what they left is still counted.
async fn stop(State(console): Shared) -> StatusCode {
    console.traffic.stop();
    StatusCode::NO_CONTENT
}

/// What each generator makes of the same five links.
async fn codes() -> Result<Json<Vec<Generator>>, Problem> {
    Ok(Json(generators::all().await?))
}
