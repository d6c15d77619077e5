//! The server is killed under load, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use job_queue::client::Client;
use job_queue::worker::{CancellationToken, Depth, Incoming, Outgoing, Source};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::server::Server;
use measure::{Question, Stage};

const PRODUCERS: usize = 4;
const CONSUMERS: usize = 4;
const QUEUES: [&str; 2] = ["crash", "crash.fifo"];
/// Short, so that what a dead server's consumers held comes back soon.
const VISIBILITY_MS: u64 = 1_000;
/// Longest time without any progress: of the senders, and of the rest when the killing is over.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "crash",
        asks: "The queue's server is killed (SIGKILL) under load, again and again. What is lost, \
               what comes twice, and is the order kept?",
        explanation: "An answer \"sent\" is given when the message's row is on disk, so it is \
            there after any kill; a deleted row is gone before \"deleted\" is answered, so it does \
            not return. What was asked and not answered may have happened or not: a sender asks \
            again under the same deduplication id, and a consumer that was not told \"deleted\" \
            gets the message again. Leases and group locks are on disk too, so a restart does not \
            hand out what somebody holds.",
        run: |stage| Box::pin(crash(stage)),
    }
}

/// What the outside knows: only what was answered.
#[derive(Default)]
struct Known {
    sent: BTreeSet<String>,
    delete_tried: BTreeSet<String>,
    deleted: BTreeSet<String>,
    returned: Vec<String>,
    out_of_order: Vec<String>,
    deliveries: usize,
}

type Shared = Arc<Mutex<Known>>;

fn lock(known: &Shared) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn crash(stage: Stage) -> anyhow::Result<()> {
    let kills = stage.pick(60, 400);
    let mut rng = fastrand::Rng::with_seed(stage.seed());
    let directory = tempfile::tempdir()?;
    let store = format!("sqlite:{}", directory.path().join("queue.db").display());
    let mut server = Server::ours(&store, None).await?;
    stage.scene("a server process on SQLite, a standard queue and a FIFO queue with four groups");
    stage.load(format!("{PRODUCERS} producers and {CONSUMERS} consumers over HTTP, all the time"));
    let client = Client::new(&format!("http://{}", server.address), "us-east-1")?;
    for queue in QUEUES {
        let fifo = queue.ends_with(".fifo");
        let attributes = if fifo { json!({"FifoQueue": "true"}) } else { json!({}) };
        let create = json!({ "QueueName": queue, "Attributes": attributes });
        client.call::<Value>("CreateQueue", &create).await?;
    }
    let known = Shared::default();
    let [stop, end] = [(); 2].map(|()| CancellationToken::new());
    let mut tasks = JoinSet::new();
    for n in 0..PRODUCERS {
        tasks.spawn(produce(client.clone(), format!("p{n}"), Arc::clone(&known), stop.clone()));
    }
    for n in 0..CONSUMERS {
        tasks.spawn(consume(client.clone(), QUEUES[n % 2], Arc::clone(&known), end.clone()));
    }
    stage.fault("kill-9", format!("{kills} times, each under load, at a random moment"));
    for _ in 0..kills {
        let before = lock(&known).sent.len();
        let began = Instant::now();
        while lock(&known).sent.len() < before + 20 {
            anyhow::ensure!(began.elapsed() < STANDSTILL_MAX, "nothing is sent any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(0..150))).await;
        server.kill9_and_restart().await?;
    }
    stage.heal("kill-9");
    stop.cancel();
    let left = wait_until_empty(&client).await;
    end.cancel();
    while tasks.join_next().await.is_some() {}
    conclude(&stage, &lock(&known), kills, &left);
    Ok(())
}

fn conclude(stage: &Stage, known: &Known, kills: usize, left: &[Depth]) {
    stage.observe("kills", kills);
    stage.observe("messages acknowledged", known.sent.len());
    let again = known.deliveries.saturating_sub(known.deleted.len());
    stage.observe("deliveries beyond the first", again);
    let lost = known.sent.difference(&known.delete_tried).count();
    let (all_came, none_left) = (lost == 0, left.iter().all(|it| *it == Depth::default()));
    let observed = match (all_came, none_left) {
        (true, true) => "all came".to_owned(),
        _ => format!("{lost} never came; the queues say {left:?}"),
    };
    stage.expect("nothing acknowledged is lost", all_came && none_left, observed);
    let returned = known.returned.len();
    stage.expect("nothing deleted returns", returned == 0, format!("{returned} returned"));
    let disorder = known.out_of_order.len();
    stage.expect(
        "each FIFO group stays in order",
        disorder == 0,
        format!("{disorder} out of order"),
    );
    stage.because("what is answered is on disk, in one transaction with the locks it took");
}

/// Waits for the rest for as long as it becomes less, and returns what there is then.
async fn wait_until_empty(client: &Client) -> Vec<Depth> {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let mut left = Vec::new();
        for queue in QUEUES {
            let depth = client.depth(queue).await;
            left.extend(depth.map(|it| Depth { oldest_age_ms: None, ..it }));
        }
        let count = left.iter().map(|it| it.ready + it.in_flight + it.delayed).sum();
        if left.len() == QUEUES.len() && count < least {
            (least, since) = (count, Instant::now());
        }
        if least == 0 || since.elapsed() > STANDSTILL_MAX {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends to both queues; the FIFO ones again under the same id until it is said that they arrived.
async fn produce(client: Client, name: String, known: Shared, stop: CancellationToken) {
    for n in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let standard = Outgoing { body: format!("{name}-s/{n}"), ..Outgoing::default() };
        if client.send(QUEUES[0], standard.clone()).await.is_ok() {
            lock(&known).sent.insert(standard.body);
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
        lock(&known).sent.insert(body);
    }
}

async fn consume(client: Client, queue: &'static str, known: Shared, end: CancellationToken) {
    while !end.is_cancelled() {
        let Ok(batch) = client.receive(queue, 10, VISIBILITY_MS, 0).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        note(&mut lock(&known), queue, &batch);
        if batch.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for message in batch {
            lock(&known).delete_tried.insert(message.body.clone());
            if client.delete(queue, &message.receipt).await.is_err() {
                // What follows in the group is behind it; leave the rest of the batch alone.
                break;
            }
            lock(&known).deleted.insert(message.body);
        }
    }
}

fn note(known: &mut Known, queue: &str, batch: &[Incoming]) {
    let mut last = BTreeMap::new();
    for message in batch {
        known.deliveries += 1;
        if known.deleted.contains(&message.body) {
            known.returned.push(message.body.clone());
        }
        let parts = message.body.split_once('/').filter(|_| queue.ends_with(".fifo"));
        let Some((group, n)) = parts else { continue };
        let Ok(n) = n.parse::<usize>() else { continue };
        // In a batch, one after the other; before a batch, everything was deleted or tried.
        let in_order = match last.insert(group.to_owned(), n) {
            Some(before) => n == before + 1,
            None => n == 0 || known.delete_tried.contains(&format!("{group}/{}", n - 1)),
        };
        if !in_order {
            known.out_of_order.push(message.body.clone());
        }
    }
}
