//! Kafka: for several servers, each reading the whole topic at a position of its own.
//!
//! The producer is idempotent and waits for all in-sync replicas (`acks=all`), so a retry is
//! neither lost nor doubled nor out of order; events are keyed by conversation, so those of one
//! conversation are in one partition and in order. A listener commits an offset only after the
//! event has been *materialised*, that is, handed to the mailboxes of its connections: who dies in
//! between hears it again. A server that comes back under its name goes on where it had committed,
//! if that is not too long ago.
//!
//! It is still a doorbell. An offline user has no consumer here, and could not have one: a
//! partition is read in order, so whoever waits for one user holds up everybody behind them.
//!
//! Trap: a broker that lost its disk starts again at offset 0, and a reader that kept its position
//! would miss everything up to there without an error. So after every lost connection the listener
//! compares its position with what the broker has, and says [`Signal::Gap`] in any case.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode::{
    InvalidProducerEpoch, MessageTimedOut, OutOfOrderSequenceNumber, ProducerFenced,
    UnknownPartition, UnknownProducerId, UnknownTopic, UnknownTopicOrPartition,
};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::{Bus, Event, Listener, Signal};
use crate::chat::Error;

/// How long a publish may take, retries included. After it the message waits for the relay.
const PUBLISH_TIME_MAX: Duration = Duration::from_millis(1_000);
/// How long one administrative question to the broker may take.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long attaching a listener may take: a topic may have to be created first.
const ATTACH_TIME_MAX: Duration = Duration::from_secs(15);
/// How often offsets are committed; what is heard again after a crash is at most this old.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How long the listener's thread waits before it looks whether it should end.
const POLL: Duration = Duration::from_millis(100);
/// Pause before listening is tried again; jittered, as every server notices at the same moment.
const PAUSE_MS: u64 = 200;
/// Events a returning server still catches up with. Beyond it the logs are the shorter way: it
/// starts at the end and says that there is a gap.
const RESUME_MAX: i64 = 10_000;

/// A bus over a Kafka cluster.
pub struct KafkaBus {
    config: ClientConfig,
    topic: String,
    server: String,
    /// With how many there were before it.
    producer: RwLock<(u64, FutureProducer)>,
    closing: Arc<AtomicBool>,
}

fn unavailable(what: &'static str) -> impl Fn(KafkaError) -> Error {
    move |error| Error::Unavailable { what, source: Some(Box::new(error)) }
}

impl KafkaBus {
    /// The bus on `topic` of the cluster at `brokers` (`host:port,host:port`). `server` names this
    /// server to the cluster: its offsets are committed under it. Connects when it is needed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when librdkafka refuses the settings.
    pub fn connect(brokers: &str, topic: &str, server: &str) -> Result<Self, Error> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("broker.address.family", "v4") // some brokers listen there only
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "500")
            .set("retry.backoff.ms", "20")
            .set("socket.timeout.ms", "3000");
        let producer = producer(&config).map_err(unavailable("make a producer"))?;
        let producer = RwLock::new((0, producer));
        let (topic, server) = (topic.to_owned(), server.to_owned());
        Ok(Self { config, topic, server, producer, closing: Arc::default() })
    }

    async fn send(&self, producer: &FutureProducer, event: &Event) -> KafkaResult<()> {
        let json = serde_json::to_string(event).expect("events have string keys");
        let key = event.key();
        let record = FutureRecord::to(&self.topic).key(&key).payload(&json);
        let sent = producer.send(record, PUBLISH_TIME_MAX).await;
        sent.map(drop).map_err(|(error, _)| error)
    }

    /// Trap: an idempotent producer numbers its messages, and a broker that lost its state does
    /// not know the numbers: the producer then retries for ever or declares itself dead. The one
    /// that replaces it starts with an identity of its own.
    fn replace_producer(&self, failed: u64) {
        let mut kept = self.producer.write();
        if kept.0 == failed
            && let Ok(fresh) = producer(&self.config)
        {
            let old = std::mem::replace(&mut *kept, (failed + 1, fresh));
            drop(tokio::task::spawn_blocking(move || drop(old))); // waits for its thread
        }
    }
}

/// Whether the producer would go on failing by what it remembers: numbers or a name that the broker
/// has lost and may have given to another, or that there is no such topic, which it believes for
/// minutes after the topic is back.
fn is_stuck(error: &KafkaError) -> bool {
    let KafkaError::MessageProduction(code) = error else { return false };
    let no_topic = matches!(code, UnknownTopic | UnknownTopicOrPartition | UnknownPartition);
    let not_known = matches!(code, ProducerFenced | InvalidProducerEpoch | UnknownProducerId);
    no_topic || not_known || matches!(code, MessageTimedOut | OutOfOrderSequenceNumber)
}

fn producer(config: &ClientConfig) -> KafkaResult<FutureProducer> {
    let mut config = config.clone();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0") // somebody waits for each event
        .set("message.timeout.ms", PUBLISH_TIME_MAX.as_millis().to_string());
    config.create()
}

impl Drop for KafkaBus {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl Bus for KafkaBus {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        self.publish_all(vec![event]).await
    }

