//! The page of the job queue: jobs in over SQS, workers that follow the backlog and can be killed,
//! dead letters and the way back.

mod crew;
mod form;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use job_queue::clock::Clock;
use job_queue::message::Position;
use job_queue::settings::Redrive;
use job_queue::sqs::{ACCOUNT_DEFAULT, REGION_DEFAULT};
use job_queue::store::sqlite::Sqlite;
use job_queue::{QueueId, Queues, http};
use parking_lot::Mutex;
use serde_json::json;
use service::{Connection, Json, Problem};
use tokio_util::task::AbortOnDropHandle;

use self::crew::Crew;
use self::form::{Senders, Settings};
use super::{Lab, Page};
use crate::traffic::{TIME_MAX, Traffic};

/// How often the page is told how things stand.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the workers stay when nothing comes any more: long enough to see them go.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Rows in the page's tables.
const ROWS: usize = 8;
/// Dead letters moved back by one press of the button.
const REDRIVE_MAX: usize = 500;

struct Console {
    queues: Sqlite,
    traffic: Traffic,
    senders: Senders,
    crew: Arc<Crew>,
    began: Mutex<Instant>,
    /// Watches the queue while workers are there.
    watch: Mutex<Option<AbortOnDropHandle<()>>>,
}

fn jobs() -> QueueId {
    QueueId::new(REGION_DEFAULT, form::QUEUE)
}

fn dead_letters() -> QueueId {
    QueueId::new(REGION_DEFAULT, crew::DEAD_LETTERS)
}

/// The service on a SQLite file that goes when the lab stops, and the page's own routes below
/// `/lab`.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let directory = tempfile::tempdir().context("a directory for the queues")?;
    let queues = Sqlite::open(&directory.path().join("queues.db"), Clock::system()).await?;
    queues.create(&dead_letters(), job_queue::Settings::standard()).await?;
    // A job that kills every worker that takes it becomes a dead letter of the queue's own making.
    let redrive = Some(Redrive { target: dead_letters(), max_receives: 10 });
    let settings = job_queue::Settings { redrive, ..job_queue::Settings::standard() };
    queues.create(&jobs(), settings).await?;
    let crew = Arc::new(Crew::new(queues.clone()));
    let console = Arc::new(Console {
        queues: queues.clone(),
        traffic: Traffic::new(lab),
        senders: Senders::new(lab.address),
        crew: Arc::clone(&crew),
        began: Mutex::new(Instant::now()),
        watch: Mutex::default(),
    });
    let service = http::router(queues.clone(), ACCOUNT_DEFAULT, &lab.shutdown);
    lab.shutdown.on_drained("job-queue", async move {
        crew.dismiss();
        queues.close().await;
        drop(directory);
    });
    let routes = Router::new()
        .route("/lab/events", get(events))
        .route("/lab/jobs", post(start).delete(stop))
        .route("/lab/kill", post(kill))
        .route("/lab/redrive", post(redrive_dead_letters))
        .with_state(console);
    let question = "Background processing for image jobs: at least once, with retries, dead letters \
                    and workers that may die.";
    Ok(Page::new("job-queue", "Job queue", question)
        .stored_on("a SQLite file that goes when the lab stops")
        .serving(service.merge(routes)))
}

type Shared = State<Arc<Console>>;

/// The live stream of the page.
async fn events(State(console): Shared, connection: Connection) -> Result<Response, Problem> {
    console.traffic.events(&connection)
}

/// Sends jobs, or goes on with other settings; the workers come with the first.
async fn start(
    State(console): Shared,
    Json(settings): Json<Settings>,
) -> Result<StatusCode, Problem> {
    settings.check()?;
    console.traffic.stop();
    console.crew.adopt(settings.chores());
    *console.began.lock() = Instant::now();
    console.traffic.start(settings.jobs_per_s, console.senders.op());
    Console::watch(&console);
    Ok(StatusCode::NO_CONTENT)
}

/// Sends no more; the workers finish what is there.
async fn stop(State(console): Shared) -> StatusCode {
    console.traffic.stop();
    StatusCode::NO_CONTENT
}

/// Every worker dies in the middle of what it does. New ones come; the old ones' leases run out.
async fn kill(State(console): Shared) -> Result<StatusCode, Problem> {
    if !console.crew.is_there() {
        return Err(Problem::conflict("there are no workers: send some jobs first"));
    }
    console.traffic.mark("kill-9", true);
    console.crew.kill().map_err(Problem::internal)?;
    console.traffic.mark("kill-9", false);
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the dead letters another chance.
async fn redrive_dead_letters(State(console): Shared) -> Result<StatusCode, Problem> {
    console.queues.transfer(&dead_letters(), Some(&jobs()), REDRIVE_MAX).await?;
    Console::watch(&console);
    Ok(StatusCode::NO_CONTENT)
}

impl Console {
    /// Brings the workers, and somebody who watches until nothing is left to do.
    fn watch(console: &Arc<Self>) {
        let mut watch = console.watch.lock();
        if watch.as_ref().is_some_and(|watch| !watch.is_finished()) {
            return;
        }
        let this = Arc::clone(console);
        *watch = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let (mut idle_since, began) = (Instant::now(), Instant::now());
            while idle_since.elapsed() < IDLE_MAX && began.elapsed() < 2 * TIME_MAX {
                if let Err(error) = this.crew.ensure() {
                    tracing::warn!(%error, "no workers");
                }
                if this.look().await.unwrap_or(true) {
                    idle_since = Instant::now();
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            this.crew.dismiss();
            drop(this.look().await);
        })));
    }

    /// Tells the page how things stand; whether there is anything to do.
    async fn look(&self) -> Result<bool, job_queue::Error> {
        let now_ms = Clock::system().now_ms();
        let counts = self.queues.counts(&jobs()).await?;
        let dead = self.queues.counts(&dead_letters()).await?;
        let oldest_age_ms = counts.oldest_sent_at_ms.map_or(0, |at| now_ms.saturating_sub(at));
        self.traffic.note(
            "queue",
            json!({
                "at_ms": self.began.lock().elapsed().as_millis() as u64,
                "ready": counts.ready,
                "in_flight": counts.in_flight,
                "delayed": counts.delayed,
                "dead": dead.ready,
                "oldest_age_ms": oldest_age_ms,
                "crew": self.crew.report(),
                "oldest": self.rows(&jobs(), now_ms).await?,
                "letters": self.rows(&dead_letters(), now_ms).await?,
            }),
        );
        let left = counts.ready + counts.in_flight + counts.delayed;
        Ok(left > 0 || self.traffic.is_running())
    }

    /// The oldest messages; looking leases none of them.
    async fn rows(
        &self,
        queue: &QueueId,
        now_ms: u64,
    ) -> Result<Vec<serde_json::Value>, job_queue::Error> {
        let messages = self.queues.peek(queue, Position::default(), ROWS).await?;
        Ok(messages.into_iter().map(|message| form::row(message, now_ms)).collect())
    }
}
