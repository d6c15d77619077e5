//! Dead letters back to work: ListDeadLetterSourceQueues and the message move tasks.
//!
//! A task moves messages in small steps, so that it can be cancelled, slowed down, and share the
//! store with everybody else. Trade-off: tasks live in this process. After a restart the messages
//! that were moved are moved, the rest stays, and the task is gone; start it again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::create::{LIST_MAX, read_token, token};
use super::errors::{Code, Fault};
use super::{Sqs, checks};
use crate::limits::TRANSFER_MAX;
use crate::message::{MessageId, QueueId};
use crate::queue::Queues;

/// Finished tasks that are remembered for ListMessageMoveTasks; the oldest go first.
const TASKS_MAX: usize = 1_000;
/// Most results of one list.
const RESULTS_MAX: usize = 10;
/// Most messages a second a task may be told to move.
const RATE_MAX: usize = 500;
/// The rhythm of a task with a rate.
const STEPS_PER_SECOND: usize = 10;

/// The tasks of this process, newest first.
#[derive(Debug, Default)]
pub(super) struct MoveTasks(Mutex<VecDeque<Arc<Task>>>);

#[derive(Debug)]
struct Task {
    handle: String,
    source: QueueId,
    source_arn: String,
    destination_arn: Option<String>,
    rate: Option<usize>,
    to_move: u64,
    started_at_ms: u64,
    moved: AtomicU64,
    cancelled: AtomicBool,
    ended: Mutex<Option<(&'static str, Option<String>)>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListSources {
    queue_url: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Sources {
    #[serde(rename = "queueUrls")]
    queue_urls: Vec<String>,
    #[serde(rename = "NextToken", skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StartMove {
    source_arn: Option<String>,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OfTask {
    task_handle: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListMoves {
    source_arn: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Started {
    task_handle: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Cancelled {
    approximate_number_of_messages_moved: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Moves {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<Move>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Move {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_handle: Option<String>,
    status: &'static str,
    source_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_number_of_messages_per_second: Option<usize>,
    approximate_number_of_messages_moved: u64,
    approximate_number_of_messages_to_move: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<String>,
    started_timestamp: u64,
}

impl<Q: Queues + Clone> Sqs<Q> {
    pub(super) async fn list_sources(
        &self,
        caller: &Caller,
        input: ListSources,
    ) -> Result<Sources, Fault> {
        let target = caller.queue(input.queue_url.as_deref())?;
        self.queues.settings(&target).await?;
        let limit = checks::count("MaxResults", input.max_results, LIST_MAX, LIST_MAX)?;
        let after = input.next_token.as_deref().map(read_token).transpose()?;
        let (found, more) = self
            .matching(caller, after, limit, |_, settings| {
                settings.redrive.as_ref().is_some_and(|redrive| redrive.target == target)
            })
            .await?;
        let next_token = more.then(|| found.last().map(|last| token(&last.name))).flatten();
        Ok(Sources {
            queue_urls: found.iter().map(|queue| caller.url(queue)).collect(),
            next_token: next_token.filter(|_| input.max_results.is_some()),
        })
    }

    pub(super) async fn start_move(
        &self,
        caller: &Caller,
        input: StartMove,
    ) -> Result<Started, Fault> {
        let source_arn = input.source_arn.ok_or_else(|| Fault::missing("SourceArn"))?;
        let source = existing(caller, &source_arn)?;
        let rate = match input.max_number_of_messages_per_second {
            Some(_) => Some(checks::count(
                "MaxNumberOfMessagesPerSecond",
                input.max_number_of_messages_per_second,
                RATE_MAX,
                RATE_MAX,
            )?),
            None => None,
        };
        self.queues.settings(&source).await.map_err(|_| no_such_resource())?;
        let destination = match &input.destination_arn {
            Some(arn) => {
                let destination = existing(caller, arn)?;
                self.queues.settings(&destination).await.map_err(|_| no_such_resource())?;
                Some(destination)
            }
            None => None,
        };
        let is_target = |_: &QueueId, settings: &crate::Settings| {
            settings.redrive.as_ref().is_some_and(|redrive| redrive.target == source)
        };
        if self.matching(caller, None, 1, is_target).await?.0.is_empty() {
            let what = "Source queue must be configured as a Dead Letter Queue.";
            return Err(Fault::new(Code::InvalidParameterValue, what));
        }
        let counts = self.queues.counts(&source).await?;
        let task_id = MessageId::fresh();
        let handle = format!("{{\"taskId\":\"{task_id}\",\"sourceArn\":\"{source_arn}\"}}");
        let task = Arc::new(Task {
            handle: URL_SAFE_NO_PAD.encode(handle),
            source,
            source_arn,
            destination_arn: input.destination_arn,
            rate,
            to_move: counts.ready as u64,
            started_at_ms: crate::clock::Clock::system().now_ms(),
            moved: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            ended: Mutex::new(None),
        });
        self.moves.add(Arc::clone(&task))?;
        let handle = task.handle.clone();
        tokio::spawn(run(self.queues.clone(), task, destination));
        Ok(Started { task_handle: handle })
    }

    pub(super) fn list_moves(&self, caller: &Caller, input: ListMoves) -> Result<Moves, Fault> {
        let source_arn = input.source_arn.ok_or_else(|| Fault::missing("SourceArn"))?;
        existing(caller, &source_arn)?;
        let limit = checks::count("MaxResults", input.max_results, 1, RESULTS_MAX)?;
        let tasks = self.moves.0.lock();
        let tasks = tasks.iter().filter(|task| task.source_arn == source_arn).take(limit);
        Ok(Moves { results: tasks.map(|task| task.describe()).collect() })
    }

    pub(super) fn cancel_move(&self, input: OfTask) -> Result<Cancelled, Fault> {
        let handle = input.task_handle.ok_or_else(|| Fault::missing("TaskHandle"))?;
        let tasks = self.moves.0.lock();
        let task = tasks.iter().find(|task| task.handle == handle).ok_or_else(no_such_task)?;
        if task.ended.lock().is_some() {
            let what = "Only active tasks can be cancelled.";
            return Err(Fault::new(Code::UnsupportedOperation, what));
        }
        task.cancelled.store(true, Ordering::Release);
        let moved = task.moved.load(Ordering::Acquire);
        Ok(Cancelled { approximate_number_of_messages_moved: moved })
    }
}

fn existing(caller: &Caller, arn: &str) -> Result<QueueId, Fault> {
    caller.queue_of_arn(arn).ok_or_else(|| {
        Fault::new(
            Code::InvalidParameterValue,
            "You must use this format to specify an ARN: \
             arn:aws:sqs:region:account:queue, of this account.",
        )
    })
}

fn no_such_resource() -> Fault {
    let what = "The resource that you specified for the SourceArn or DestinationArn parameter \
                doesn't exist.";
    Fault::new(Code::ResourceNotFoundException, what)
}

fn no_such_task() -> Fault {
    Fault::new(Code::ResourceNotFoundException, "Task does not exist.")
}

impl MoveTasks {
    fn add(&self, task: Arc<Task>) -> Result<(), Fault> {
        let mut tasks = self.0.lock();
        let active =
            |other: &Arc<Task>| other.source == task.source && other.ended.lock().is_none();
        if tasks.iter().any(active) {
            let what = "There is already a task running. Only one active task is allowed for a \
                        source queue arn at a given time.";
            return Err(Fault::new(Code::InvalidParameterValue, what));
        }
        if tasks.len() >= TASKS_MAX {
            let finished = tasks.iter().rposition(|task| task.ended.lock().is_some());
            let Some(oldest) = finished else {
                return Err(Fault::new(Code::OverLimit, "Too many move tasks are running."));
            };
            tasks.remove(oldest);
        }
        tasks.push_front(task);
        Ok(())
    }
}

impl Task {
    fn describe(&self) -> Move {
        let ended = self.ended.lock().clone();
        let cancelled = self.cancelled.load(Ordering::Acquire);
        let running = if cancelled { "CANCELLING" } else { "RUNNING" };
        let (status, failure_reason) = ended.unwrap_or((running, None));
        Move {
            task_handle: (status == "RUNNING").then(|| self.handle.clone()),
            status,
            source_arn: self.source_arn.clone(),
            destination_arn: self.destination_arn.clone(),
            max_number_of_messages_per_second: self.rate,
            approximate_number_of_messages_moved: self.moved.load(Ordering::Acquire),
            approximate_number_of_messages_to_move: self.to_move,
            failure_reason,
            started_timestamp: self.started_at_ms,
        }
    }
}

async fn run<Q: Queues>(queues: Q, task: Arc<Task>, destination: Option<QueueId>) {
    let step = task.rate.map_or(TRANSFER_MAX, |rate| rate.div_ceil(STEPS_PER_SECOND));
    let pause = task.rate.map(|rate| Duration::from_secs_f64(step as f64 / rate as f64));
    let end = loop {
        if task.cancelled.load(Ordering::Acquire) {
            break ("CANCELLED", None);
        }
        match queues.transfer(&task.source, destination.as_ref(), step).await {
            Err(error) => break ("FAILED", Some(error.to_string())),
            Ok(done) => {
                task.moved.fetch_add(done.moved as u64, Ordering::AcqRel);
                match (done.moved, done.failed) {
                    (0, 0) => break ("COMPLETED", None),
                    (0, _) => {
                        break ("FAILED", Some("AWS.SimpleQueueService.NonExistentQueue".into()));
                    }
                    _ => {}
                }
            }
        }
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => tokio::task::yield_now().await,
        }
    };
    *task.ended.lock() = Some(end);
}
