//! The service around the protocol: the SQS front, the operator's endpoints, and what SQS has no
//! operation for, rates and latencies and a look into a queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use service::{Json, Limits, Path, Problem, Query, Readiness, Shutdown};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::limits::PEEK_MAX;
use crate::message::{AttributeValue, Peeked, Phase, Position, QueueId, Seq};
use crate::meter::Reading;
use crate::queue::{Counts, Error, Queues};
use crate::sqs::{REQUEST_BYTES_MAX, Sqs};

/// A store whose traffic can be read off, for `stats` and the console.
pub trait Metered: Queues + Clone {
    /// Rates and latencies of every queue, as this process saw them.
    fn readings(&self) -> impl Future<Output = Result<Readings, Error>> + Send;
}

/// Every queue with its numbers.
pub type Readings = Vec<(QueueId, Counts, Reading)>;

impl Metered for crate::store::memory::Memory {
    async fn readings(&self) -> Result<Readings, Error> {
        Ok(self.readings())
    }
}

impl Metered for crate::store::sqlite::Sqlite {
    async fn readings(&self) -> Result<Readings, Error> {
        Ok(self.readings())
    }
}

impl Metered for crate::store::postgres::Postgres {
    async fn readings(&self) -> Result<Readings, Error> {
        self.readings().await
    }
}

impl Metered for crate::store::redis::Redis {
    async fn readings(&self) -> Result<Readings, Error> {
        self.readings().await
    }
}

/// One queue in numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Its region.
    pub region: String,
    /// Its name.
    pub queue: String,
    /// Waiting for a consumer.
    pub ready: usize,
    /// In a consumer's hands.
    pub in_flight: usize,
    /// Sent and still hidden.
    pub delayed: usize,
    /// How old the oldest message is.
    pub oldest_age_ms: u64,
    /// Messages ever sent.
    pub sent: u64,
    /// Deliveries ever made.
    pub received: u64,
    /// Messages ever deleted.
    pub deleted: u64,
    /// Deliveries a second, over the last minute.
    pub received_per_second: f64,
    /// Deletes a second, over the last minute.
    pub deleted_per_second: f64,
    /// Median wait before the first delivery.
    pub in_queue_p50_ms: u64,
    /// 99 in 100 waited no longer.
    pub in_queue_p99_ms: u64,
    /// Median time from delivery to delete.
    pub in_processing_p50_ms: u64,
    /// 99 in 100 took no longer.
    pub in_processing_p99_ms: u64,
}

/// A message as `peek` shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Peek {
    /// Where the next page begins: give it as `after`.
    pub position: String,
    /// The message's id.
    pub id: String,
    /// `ready`, `delayed` or `leased`.
    pub phase: String,
    /// When its delay or lease ends.
    pub until_ms: Option<u64>,
    /// When it was sent.
    pub sent_at_ms: u64,
    /// How often it was received.
    pub receives: u32,
    /// Its group.
    pub group: Option<String>,
    /// The queue it was given up in.
    pub dead_letter_source: Option<String>,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
struct Page {
    /// The `position` of the last message of the page before.
    after: Option<String>,
    /// Messages in one page.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Named {
    region: String,
    queue: String,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSuchQueue => Problem::not_found("no such queue"),
            other => Problem::internal(other),
        }
    }
}

/// What the two handlers below need of a store. Erased, because a documented route cannot be
/// generic.
#[derive(Clone)]
struct Operator {
    readings: Arc<dyn Fn() -> BoxFuture<'static, Result<Readings, Error>> + Send + Sync>,
    peek: Arc<dyn Fn(QueueId, Position, usize) -> Peeking + Send + Sync>,
}

type Peeking = BoxFuture<'static, Result<Vec<Peeked>, Error>>;

impl Operator {
    fn of<Q: Metered>(queues: Q) -> Self {
        let reads = queues.clone();
        Self {
            readings: Arc::new(move || {
                let queues = reads.clone();
                Box::pin(async move { queues.readings().await })
            }),
            peek: Arc::new(move |queue, after, limit| {
                let queues = queues.clone();
                Box::pin(async move { queues.peek(&queue, after, limit).await })
            }),
        }
    }
}

