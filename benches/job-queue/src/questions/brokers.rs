//! A queue, a stream with a consumer group, or a partitioned log for the same jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use job_queue::clock::Clock;
use job_queue::store::redis::Redis;
use job_queue::{Ask, Content, NewMessage, Queues, Settings};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, Client};
use tokio::task::JoinSet;

use super::id;
use measure::{Question, Stage};

const JOBS: usize = 240;
const WORKERS: usize = 8;
const QUICK: Duration = Duration::from_millis(5);
const SLOW: Duration = Duration::from_millis(800);
/// A failed job is to be tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "brokers",
        asks: "SQS, RabbitMQ or Kafka for this job?",
        explanation: "Jobs differ in length and fail one by one, so the broker must be able to \
            acknowledge one by one and to hold back one. SQS is exactly that. A log such as Kafka \
            acknowledges a position: one slow job holds up everything behind it in its partition, \
            a failed one blocks it or is copied to another topic with a delay of its own; choose \
            it where several consumers must read the same stream again. A stream with a consumer \
            group (Redis) acknowledges one by one and knows no delay: a failed job comes back to \
            whoever asks for what lies idle. RabbitMQ acknowledges one by one and adds routing, \
            priorities and a push that is quicker than a poll, on hosts of your own; a delay takes \
            a plugin or a chain of queues with time limits, a redelivery limit takes quorum \
            queues. It is argued here and not measured.",
        run: |stage| Box::pin(brokers(stage)),
    }
}

/// What happened to the jobs.
#[derive(Default)]
struct Ends {
    done_ms: BTreeMap<usize, u64>,
    attempts: BTreeMap<usize, u32>,
}

type Shared = Arc<Mutex<Ends>>;

/// Does the job; whether it succeeded.
async fn work(ends: &Shared, began: Instant, job: usize) -> bool {
    tokio::time::sleep(if is_slow(job) { SLOW } else { QUICK }).await;
    let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
    let attempts = ends.attempts.entry(job).or_default();
    *attempts += 1;
    let succeeds = !is_failing(job) || *attempts > 1;
    if succeeds {
        ends.done_ms.insert(job, began.elapsed().as_millis() as u64);
    }
    succeeds
}

fn is_slow(job: usize) -> bool {
    job % 60 == 7
}

/// Fails at its first attempt.
fn is_failing(job: usize) -> bool {
    job % 40 == 13
}

fn all_done(ends: &Shared) -> bool {
    ends.lock().unwrap_or_else(PoisonError::into_inner).done_ms.len() == JOBS
}

async fn brokers(stage: Stage) -> anyhow::Result<()> {
    let server = infra::redis().await?;
    stage.scene(format!("Redis {}: three kinds of broker on the same server", server.version()));
    stage.load(format!(
        "{JOBS} jobs of {} ms, {WORKERS} workers; {} take {} ms, {} fail once and are wanted again \
         after {} ms",
        QUICK.as_millis(),
        (0..JOBS).filter(|&job| is_slow(job)).count(),
        SLOW.as_millis(),
        (0..JOBS).filter(|&job| is_failing(job)).count(),
        RETRY_AFTER.as_millis()
    ));
    let queue = as_a_queue(server.url()).await?;
    let group = as_a_group(server.url()).await?;
    let log = as_a_log(server.url()).await?;
    for (name, told) in [("queue", &queue), ("stream with a group", &group), ("log", &log)] {
        stage.observe(
            format!("{name}: quick jobs"),
            format!("half done after {} ms, the last after {} ms", told.median_ms, told.last_ms),
        );
        stage.observe(
            format!("{name}: a failed job is done"),
            format!("{} ms after the start, at best", told.retried_ms),
        );
    }
    stage.expect(
        "in the queue no quick job waits for a slow one",
        queue.last_ms < SLOW.as_millis() as u64,
        format!("the last after {} ms", queue.last_ms),
    );
    stage.expect(
        "in the log those behind a slow or failed one do",
        log.last_ms >= SLOW.as_millis() as u64,
        format!("the last after {} ms", log.last_ms),
    );
    let retry_ms = RETRY_AFTER.as_millis() as u64;
    stage.expect(
        "in the queue a failed job comes back when it is wanted, and holds up nobody",
        (retry_ms..2 * retry_ms + 500).contains(&queue.retried_ms),
        format!("after {} ms", queue.retried_ms),
    );
    stage.because("a job needs an acknowledgement and a delay of its own, and a log has neither");
    Ok(())
}

/// When jobs were done.
struct Told {
    median_ms: u64,
    last_ms: u64,
    retried_ms: u64,
}

