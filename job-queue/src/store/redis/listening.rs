//! Hears what the scripts publish, and learns what time it is in Redis.
//!
//! Publishing forgets what nobody listens to. A listener that was cut off therefore wakes everybody
//! when it is back, and whoever waits looks once a second anyway.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, PubSub};
use ::redis::{Client, Msg, RedisError};
use futures::StreamExt;
use tokio::task::JoinSet;

use super::super::remote::Here;
use super::{TAG, values};
use crate::message::QueueId;

/// How often our clock is compared with that of Redis.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// Pause before listening is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// The tasks of one server; they end with it.
#[derive(Debug)]
pub(super) struct Listening {
    _tasks: JoinSet<()>,
}

impl Listening {
    pub(super) async fn start(
        client: Client,
        connection: ConnectionManager,
        here: &Arc<Here>,
    ) -> Result<Self, RedisError> {
        let first = subscribe(&client).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(client, first, Arc::downgrade(here)));
        tasks.spawn(compare(connection, Arc::downgrade(here)));
        Ok(Self { _tasks: tasks })
    }
}

async fn subscribe(client: &Client) -> Result<PubSub, RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(format!("{TAG}:news")).await?;
    Ok(subscription)
}

async fn listen(client: Client, first: PubSub, here: Weak<Here>) {
    let mut subscription = first;
    loop {
        let mut messages = subscription.into_on_message();
        while let Some(message) = messages.next().await {
            let Some(here) = here.upgrade() else { return };
            if let Some((queue, count)) = read(&message) {
                here.told(&queue, count);
            }
        }
        subscription = loop {
            tokio::time::sleep(PAUSE).await;
            match subscribe(&client).await {
                Ok(subscription) => break subscription,
                Err(error) => tracing::warn!(%error, "listening to Redis failed; trying again"),
            }
        };
        let Some(here) = here.upgrade() else { return };
        here.wake_all();
    }
}

fn read(message: &Msg) -> Option<(QueueId, usize)> {
    let text: String = message.get_payload().ok()?;
    let (count, queue) = text.split_once('\n')?;
    Some((values::queue_of(queue)?, count.parse().ok()?))
}

async fn compare(mut connection: ConnectionManager, here: Weak<Here>) {
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let Some(here) = here.upgrade() else { return };
        if let Err(error) = learn_time(&mut connection, &here).await {
            tracing::warn!(%error, "Redis did not say what time it is");
        }
    }
}

/// Asks what time it is in Redis.
pub(super) async fn learn_time(
    connection: &mut ConnectionManager,
    here: &Here,
) -> Result<(), RedisError> {
    let asked_ms = here.time.here_ms();
    let (seconds, micros): (u64, u64) = ::redis::cmd("TIME").query_async(connection).await?;
    here.time.learn(asked_ms, seconds * 1_000 + micros / 1_000, here.time.here_ms());
    Ok(())
}
