//! Servers that tell each other over Kafka, and what is committed when.

use std::sync::Arc;
use std::time::Duration;

use chat_service::bus::kafka::KafkaBus;
use chat_service::bus::{Bus, Event, Signal};
use chat_service::store::memory::Memory;
use chat_service::{ConversationId, Seq};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::watch;

use crate::support::{PATIENCE, Server, cast, judge};

/// The broker is killed while people write, and comes back without anything it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_kafka_between_servers_loses_nothing() {
    let kafka = infra::kafka().await.unwrap();
    let store = Arc::new(Memory::default());
    let bus = |name: &str| Arc::new(KafkaBus::connect(kafka.brokers(), "chat", name).unwrap());
    let one = Server::start(Arc::clone(&store), bus("one")).await;
    let two = Server::start(store, bus("two")).await;
    let (_one, at_one) = watch::channel(one.base.clone());
    let (_two, at_two) = watch::channel(two.base.clone());
    let mut cast = cast(&one.api(), at_one, 60, 8).await;
    cast.parts[2].base = at_two;
    let playing: Vec<_> = cast.parts.into_iter().map(|part| tokio::spawn(part.play())).collect();
    tokio::time::sleep(Duration::from_millis(150)).await; // in the middle of it
    kafka.kill9().await.unwrap();
    kafka.restart().await.unwrap();
    let mut devices = Vec::new();
    for part in playing {
        devices
            .push(tokio::time::timeout(PATIENCE, part).await.expect("everything arrives").unwrap());
    }
    judge(&one.api(), &cast.token, cast.conversation, devices).await;
}

/// A listener that dies in the middle of an event has not committed it: whoever comes back under
/// its name hears it again, and what was published meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_committed_after_the_event_was_taken_in() {
    let kafka = infra::kafka().await.unwrap();
    let id = ConversationId::fresh();
    let moved = |seq| Event::Moved { conversation: id, last_seq: Seq(seq), members_version: 1 };
    let publisher = KafkaBus::connect(kafka.brokers(), "chat", "publisher").unwrap();
    let hearing = |heard: &Arc<Mutex<Vec<u64>>>, dies_at: u64| {
        let heard = Arc::clone(heard);
        Arc::new(move |signal| {
            if let Signal::Event(Event::Moved { last_seq, .. }) = signal {
                assert_ne!(last_seq.0, dies_at, "this listener dies here, as it should");
                heard.lock().push(last_seq.0);
            }
        })
    };
    let (before, after) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<Mutex<Vec<u64>>>::default());
    let first = KafkaBus::connect(kafka.brokers(), "chat", "one").unwrap();
    first.attach(hearing(&before, 4)).await.unwrap();
    for seq in 1..=3 {
        publisher.publish(moved(seq)).await.unwrap();
        testkit::wait_until("it is heard", PATIENCE, || {
            std::future::ready(before.lock().last() == Some(&seq))
        })
        .await;
    }
    testkit::wait_until("what was taken in is committed", PATIENCE, || {
        std::future::ready(committed(kafka.brokers(), "chat-one") == 3)
    })
    .await;
    publisher.publish(moved(4)).await.unwrap();
    publisher.publish(moved(5)).await.unwrap();
    drop(first);
    let second = KafkaBus::connect(kafka.brokers(), "chat", "one").unwrap();
    second.attach(hearing(&after, 0)).await.unwrap();
    testkit::wait_until("the rest is heard", PATIENCE, || {
        std::future::ready(after.lock().ends_with(&[4, 5]))
    })
    .await;
}

/// How many events a group has committed, over all partitions.
fn committed(brokers: &str, group: &str) -> i64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group);
    let consumer: BaseConsumer = config.create().unwrap();
    let limit = Duration::from_secs(2);
    let metadata = consumer.fetch_metadata(Some("chat"), limit).unwrap();
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        asked.add_partition("chat", partition.id());
    }
    let offsets = consumer.committed_offsets(asked, limit).unwrap();
    offsets.elements().iter().filter_map(|at| at.offset().to_raw()).filter(|at| *at > 0).sum()
}