    /// Polled one after the other, so they are in the producer's line in order; what is in the line
    /// goes out together.
    async fn publish_all(&self, events: Vec<Event>) -> Result<(), Error> {
        let (number, producer) = self.producer.read().clone();
        let sending = events.iter().map(|event| self.send(&producer, event));
        let sent = futures::future::join_all(sending).await;
        let Some(error) = sent.into_iter().find_map(Result::err) else { return Ok(()) };
        if is_stuck(&error) || producer.client().fatal_error().is_some() {
            self.replace_producer(number);
        }
        Err(unavailable("publish")(error))
    }

    async fn attach(&self, listener: Listener) -> Result<(), Error> {
        let (ready, is_ready) = oneshot::channel();
        let mut config = self.config.clone();
        config
            .set("group.id", format!("{}-{}", self.topic, self.server))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error") // we decide, and say that there is a gap
            .set("fetch.wait.max.ms", "100")
            .set("allow.auto.create.topics", "true");
        let hearing = Hearing {
            config,
            topic: self.topic.clone(),
            listener,
            positions: HashMap::new(),
            ready: Some(ready),
            closing: Arc::clone(&self.closing),
        };
        // A thread of its own: librdkafka is polled, and a listener may start tasks.
        let runtime = tokio::runtime::Handle::current();
        let spawned = std::thread::Builder::new().name("chat-kafka".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            hearing.run();
        });
        let nothing = || Error::Unavailable { what: "listen to Kafka", source: None };
        spawned.map_err(|_| nothing())?;
        match tokio::time::timeout(ATTACH_TIME_MAX, is_ready).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(nothing()),
        }
    }
}

/// One listener, through all its connections.
struct Hearing {
    config: ClientConfig,
    topic: String,
    listener: Listener,
    /// The next offset of each partition, of what was materialised.
    positions: HashMap<i32, i64>,
    ready: Option<oneshot::Sender<()>>,
    closing: Arc<AtomicBool>,
}

impl Hearing {
    fn run(mut self) {
        while !self.is_over() {
            if let Err(error) = self.hear() {
                tracing::warn!(%error, "the bus was lost; listening again");
            }
            std::thread::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS / 2..PAUSE_MS)));
        }
    }

    fn is_over(&self) -> bool {
        let nobody_waits = self.ready.as_ref().is_some_and(oneshot::Sender::is_closed);
        nobody_waits || self.closing.load(Ordering::Relaxed)
    }

    /// One consumer, from its first position to the first error.
    fn hear(&mut self) -> KafkaResult<()> {
        let consumer: BaseConsumer = self.config.create()?;
        let partitions = self.partitions(&consumer)?;
        let skipped = self.begin(&consumer, &partitions)?;
        let is_first = self.ready.is_some();
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
        // After the positions are known, or what is published in between would be in neither.
        if !is_first || skipped {
            (self.listener)(Signal::Gap);
        }
        let mut committed = Instant::now();
        let mut uncommitted = false;
        while !self.is_over() {
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    self.materialise(message.payload().unwrap_or_default());
                    self.positions.insert(message.partition(), message.offset() + 1);
                    uncommitted = true;
                }
                Some(Err(error)) => return Err(error),
            }
            if uncommitted && committed.elapsed() >= COMMIT_EVERY {
                self.commit(&consumer, CommitMode::Async);
                (committed, uncommitted) = (Instant::now(), false);
            }
        }
        self.commit(&consumer, CommitMode::Sync);
        Ok(())
    }

    fn materialise(&self, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(event) => (self.listener)(Signal::Event(event)),
            // A newer server may say what this one does not know.
            Err(error) => tracing::debug!(%error, "an event was not understood"),
        }
    }

    /// What is not committed is heard again: no reason to stop.
    fn commit(&self, consumer: &BaseConsumer, mode: CommitMode) {
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in &self.positions {
            drop(offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*next)));
        }
        if let Err(error) = consumer.commit(&offsets, mode) {
            tracing::debug!(%error, "offsets were not committed");
        }
    }

    /// The topic's partitions. Asking creates the topic where the cluster creates topics.
    fn partitions(&self, consumer: &BaseConsumer) -> KafkaResult<Vec<i32>> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), ASK_TIME_MAX)?;
        let topic = metadata.topics().first();
        let partitions: Vec<i32> =
            topic.iter().flat_map(|topic| topic.partitions()).map(|p| p.id()).collect();
        if partitions.is_empty() {
            return Err(KafkaError::MetadataFetch(UnknownTopicOrPartition));
        }
        Ok(partitions)
    }

    /// Takes up each partition: where this listener was, else where its server had committed, else
    /// at the end. True when something is skipped.
    fn begin(&mut self, consumer: &BaseConsumer, partitions: &[i32]) -> KafkaResult<bool> {
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(&self.topic, *partition);
        }
        let committed = consumer.committed_offsets(asked, ASK_TIME_MAX)?;
        let mut begin = TopicPartitionList::new();
        let mut skipped = false;
        for &partition in partitions {
            let (low, high) = consumer.fetch_watermarks(&self.topic, partition, ASK_TIME_MAX)?;
            let kept = committed.find_partition(&self.topic, partition);
            let kept = kept.and_then(|kept| match kept.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
            let known = self.positions.get(&partition).copied().or(kept);
            let still_there = known.filter(|at| (low..=high).contains(at));
            let at = still_there.filter(|at| high - at <= RESUME_MAX).unwrap_or(high);
            skipped |= known.is_some_and(|known| known != at);
            self.positions.insert(partition, at);
            begin.add_partition_offset(&self.topic, partition, Offset::Offset(at))?;
        }
        consumer.assign(&begin)?;
        Ok(skipped)
    }
}
