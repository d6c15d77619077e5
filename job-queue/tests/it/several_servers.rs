//! Several servers over one store: one sends, another's consumer is woken, and nobody gets what
//! somebody else holds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::limits::seconds;
use job_queue::store::postgres::Postgres;
use job_queue::store::redis::Redis;
use job_queue::{Ask, Content, NewMessage, QueueId, Queues, Settings};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SERVERS: usize = 3;

/// Servers over one Postgres, and what it is in.
async fn over_postgres() -> (Vec<Postgres>, (infra::Database, infra::Postgres)) {
    let server = infra::postgres().await.expect("a Postgres to test against");
    let database = server.database("job_queue", "").await.expect("a database");
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        let connected = Postgres::connect(database.url(), Clock::system()).await;
        servers.push(connected.expect("a Postgres that was just started"));
    }
    (servers, (database, server))
}

async fn over_redis() -> (Vec<Redis>, infra::Redis) {
    let redis = infra::redis().await.expect("a Redis to test against");
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        let connected = Redis::connect(redis.url(), Clock::system()).await;
        servers.push(connected.expect("a Redis that was just started"));
    }
    (servers, redis)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_a_consumer_elsewhere_is_told() {
    let (servers, _home) = over_postgres().await;
    a_consumer_elsewhere_is_told(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_a_consumer_elsewhere_is_told() {
    let (servers, _home) = over_redis().await;
    a_consumer_elsewhere_is_told(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_servers_share_the_work() {
    let (servers, _home) = over_postgres().await;
    servers_share_the_work(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_servers_share_the_work() {
    let (servers, _home) = over_redis().await;
    servers_share_the_work(&servers).await;
}

/// A consumer that is not told looks once a second, so forty messages would take it forty seconds.
async fn a_consumer_elsewhere_is_told<Q: Queues + Clone>(servers: &[Q]) {
    let queue = QueueId::new("r", "told");
    servers[0].create(&queue, Settings::standard()).await.expect("a queue");
    let all = async {
        for n in 0..40 {
            let (elsewhere, id) = (servers[1].clone(), queue.clone());
            let consumer = tokio::spawn(async move {
                elsewhere.receive(&id, Ask { wait_ms: Some(seconds(20)), ..Ask::now(1) }).await
            });
            tokio::task::yield_now().await;
            let message = NewMessage::new(Content::text(n.to_string()));
            servers[0].send(&queue, vec![message]).await.expect("it is kept");
            let received = consumer.await.expect("no panic").expect("an answer");
            assert_eq!(received.len(), 1);
            let receipts = vec![received[0].receipt];
            servers[2].delete(&queue, receipts).await.expect("an answer")[0].clone().expect("ours");
        }
    };
    timeout(Duration::from_secs(20), all).await.expect("consumers are told, not left to look");
    // The queue is removed elsewhere: who waits learns that too.
    let (elsewhere, id) = (servers[1].clone(), queue.clone());
    let consumer = tokio::spawn(async move {
        elsewhere.receive(&id, Ask { wait_ms: Some(seconds(20)), ..Ask::now(1) }).await
    });
    servers[0].remove(&queue).await.expect("it is there");
    let told = timeout(Duration::from_secs(10), consumer).await.expect("it is told");
    assert!(matches!(told, Ok(Err(job_queue::Error::NoSuchQueue))), "{told:?}");
}

/// Twelve consumers on three servers: every message is done once, each group in order.
async fn servers_share_the_work<Q: Queues + Clone>(servers: &[Q]) {
    const MESSAGES: usize = 240;
    const GROUPS: usize = 8;
    let queue = QueueId::new("r", "work.fifo");
    servers[0].create(&queue, Settings::fifo()).await.expect("a queue");
    let mut tasks = JoinSet::new();
    for (n, server) in servers.iter().enumerate() {
        let (server, queue) = (server.clone(), queue.clone());
        tasks.spawn(async move {
            for m in (0..MESSAGES).filter(|m| m % GROUPS % SERVERS == n) {
                let content = Content {
                    group: Some((m % GROUPS).to_string().into()),
                    dedup_id: Some(m.to_string()),
                    ..Content::text(m.to_string())
                };
                let sent = server.send(&queue, vec![NewMessage::new(content)]).await;
                sent.expect("an answer")[0].clone().expect("it is kept");
            }
            Vec::new()
        });
    }
    let tried = Arc::new(Mutex::new(BTreeSet::new()));
    for n in 0..4 * SERVERS {
        let (server, queue) = (servers[n % SERVERS].clone(), queue.clone());
        let tried = Arc::clone(&tried);
        tasks.spawn(async move {
            let mut seen = Vec::new();
            while tried.lock().unwrap().len() < MESSAGES {
                let ask = Ask { wait_ms: Some(200), ..Ask::now(3) };
                for it in server.receive(&queue, ask).await.expect("an answer") {
                    let m: usize = it.content.body.parse().expect("our own body");
                    // Those before it in its group are done, or it would not have come.
                    let before: Vec<_> = (m % GROUPS..m).step_by(GROUPS).collect();
                    let skipped = before.iter().any(|m| !tried.lock().unwrap().contains(m));
                    assert!(!skipped, "{m} was delivered before what was sent before it");
                    seen.push(m);
                    tried.lock().unwrap().insert(m);
                    let deleted = server.delete(&queue, vec![it.receipt]).await;
                    deleted.expect("an answer")[0].clone().expect("we hold it");
                }
            }
            seen
        });
    }
    let all = async {
        let mut all = Vec::new();
        while let Some(seen) = tasks.join_next().await {
            all.extend(seen.expect("no panic"));
        }
        all
    };
    let all = timeout(Duration::from_secs(30), all).await.expect("everything is done");
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (MESSAGES, MESSAGES), "each once");
}
