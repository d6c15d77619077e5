//! Servers that tell each other over Kafka, and what is committed when.

use std::sync::Arc;
use std::time::Duration;

use chat_service::bus::kafka::KafkaBus;
use chat_service::bus::{Bus, Event, Signal};
use chat_service::store::memory::Memory;
use chat_service::{ConversationId, Seq};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::watch;

use crate::support::{PATIENCE, Server, cast};

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
    let api = one.api();
    let in_the_middle = cast.written(&api, cast.total() / 3);
    let killing = async {
        in_the_middle.await;
        kafka.kill9().await.unwrap();
        kafka.restart().await.unwrap();
    };
    cast.play_through(&api, killing).await;
}

fn moved(id: ConversationId, seq: u64) -> Event {
    Event::Moved { conversation: id, last_seq: Seq(seq), members_version: 1 }
}

/// Errors that are over soon are the producer's business: an event that a broker refuses at first is
/// heard once, in its place. One event at a time, for the reason that the mock's fixture of the
/// conformance suite gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_at_first_is_heard_once_and_in_order() {
    let cluster = MockCluster::new(1).unwrap();
    let bus = KafkaBus::connect(&cluster.bootstrap_servers(), "chat", "one").unwrap();
    let (id, heard) = (ConversationId::fresh(), Arc::<Mutex<Vec<u64>>>::default());
    let hearing = Arc::clone(&heard);
    let listener = move |signal| {
        if let Signal::Event(Event::Moved { last_seq, .. }) = signal {
            hearing.lock().push(last_seq.0);
        }
    };
    bus.attach(Arc::new(listener)).await.unwrap();
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    ];
    for seq in 1..=30 {
        if seq % 10 == 0 {
            cluster.request_errors(RDKafkaApiKey::Produce, &errors);
        }
        bus.publish(moved(id, seq)).await.unwrap();
    }
    let is_last = || std::future::ready(heard.lock().last() == Some(&30));
    testkit::wait_until("the last one is heard", PATIENCE, is_last).await;
    assert_eq!(*heard.lock(), (1..=30).collect::<Vec<_>>());
}

/// A listener that dies in the middle of an event has not committed it: whoever comes back under
/// its name hears it again, and what was published meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_committed_after_the_event_was_taken_in() {
    let kafka = infra::kafka().await.unwrap();
    let id = ConversationId::fresh();
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
        publisher.publish(moved(id, seq)).await.unwrap();
        testkit::wait_until("it is heard", PATIENCE, || {
            std::future::ready(before.lock().last() == Some(&seq))
        })
        .await;
    }
    testkit::wait_until("what was taken in is committed", PATIENCE, || {
        std::future::ready(committed(kafka.brokers(), "chat-one") == 3)
    })
    .await;
    publisher.publish(moved(id, 4)).await.unwrap();
    publisher.publish(moved(id, 5)).await.unwrap();
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
