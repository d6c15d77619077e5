//! What the form says, one job sent, and one message as the page shows it.

use std::net::SocketAddr;

use axum::http::StatusCode;
use benches::harness::{Outcome, Shot};
use futures::future::BoxFuture;
use job_queue::Peeked;
use job_queue::message::{AttributeValue, Phase};
use job_queue::sqs::ACCOUNT_DEFAULT;
use job_queue::worker::job::{JOB_ATTRIBUTE, REASON_ATTRIBUTE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::Problem;

use super::crew::{Chores, JOB};
use crate::traffic::Loopback;

/// Where the jobs go.
pub(super) const QUEUE: &str = "images";

/// More jobs a second, for ten minutes, would only fill the disk.
const RATE_MAX: u32 = 1_000;
/// A longer job shows nothing that this one does not.
const JOB_MS_MAX: u64 = 5_000;
/// Jobs are tasks of this process: more of them would show its scheduler.
const WORKERS_MAX: usize = 200;

/// The form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) jobs_per_s: u32,
    job_ms: u64,
    workers_max: usize,
    /// Of a hundred attempts this many fail and are tried again.
    failing_percent: u8,
    /// Of a hundred jobs this many can never be done.
    corrupt_percent: u8,
}

impl Settings {
    /// # Errors
    /// 422 naming the first field at fault.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let within = |field: &str, value: u64, least: u64, most: u64| match value {
            value if (least..=most).contains(&value) => Ok(()),
            _ => {
                let detail = format!("must be {least} to {most}, not {value}");
                Err(Problem::invalid(format!("/{field}"), detail))
            }
        };
        within("jobs_per_s", self.jobs_per_s.into(), 1, RATE_MAX.into())?;
        within("job_ms", self.job_ms, 1, JOB_MS_MAX)?;
        within("workers_max", self.workers_max as u64, 1, WORKERS_MAX as u64)?;
        within("failing_percent", self.failing_percent.into(), 0, 90)?;
        within("corrupt_percent", self.corrupt_percent.into(), 0, 100)
    }

    pub(super) fn chores(&self) -> Chores {
        Chores {
            job_ms: self.job_ms,
            workers_max: self.workers_max,
            failing_percent: self.failing_percent,
            corrupt_percent: self.corrupt_percent,
        }
    }
}

/// Those who have jobs for us: clients of SQS, over HTTP.
#[derive(Clone)]
pub(super) struct Senders(Loopback);

impl Senders {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self(Loopback::new(address))
    }

    /// The operation that the traffic repeats.
    pub(super) fn op(&self) -> impl Fn(Shot) -> BoxFuture<'static, Outcome> + Send + Sync + use<> {
        let this = self.clone();
        move |_| {
            let this = this.clone();
            Box::pin(async move { this.send().await })
        }
    }

    async fn send(self) -> Outcome {
        let job = json!({ "image": fastrand::u16(..), "luck": fastrand::u8(0..100) });
        let message = json!({
            "QueueUrl": format!("/{ACCOUNT_DEFAULT}/{QUEUE}"),
            "MessageBody": job.to_string(),
            "MessageAttributes": {
                JOB_ATTRIBUTE: { "DataType": "String", "StringValue": JOB },
            },
        });
        let path = format!("/job-queue/{ACCOUNT_DEFAULT}/{QUEUE}");
        let action = [("x-amz-target", "AmazonSQS.SendMessage")];
        match self.0.post_with(&path, &action, message.to_string()).await?.status {
            StatusCode::OK => Ok("sent"),
            status if status.is_server_error() => Err("server error"),
            _ => Err("refused"),
        }
    }
}

/// A message as a row of a table.
pub(super) fn row(message: Peeked, now_ms: u64) -> Value {
    let (phase, until_ms) = match message.phase {
        Phase::Ready => ("ready", None),
        Phase::Delayed { until_ms } => ("delayed", Some(until_ms)),
        Phase::Leased { until_ms, .. } => ("in flight", Some(until_ms)),
    };
    let reason = message.content.attributes.get(REASON_ATTRIBUTE).map(|it| &it.value);
    let reason = reason.and_then(|value| match value {
        AttributeValue::Text(text) => Some(text.as_str()),
        AttributeValue::Bytes(_) => None,
    });
    json!({
        "id": message.id,
        "phase": phase,
        "left_ms": until_ms.map(|until_ms| until_ms.saturating_sub(now_ms)),
        "age_ms": now_ms.saturating_sub(message.position.sent_at_ms),
        "receives": message.receives,
        "body": message.content.body,
        "reason": reason.unwrap_or("received too often: it killed its workers"),
    })
}