/// Everything one service of queues answers: both SQS protocols, `/stats`, `/peek`, `/healthz`,
/// `/readyz`, `/metrics` and `/openapi.json`. To be hardened with [`limits`], or mounted.
pub fn router<Q: Metered>(queues: Q, account: &str, shutdown: &Shutdown) -> Router {
    let probe = queues.clone();
    let ready = Readiness::new(shutdown).check("store", move || {
        let probe = probe.clone();
        async move { probe.list("us-east-1", None, 1).await.map(drop) }
    });
    let (stats, mut openapi) = OpenApiRouter::new()
        .routes(routes!(stats))
        .routes(routes!(peek))
        .with_state(Operator::of(queues.clone()))
        .split_for_parts();
    openapi.info.title = "job-queue".to_owned();
    Sqs::new(queues, account).router().merge(stats).merge(service::operations(ready, openapi))
}

/// The service's limits, with room for the largest request and the longest poll.
pub fn limits(given: Limits) -> Limits {
    Limits { body_bytes: given.body_bytes.max(REQUEST_BYTES_MAX), ..given }
}

/// Every queue in numbers: backlog, age, rates, latencies.
#[utoipa::path(get, path = "/stats", responses((status = 200, body = Vec<Stats>)))]
async fn stats(State(operator): State<Operator>) -> Result<Json<Vec<Stats>>, Problem> {
    let now_ms = crate::clock::Clock::system().now_ms();
    let describe = |(id, counts, reading): (QueueId, Counts, Reading)| Stats {
        region: id.region.to_string(),
        queue: id.name.to_string(),
        ready: counts.ready,
        in_flight: counts.in_flight,
        delayed: counts.delayed,
        oldest_age_ms: counts.oldest_sent_at_ms.map_or(0, |at| now_ms.saturating_sub(at)),
        sent: reading.sent,
        received: reading.received,
        deleted: reading.deleted,
        received_per_second: reading.received_per_second,
        deleted_per_second: reading.deleted_per_second,
        in_queue_p50_ms: reading.in_queue_p50_ms,
        in_queue_p99_ms: reading.in_queue_p99_ms,
        in_processing_p50_ms: reading.in_processing_p50_ms,
        in_processing_p99_ms: reading.in_processing_p99_ms,
    };
    Ok(Json((operator.readings)().await?.into_iter().map(describe).collect()))
}

/// Messages of a queue in order of age. Looking leases nothing and counts nothing.
#[utoipa::path(get, path = "/peek/{region}/{queue}", params(Page,
    ("region" = String, Path), ("queue" = String, Path)),
    responses((status = 200, body = Vec<Peek>), (status = 404), (status = 400)))]
async fn peek(
    State(operator): State<Operator>,
    Path(named): Path<Named>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<Peek>>, Problem> {
    let after = match &page.after {
        None => Position::default(),
        Some(text) => read_position(text).ok_or_else(|| {
            Problem::bad_request("`after` is not a position").at(
                service::problem::Place::Query("after".to_owned()),
                "give the `position` of a message",
            )
        })?,
    };
    let limit = page.limit.unwrap_or(10).clamp(1, PEEK_MAX);
    let queue = QueueId::new(&named.region, &named.queue);
    let found = (operator.peek)(queue, after, limit).await?;
    Ok(Json(found.into_iter().map(show).collect()))
}

fn read_position(text: &str) -> Option<Position> {
    let (sent_at_ms, seq) = text.split_once('-')?;
    Some(Position { sent_at_ms: sent_at_ms.parse().ok()?, seq: Seq(seq.parse().ok()?) })
}

fn show(it: Peeked) -> Peek {
    let (phase, until_ms) = match it.phase {
        Phase::Ready => ("ready", None),
        Phase::Delayed { until_ms } => ("delayed", Some(until_ms)),
        Phase::Leased { until_ms, .. } => ("leased", Some(until_ms)),
    };
    let attributes = it.content.attributes.iter().map(|(name, attribute)| {
        let value = match &attribute.value {
            AttributeValue::Text(text) => text.clone(),
            AttributeValue::Bytes(bytes) => format!("{} bytes", bytes.len()),
        };
        (name.clone(), value)
    });
    Peek {
        position: format!("{}-{}", it.position.sent_at_ms, it.position.seq.0),
        id: it.id.to_string(),
        phase: phase.to_owned(),
        until_ms,
        sent_at_ms: it.position.sent_at_ms,
        receives: it.receives,
        group: it.content.group.as_ref().map(ToString::to_string),
        dead_letter_source: it.dead_letter_source.map(|source| source.name.to_string()),
        attributes: attributes.collect(),
        body: it.content.body.clone(),
    }
}
