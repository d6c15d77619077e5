//! The SQLite answer across restarts, and when a row cannot be written.

use std::path::Path;

use group_commit::rusqlite::Connection;
use job_queue::clock::Clock;
use job_queue::limits::seconds;
use job_queue::message::Position;
use job_queue::store::sqlite::Sqlite;
use job_queue::{Ask, Content, Error, NewMessage, QueueId, Queues, Settings};

const START_MS: u64 = 1_790_000_000_000;

fn grouped(group: &str, body: &str) -> NewMessage {
    NewMessage::new(Content {
        group: Some(group.into()),
        dedup_id: Some(body.to_owned()),
        ..Content::text(body)
    })
}

async fn open(path: &Path, clock: &Clock) -> Sqlite {
    Sqlite::open(path, clock.clone()).await.expect("a SQLite file")
}

#[tokio::test]
async fn leases_delays_duplicates_and_counts_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let clock = Clock::manual(START_MS);
    let (fifo, standard) = (QueueId::new("r", "q.fifo"), QueueId::new("r", "q"));
    let store = open(&path, &clock).await;
    store.create(&fifo, Settings::fifo()).await.unwrap();
    store.create(&standard, Settings::standard()).await.unwrap();
    let sent = store.send(&fifo, vec![grouped("g", "1"), grouped("g", "2")]).await.unwrap();
    let original = *sent[0].as_ref().unwrap();
    let delayed =
        NewMessage { delay_ms: Some(seconds(60)), ..NewMessage::new(Content::text("late")) };
    store.send(&standard, vec![delayed, NewMessage::new(Content::text("now"))]).await.unwrap();
    let held = store.receive(&fifo, Ask::now(1)).await.unwrap();
    let taken = store.receive(&standard, Ask::now(1)).await.unwrap();
    store.delete(&standard, vec![taken[0].receipt]).await.unwrap();
    let before = (store.counts(&fifo).await.unwrap(), store.counts(&standard).await.unwrap());
    store.close().await;
    drop(store);

    let store = open(&path, &clock).await;
    let after = (store.counts(&fifo).await.unwrap(), store.counts(&standard).await.unwrap());
    assert_eq!(after, before);
    let blocked = store.receive(&fifo, Ask::now(10)).await.unwrap();
    assert!(blocked.is_empty(), "the group is still blocked");
    let duplicate = store.send(&fifo, vec![grouped("g", "1")]).await.unwrap();
    assert_eq!(*duplicate[0].as_ref().unwrap(), original, "still a duplicate");
    store.delete(&fifo, vec![held[0].receipt]).await.unwrap()[0].clone().expect("the lease holds");
    let next = store.receive(&fifo, Ask::now(10)).await.unwrap();
    assert_eq!((next.len(), next[0].receives), (1, 1));
    assert!(next[0].seq > held[0].seq);
    clock.advance_ms(seconds(60));
    let late = store.receive(&standard, Ask::now(10)).await.unwrap();
    assert_eq!(late.len(), 1, "the delayed one, and not the deleted one");
    assert_eq!(late[0].content.body, "late");
}

#[tokio::test]
async fn numbers_are_not_reused_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let clock = Clock::manual(START_MS);
    let queue = QueueId::new("r", "q");
    let store = open(&path, &clock).await;
    store.create(&queue, Settings::standard()).await.unwrap();
    store.send(&queue, vec![NewMessage::new(Content::text("old"))]).await.unwrap();
    let old = store.receive(&queue, Ask::now(1)).await.unwrap();
    store.remove(&queue).await.unwrap();
    drop(store);
    let store = open(&path, &clock).await;
    store.create(&queue, Settings::standard()).await.unwrap();
    store.send(&queue, vec![NewMessage::new(Content::text("new"))]).await.unwrap();
    let deleted = store.delete(&queue, vec![old[0].receipt]).await.unwrap();
    assert!(matches!(deleted[0], Err(Error::ReceiptInvalid)), "{deleted:?}");
    let new = store.receive(&queue, Ask::now(1)).await.unwrap();
    assert!(new[0].seq > old[0].seq);
}

/// Memory is changed before the row is written. When the row cannot be written, memory must not
/// know what the disk does not.
#[tokio::test]
async fn what_could_not_be_written_did_not_happen() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let clock = Clock::manual(START_MS);
    let queue = QueueId::new("r", "q");
    let store = open(&path, &clock).await;
    store.create(&queue, Settings::standard()).await.unwrap();
    store.send(&queue, vec![NewMessage::new(Content::text("first"))]).await.unwrap();

    let vandal = Connection::open(&path).unwrap();
    vandal.execute_batch("ALTER TABLE messages RENAME TO hidden").unwrap();
    let failed = store.send(&queue, vec![NewMessage::new(Content::text("lost"))]).await;
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    vandal.execute_batch("ALTER TABLE hidden RENAME TO messages").unwrap();

    store.send(&queue, vec![NewMessage::new(Content::text("third"))]).await.unwrap();
    let there = store.peek(&queue, Position::default(), 10).await.unwrap();
    let bodies: Vec<_> = there.iter().map(|it| it.content.body.as_str()).collect();
    assert_eq!(bodies, ["first", "third"], "what was refused is nowhere, the rest is there");
    // And the queue that was read back still wakes its consumers.
    let waiting = Ask { wait_ms: Some(seconds(20)), ..Ask::now(10) };
    assert_eq!(store.receive(&queue, waiting.clone()).await.unwrap().len(), 2);
    let (consumer, id) = (store.clone(), queue.clone());
    let consumer = tokio::spawn(async move { consumer.receive(&id, waiting).await });
    tokio::task::yield_now().await;
    store.send(&queue, vec![NewMessage::new(Content::text("fourth"))]).await.unwrap();
    let woken = tokio::time::timeout(std::time::Duration::from_secs(10), consumer).await;
    assert_eq!(woken.expect("it is woken").unwrap().unwrap().len(), 1);
}
