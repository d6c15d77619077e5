//! The Kafka bus on a broker process that is killed, and on librdkafka's mock cluster whose
//! brokers go down and answer with errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use chat_service::bus::kafka::KafkaBus;
use chat_service::conformance::BusFixture;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

static TOPICS: AtomicUsize = AtomicUsize::new(0);

/// A cluster may be given and shared: every fixture has a topic of its own.
fn servers(brokers: &str, count: usize) -> Vec<Arc<KafkaBus>> {
    let number = TOPICS.fetch_add(1, Ordering::Relaxed);
    let topic = format!("chat-{}-{number}", std::process::id());
    let server = |index: usize| {
        let name = format!("server-{index}");
        Arc::new(KafkaBus::connect(brokers, &topic, &name).expect("settings librdkafka knows"))
    };
    (0..count).map(server).collect()
}

/// A broker process of its own.
pub(crate) struct BrokerFixture {
    kafka: infra::Kafka,
}

impl BrokerFixture {
    pub(crate) async fn new() -> Self {
        Self { kafka: infra::kafka().await.expect("a Kafka broker to test against") }
    }
}

impl BusFixture for BrokerFixture {
    type Bus = KafkaBus;

    async fn servers(&self, count: usize) -> Vec<Arc<KafkaBus>> {
        servers(self.kafka.brokers(), count)
    }

    /// It comes back empty: the worst case.
    async fn disturb(&self) {
        self.kafka.kill9().await.expect("it is ours");
        self.kafka.restart().await.expect("it starts again");
    }
}

/// What the mock is told; it stays on the thread that made it.
enum Tell {
    Down,
    Up,
    Errors,
}

/// Trap: the mock looks at the numbers of an idempotent producer within a transaction only. Behind a
/// request that it was told to refuse it takes the next one that is on its way already, where a
/// broker answers "out of order". librdkafka believes that who has the second has the first, reports
/// both as written, and the first is lost. So errors are for promises that publish one event after
/// the other; `tests/it/kafka.rs` has more of them.
pub(crate) struct MockFixture {
    brokers: String,
    tell: mpsc::Sender<(Tell, mpsc::Sender<()>)>,
}

impl MockFixture {
    pub(crate) fn new() -> Self {
        let (tell, told) = mpsc::channel::<(Tell, mpsc::Sender<()>)>();
        let (started, brokers) = mpsc::channel();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a mock cluster");
            started.send(cluster.bootstrap_servers()).expect("the fixture waits");
            for (tell, done) in told {
                match tell {
                    Tell::Down => cluster.broker_down(1).expect("there is a first broker"),
                    Tell::Up => cluster.broker_up(1).expect("there is a first broker"),
                    // Retried by an idempotent producer, in order; the events are in the log once.
                    Tell::Errors => cluster.request_errors(
                        RDKafkaApiKey::Produce,
                        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3],
                    ),
                }
                done.send(()).expect("the fixture waits");
            }
        });
        Self { brokers: brokers.recv().expect("the mock starts"), tell }
    }

    /// Returns when it is so.
    fn tell(&self, what: Tell) {
        let (done, is_done) = mpsc::channel();
        self.tell.send((what, done)).expect("the mock runs");
        is_done.recv().expect("the mock does as it is told");
    }
}

impl BusFixture for MockFixture {
    type Bus = KafkaBus;

    async fn servers(&self, count: usize) -> Vec<Arc<KafkaBus>> {
        servers(&self.brokers, count)
    }

    async fn disturb(&self) {
        self.tell(Tell::Down);
        tokio::time::sleep(Duration::from_millis(200)).await; // an outage has a length
        self.tell(Tell::Errors);
        self.tell(Tell::Up);
    }
}
