//! Redis pub/sub: for several servers, each with a connection that listens and one that publishes.
//!
//! Pub/sub forgets what nobody is listening to, which is why nothing but the doorbell is in it: a
//! listener that was cut off says [`Signal::Gap`] when it is back, and the logs make good for it.
//!
//! Trap: a half-open connection is silent for ever, and so is a quiet channel. Every server
//! therefore publishes a beat; a listener that has heard nothing for `SILENCE_MAX` reconnects.
//!
//! Trade-off: one channel, so every server hears everything. It decodes what concerns none of its
//! users in vain; with many servers one would shard the channel by conversation (`SPUBLISH`).

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError};
use tokio::sync::oneshot;

use super::{Bus, Event, Listener, Signal};
use crate::chat::Error;

/// How long a publish may take. After it the message waits for the relay instead.
const PUBLISH_TIME_MAX: Duration = Duration::from_millis(500);
/// How often every server says something.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// How long a listener may hear nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Pause before listening is tried again; jittered, as every server notices at the same moment.
const PAUSE_MS: u64 = 100;

const BEAT: &str = "beat";

/// A bus over one Redis server.
pub struct RedisBus {
    client: Client,
    connection: ConnectionManager,
    channel: String,
}

fn unavailable(what: &'static str) -> impl Fn(RedisError) -> Error {
    move |error| Error::Unavailable { what, source: Some(Box::new(error)) }
}

impl RedisBus {
    /// The bus at `url`, on the channel `chat`. Connects when it is needed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a URL that is none.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::on_channel(url, "chat").await
    }

    /// The same on another channel: for several buses on one server.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn on_channel(url: &str, channel: &str) -> Result<Self, Error> {
        let client = Client::open(url).map_err(unavailable("read the Redis URL"))?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(PUBLISH_TIME_MAX))
            .set_connection_timeout(Some(PUBLISH_TIME_MAX))
            .set_min_delay(Duration::from_millis(10))
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)
            .map_err(unavailable("connect to Redis"))?;
        let channel = channel.to_owned();
        let (beating, name) = (connection.clone(), channel.clone());
        tokio::spawn(beat(beating, name));
        Ok(Self { client, connection, channel })
    }
}

async fn in_time(publishing: impl Future<Output = Result<(), RedisError>>) -> Result<(), Error> {
    match tokio::time::timeout(PUBLISH_TIME_MAX, publishing).await {
        Ok(published) => published.map_err(unavailable("publish")),
        Err(_) => Err(Error::Unavailable { what: "publish in time", source: None }),
    }
}

async fn beat(mut connection: ConnectionManager, channel: String) {
    loop {
        tokio::time::sleep(BEAT_EVERY).await;
        let mut publish = redis::cmd("PUBLISH");
        // Where it fails, listeners hear nothing, which is what they are to notice.
        drop(publish.arg(&channel).arg(BEAT).query_async::<()>(&mut connection).await);
    }
}

impl Bus for RedisBus {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        let json = serde_json::to_string(&event).expect("events have string keys");
        let mut publish = redis::cmd("PUBLISH");
        let mut connection = self.connection.clone();
        in_time(publish.arg(&self.channel).arg(json).query_async::<()>(&mut connection)).await
    }

    async fn publish_all(&self, events: Vec<Event>) -> Result<(), Error> {
        let mut publish = redis::pipe();
        for event in &events {
            let json = serde_json::to_string(event).expect("events have string keys");
            publish.cmd("PUBLISH").arg(&self.channel).arg(json).ignore();
        }
        let mut connection = self.connection.clone();
        in_time(publish.query_async::<()>(&mut connection)).await
    }

    async fn attach(&self, listener: Listener) -> Result<(), Error> {
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(listen(self.client.clone(), self.channel.clone(), listener, ready));
        let wait = tokio::time::timeout(SILENCE_MAX, is_ready).await;
        match wait {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::Unavailable { what: "listen to Redis", source: None }),
        }
    }
}

/// Listens for as long as the process runs.
async fn listen(client: Client, channel: String, listener: Listener, ready: oneshot::Sender<()>) {
    let mut ready = Some(ready);
    loop {
        if let Err(error) = hear(&client, &channel, &listener, &mut ready).await {
            tracing::warn!(%error, "the bus was lost; listening again");
        }
        if ready.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return; // attaching has failed; nobody waits for this listener
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS / 2..PAUSE_MS))).await;
    }
}

/// One subscription, from its beginning to its end.
async fn hear(
    client: &Client,
    channel: &str,
    listener: &Listener,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Result<(), RedisError> {
    let subscribing = async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok::<_, RedisError>(subscription)
    };
    let Ok(subscription) = tokio::time::timeout(SILENCE_MAX, subscribing).await else {
        return Ok(());
    };
    let mut messages = subscription?.into_on_message();
    match ready.take() {
        Some(ready) => drop(ready.send(())),
        // After the subscription, or what is published in between would be in neither.
        None => listener(Signal::Gap),
    }
    while let Ok(Some(message)) = tokio::time::timeout(SILENCE_MAX, messages.next()).await {
        let payload: &[u8] = message.get_payload_bytes();
        if payload == BEAT.as_bytes() {
            continue;
        }
        match serde_json::from_slice(payload) {
            Ok(event) => listener(Signal::Event(event)),
            // A newer server may say what this one does not know.
            Err(error) => tracing::debug!(%error, "an event was not understood"),
        }
    }
    Ok(())
}