async fn told(ends: &Shared, mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<Told> {
    let began = Instant::now();
    while !all_done(ends) {
        anyhow::ensure!(began.elapsed() < PATIENCE, "some jobs are never done");
        if let Some(ended) = tasks.try_join_next() {
            ended??;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(tasks);
    let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
    let is_quick = |job: &usize| !is_slow(*job) && !is_failing(*job);
    let of = |which: &dyn Fn(&usize) -> bool| {
        let done = ends.done_ms.iter().filter(|(job, _)| which(job)).map(|(_, &ms)| ms);
        let mut done: Vec<_> = done.collect();
        done.sort_unstable();
        done
    };
    let (quick, retried) = (of(&is_quick), of(&|job| is_failing(*job)));
    Ok(Told {
        median_ms: quick[quick.len() / 2],
        last_ms: quick[quick.len() - 1],
        retried_ms: retried[0],
    })
}

/// Ours, on this Redis: each message is leased, deleted or hidden by itself.
async fn as_a_queue(url: &str) -> anyhow::Result<Told> {
    let (queues, work_queue) = (Redis::connect(url, Clock::system()).await?, id("work"));
    queues.create(&work_queue, Settings::standard()).await?;
    for job in 0..JOBS {
        queues.send(&work_queue, vec![NewMessage::new(Content::text(job.to_string()))]).await?;
    }
    let (ends, began) = (Shared::default(), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..WORKERS {
        let (queues, queue, ends) = (queues.clone(), work_queue.clone(), Arc::clone(&ends));
        tasks.spawn(async move {
            loop {
                let ask = Ask { wait_ms: Some(1_000), ..Ask::now(1) };
                for message in queues.receive(&queue, ask).await? {
                    if work(&ends, began, message.content.body.parse()?).await {
                        queues.delete(&queue, vec![message.receipt]).await?;
                    } else {
                        let later = (message.receipt, RETRY_AFTER.as_millis() as u64);
                        queues.change_visibility(&queue, vec![later]).await?;
                    }
                }
            }
        });
    }
    told(&ends, tasks).await
}

/// A Redis stream with one consumer group: acknowledged one by one, without delays. What failed is
/// left pending, and taken again by whoever asks for what has been idle long enough.
async fn as_a_group(url: &str) -> anyhow::Result<Told> {
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let _: () = connection.xgroup_create_mkstream("group", "workers", "0").await?;
    for job in 0..JOBS {
        let _: String = connection.xadd("group", "*", &[("job", job)]).await?;
    }
    let (ends, began) = (Shared::default(), Instant::now());
    let mut tasks = JoinSet::new();
    for worker in 0..WORKERS {
        let (mut connection, ends) = (connection.clone(), Arc::clone(&ends));
        tasks.spawn(async move {
            let options =
                StreamReadOptions::default().group("workers", worker.to_string()).count(1);
            loop {
                let mut found = idle(&mut connection, worker).await?;
                if found.is_empty() {
                    let read: Option<StreamReadReply> =
                        connection.xread_options(&["group"], &[">"], &options).await?;
                    found.extend(read.into_iter().flat_map(|it| it.keys).flat_map(|it| it.ids));
                }
                if found.is_empty() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                for entry in found {
                    if work(&ends, began, job_of(&entry)?).await {
                        let _: usize = connection.xack("group", "workers", &[&entry.id]).await?;
                    }
                }
            }
        });
    }
    told(&ends, tasks).await
}

/// Longer than the longest job, or somebody would take what another still works on: there is no
/// telling apart a failed job from a slow one.
const IDLE_MIN: Duration = Duration::from_millis(1_000);

async fn idle(
    connection: &mut MultiplexedConnection,
    worker: usize,
) -> anyhow::Result<Vec<StreamId>> {
    let claimed: redis::streams::StreamAutoClaimReply = connection
        .xautoclaim_options(
            "group",
            "workers",
            worker.to_string(),
            IDLE_MIN.as_millis() as usize,
            "0",
            redis::streams::StreamAutoClaimOptions::default().count(1),
        )
        .await?;
    Ok(claimed.claimed)
}

fn job_of(entry: &StreamId) -> anyhow::Result<usize> {
    entry.get("job").ok_or_else(|| anyhow::anyhow!("an entry without a job"))
}

/// A log in as many partitions as workers, each read in order by one, as a consumer of Kafka does:
/// what is acknowledged is a position, so a failed job is tried again where it stands.
async fn as_a_log(url: &str) -> anyhow::Result<Told> {
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    for job in 0..JOBS {
        let partition = format!("log-{}", job % WORKERS);
        let _: String = connection.xadd(partition, "*", &[("job", job)]).await?;
    }
    let (ends, began) = (Shared::default(), Instant::now());
    let mut tasks = JoinSet::new();
    for partition in 0..WORKERS {
        let (mut connection, ends) = (connection.clone(), Arc::clone(&ends));
        tasks.spawn(async move {
            let (name, mut position) = (format!("log-{partition}"), "0".to_owned());
            let options = StreamReadOptions::default().count(1);
            loop {
                let read: Option<StreamReadReply> =
                    connection.xread_options(&[&name], &[&position], &options).await?;
                let found: Vec<_> =
                    read.into_iter().flat_map(|it| it.keys).flat_map(|it| it.ids).collect();
                if found.is_empty() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                for entry in found {
                    while !work(&ends, began, job_of(&entry)?).await {
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                    let _: () = connection.set(format!("{name}-position"), &entry.id).await?;
                    position = entry.id;
                }
            }
        });
    }
    told(&ends, tasks).await
}
