//! The follow-up questions, each with a button that runs it and shows it happen.
//!
//! One question runs at a time: it measures, and a second one would be measured too. It runs for
//! as long as somebody reads its stream: a page that is closed cancels it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use benches::{Event, Stage, What};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use service::{Connection, Json, Path, Problem};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;

use super::html::{asset, escape, frame};
use super::sse;
use crate::pages::{Lab, Page};

/// Seeds are short enough to be typed again.
const SEED_MAX: u64 = 1_000_000;
/// How long a question waits for the one before it to go: who stops one and starts the next at
/// once must not be refused because the first is still ending its servers.
const HANDOVER_MAX: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct OneAtATime {
    running: Arc<Semaphore>,
}

pub(super) fn router(_lab: &Lab, pages: &[Page]) -> Router {
    let html = page(pages);
    Router::new()
        .route("/questions", get(|| async { Html(html) }))
        .route("/questions/{system}/{name}", post(run))
        .with_state(OneAtATime { running: Arc::new(Semaphore::new(1)) })
}

/// How to run it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// The long form.
    #[serde(default)]
    long: bool,
    /// Repeats an earlier telling.
    #[serde(default)]
    seed: Option<u64>,
}

/// Runs a question and streams what happens: `event: told` for each [`Event`], and
/// `event: missed` with a count where the reader was too slow. Ends after the question.
async fn run(
    State(state): State<OneAtATime>,
    connection: Connection,
    Path((system, name)): Path<(String, String)>,
    Json(how): Json<Run>,
) -> Result<Response, Problem> {
    let path = format!("{system}/{name}");
    let question = benches::question(&path)
        .ok_or_else(|| Problem::not_found(format!("there is no question {path}")))?;
    let place = Arc::clone(&state.running).acquire_owned();
    let place = tokio::time::timeout(HANDOVER_MAX, place).await.ok().and_then(Result::ok);
    let place = place.ok_or_else(|| {
        Problem::of(StatusCode::CONFLICT, "urn:problem:busy", "A question is running")
            .detail("one question runs at a time, so that it measures only itself; stop it or wait")
    })?;
    let stage = Stage::silent(how.seed.unwrap_or_else(|| fastrand::u64(0..SEED_MAX)), how.long);
    let told = stage.subscribe();
    let asking = tokio::spawn(async move {
        benches::ask(&question, stage).await;
        drop(place); // only now, also when this task is cancelled: what it started is gone
    });
    let events = telling(told, AbortOnDropHandle::new(asking));
    Ok(sse::stream(&connection, events).into_response())
}

/// Every event up to the end of the question. Dropping it cancels the question.
fn telling(
    told: tokio::sync::broadcast::Receiver<Event>,
    asking: AbortOnDropHandle<()>,
) -> impl Stream<Item = (&'static str, serde_json::Value)> + Send {
    let state = (told, asking, false);
    stream::unfold(state, |(mut told, asking, ended)| async move {
        if ended {
            return None;
        }
        match told.recv().await {
            Ok(event) => {
                let ended = matches!(event.what, What::End { .. });
                let event = serde_json::to_value(&event).expect("events are plain data");
                Some((("told", event), (told, asking, ended)))
            }
            Err(RecvError::Lagged(events)) => {
                let missed = serde_json::json!({ "events": events });
                Some((("missed", missed), (told, asking, false)))
            }
            Err(RecvError::Closed) => None,
        }
    })
    .boxed()
}

fn page(pages: &[Page]) -> String {
    let title = |system: &str| {
        let page = pages.iter().find(|page| page.system == system);
        escape(page.map_or(system, |page| page.title))
    };
    let systems = benches::systems();
    let index: String = systems
        .iter()
        .map(|system| format!("<a href=\"#{0}\">{1}</a>\n", system.name, title(system.name)))
        .collect();
    let sections: String = systems
        .iter()
        .map(|system| {
            let title = title(system.name);
            let questions: String = system.questions.iter().map(entry).collect();
            let questions = match questions.as_str() {
                "" => "<p class=\"quiet\">No questions yet.</p>".to_owned(),
                _ => questions,
            };
            format!("<section id=\"{}\">\n<h2>{title}</h2>\n{questions}</section>\n", system.name)
        })
        .collect();
    let main =
        asset("questions.html").replace("{{index}}", &index).replace("{{sections}}", &sections);
    frame("Follow-up questions", "/questions", &main, &["questions.js"])
}

fn entry(question: &benches::Question) -> String {
    asset("question.html")
        .replace("{{path}}", &question.path())
        .replace("{{name}}", question.name)
        .replace("{{asks}}", &escape(question.asks))
        .replace("{{explanation}}", &escape(question.explanation))
}
