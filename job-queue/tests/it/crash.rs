//! SIGKILL under load, again and again: nothing acknowledged is lost, nothing deleted returns,
//! groups stay in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use job_queue::client::Client;
use job_queue::worker::{Incoming, Outgoing, Source};
use serde_json::{Value, json};
use testkit::crash::{Program, free_address};
use testkit::{Seed, wait_until};

const PRODUCERS: usize = 4;
const CONSUMERS: usize = 4;
const QUEUES: [&str; 2] = ["crash", "crash.fifo"];
/// Short, so that what a dead server's consumers held comes back soon.
const VISIBILITY_MS: u64 = 1_000;

/// What the outside knows: only what was answered.
#[derive(Default)]
struct Known {
    sent: BTreeSet<String>,
    delete_tried: BTreeSet<String>,
    deleted: BTreeSet<String>,
    deliveries: u64,
    wrong: Vec<String>,
}

impl Known {
    fn received(&mut self, queue: &str, batch: &[Incoming]) {
        let mut last = BTreeMap::new();
        for message in batch {
            self.deliveries += 1;
            if self.deleted.contains(&message.body) {
                self.wrong.push(format!("{} was delivered after its delete", message.body));
            }
            let Some((group, n)) = message.body.split_once('/') else { continue };
            let n: usize = n.parse().expect("our own bodies end in a number");
            if !queue.ends_with(".fifo") {
                continue;
            }
            // In a batch, one after the other; before a batch, everything was deleted or tried.
            let before = last.insert(group.to_owned(), n);
            let in_order = match before {
                Some(before) => n == before + 1,
                None => (0..n).all(|n| self.delete_tried.contains(&format!("{group}/{n}"))),
            };
            if !in_order {
                self.wrong.push(format!("{} was delivered out of order", message.body));
            }
        }
    }
}

/// Who is killed.
enum Victim {
    Server,
    Postgres(infra::Postgres),
    Redis(infra::Redis),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill_under_load() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = format!("sqlite:{}", directory.path().join("queue.db").display());
    survives(&store, Victim::Server, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_it_survives_the_server() {
    let postgres = infra::postgres().await.expect("a Postgres to test against");
    let database = postgres.database("job_queue", "").await.expect("a database");
    survives(database.url(), Victim::Server, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_it_survives_postgres() {
    let postgres = infra::postgres_with(infra::PostgresOptions::default()).await;
    let postgres = postgres.expect("a Postgres to kill");
    let database = postgres.database("job_queue", "").await.expect("a database");
    survives(database.url(), Victim::Postgres(postgres), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_it_survives_the_server() {
    let redis = infra::redis().await.expect("a Redis to test against");
    survives(redis.url(), Victim::Server, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_that_syncs_it_survives_redis() {
    let options = infra::RedisOptions { durable: true, ..infra::RedisOptions::default() };
    let redis = infra::redis_with(options).await.expect("a Redis to kill");
    let url = redis.url().to_owned();
    survives(&url, Victim::Redis(redis), 2).await;
}

async fn survives(store: &str, victim: Victim, kills: usize) {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let address = free_address();
    let mut server = Program::new(env!("CARGO_BIN_EXE_job-queue"))
        .args(["serve", "--listen", &address.to_string(), "--store", store])
        .start();
    server.wait_ready(address).await;
    let client = Client::new(&format!("http://{address}"), "us-east-1").expect("a URL");
    create_queues(&client).await;
    let known = Arc::new(Mutex::new(Known::default()));
    let [stop, end] = [(); 2].map(|()| tokio_util::sync::CancellationToken::new());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..PRODUCERS {
        tasks.spawn(produce(client.clone(), format!("p{n}"), Arc::clone(&known), stop.clone()));
    }
    for n in 0..CONSUMERS {
        tasks.spawn(consume(client.clone(), QUEUES[n % 2], Arc::clone(&known), end.clone()));
    }
    for _ in 0..kills {
        let before = known.lock().unwrap().sent.len();
        // A kill that meets no load proves nothing.
        wait_until("messages were sent since the last kill", Duration::from_secs(20), || async {
            known.lock().unwrap().sent.len() > before + 20
        })
        .await;
        tokio::time::sleep(Duration::from_millis(rng.u64(0..150))).await;
        match &victim {
            Victim::Server => {
                server.kill9();
                server.restart();
                server.wait_ready(address).await;
            }
            Victim::Postgres(postgres) => {
                postgres.kill9().await.expect("it is ours");
                postgres.restart().await.expect("it comes back");
            }
            Victim::Redis(redis) => {
                redis.kill9().await.expect("it is ours");
                redis.restart().await.expect("it comes back");
            }
        }
    }
    stop.cancel();
    wait_until_empty(&client, &known).await;
    end.cancel();
    while let Some(task) = tasks.join_next().await {
        task.expect("no task panics");
    }
    let known = known.lock().unwrap();
    assert!(known.wrong.is_empty(), "{:?}", &known.wrong[..known.wrong.len().min(5)]);
    // A delete whose answer was lost may have happened; what nobody tried to delete must not go.
    let lost: Vec<_> = known.sent.difference(&known.delete_tried).take(5).collect();
    assert!(lost.is_empty(), "acknowledged and never delivered: {lost:?}");
    assert!(known.sent.len() > kills * 20, "only {} messages", known.sent.len());
}

async fn create_queues(client: &Client) {
    for queue in QUEUES {
        let attributes =
            if queue.ends_with(".fifo") { json!({"FifoQueue": "true"}) } else { json!({}) };
        let create = json!({ "QueueName": queue, "Attributes": attributes });
        client.call::<Value>("CreateQueue", &create).await.expect("a queue");
    }
}

async fn wait_until_empty(client: &Client, known: &Mutex<Known>) {
    wait_until("both queues are empty", Duration::from_secs(30), || async {
        let mut left = 0;
        for queue in QUEUES {
            // A store that has just come back may refuse for a moment.
            let Ok(depth) = client.depth(queue).await else { return false };
            left += depth.ready + depth.in_flight + depth.delayed;
        }
        left == 0 || !known.lock().unwrap().wrong.is_empty()
    })
    .await;
}

/// Sends to both queues; the FIFO ones again under the same deduplication id until it is said that
/// they arrived, so that there is no gap.
async fn produce(
    client: Client,
    name: String,
    known: Arc<Mutex<Known>>,
    stop: tokio_util::sync::CancellationToken,
) {
    for n in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let standard = Outgoing { body: format!("{name}-s/{n}"), ..Outgoing::default() };
        if client.send(QUEUES[0], standard.clone()).await.is_ok() {
            known.lock().unwrap().sent.insert(standard.body);
        }
        let body = format!("{name}/{n}");
        let fifo = Outgoing {
            body: body.clone(),
            group: Some(name.clone()),
            dedup_id: Some(body.clone()),
            ..Outgoing::default()
        };
        while client.send(QUEUES[1], fifo.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        known.lock().unwrap().sent.insert(body);
    }
}

async fn consume(
    client: Client,
    queue: &'static str,
    known: Arc<Mutex<Known>>,
    end: tokio_util::sync::CancellationToken,
) {
    while !end.is_cancelled() {
        let Ok(batch) = client.receive(queue, 10, VISIBILITY_MS, 0).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        known.lock().unwrap().received(queue, &batch);
        if batch.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for message in batch {
            known.lock().unwrap().delete_tried.insert(message.body.clone());
            if client.delete(queue, &message.receipt).await.is_err() {
                // What follows in the group is behind it; leave the rest of the batch alone.
                break;
            }
            known.lock().unwrap().deleted.insert(message.body);
        }
    }
}
