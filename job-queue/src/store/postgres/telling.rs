//! How servers tell one another that something became ready, and learn what time it is.
//!
//! Trap: a `NOTIFY` inside the sender's transaction makes Postgres commit such transactions one
//! after the other (a lock on the whole database, held across the commit's fsync). Senders
//! therefore only note what to tell; one task for each server tells it, after the commits, for all
//! of them at once. A server that is killed in between has told nobody: whoever waits looks once a
//! second anyway.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{PgPool, Row};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::super::remote::Here;
use crate::message::QueueId;
use crate::queue::Error;

const CHANNEL: &str = "job_queue";
/// How often our clock is compared with the database's.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// Pause after a failure, before the connection is used again.
const PAUSE: Duration = Duration::from_millis(200);

/// The tasks of one server; they end with it.
#[derive(Debug)]
pub(super) struct Telling {
    news: Arc<News>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct News {
    /// How many consumers of each queue have something to do.
    untold: Mutex<HashMap<QueueId, usize>>,
    any: Notify,
}

impl Telling {
    pub(super) async fn start(pool: &PgPool, here: &Arc<Here>) -> Result<Self, Error> {
        let news = Arc::new(News::default());
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::downgrade(here)));
        tasks.spawn(tell(pool.clone(), Arc::clone(&news)));
        tasks.spawn(compare(pool.clone(), Arc::downgrade(here)));
        Ok(Self { news, _tasks: tasks })
    }

    /// Other servers are told soon.
    pub(super) fn tell(&self, queue: &QueueId, count: usize) {
        let mut untold = self.news.untold.lock();
        let told = untold.entry(queue.clone()).or_default();
        *told = told.saturating_add(count);
        drop(untold);
        self.news.any.notify_one();
    }
}

async fn tell(pool: PgPool, news: Arc<News>) {
    loop {
        news.any.notified().await;
        let untold = std::mem::take(&mut *news.untold.lock());
        let line = |(queue, count): (QueueId, usize)| {
            format!("{}\n{}\n{}", count.min(i32::MAX as usize), queue.region, queue.name)
        };
        let lines: Vec<_> = untold.into_iter().map(line).collect();
        // Nothing to be kept, so nothing to wait for the disk for.
        let told = async {
            let mut tx = pool.begin().await?;
            sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *tx).await?;
            let notify = sqlx::query("SELECT pg_notify($1, it) FROM unnest($2::text[]) AS it");
            notify.bind(CHANNEL).bind(&lines).execute(&mut *tx).await?;
            tx.commit().await
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "other servers could not be told; they look once a second");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn listen(mut listener: PgListener, here: Weak<Here>) {
    loop {
        let heard = listener.try_recv().await;
        let Some(here) = here.upgrade() else { return };
        match heard {
            Ok(Some(notification)) => {
                if let Some((queue, count)) = read(&notification) {
                    here.told(&queue, count);
                }
            }
            // The connection was lost, and with it what was said in the meantime.
            Ok(None) => here.wake_all(),
            Err(error) => {
                tracing::warn!(%error, "listening to Postgres failed; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn read(notification: &PgNotification) -> Option<(QueueId, usize)> {
    let mut parts = notification.payload().splitn(3, '\n');
    let count = parts.next()?.parse().ok()?;
    Some((QueueId::new(parts.next()?, parts.next()?), count))
}

async fn compare(pool: PgPool, here: Weak<Here>) {
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let Some(here) = here.upgrade() else { return };
        if let Err(error) = learn_time(&pool, &here).await {
            tracing::warn!(%error, "the database did not say what time it is");
        }
    }
}

/// Asks what time it is in the database.
pub(super) async fn learn_time(pool: &PgPool, here: &Here) -> Result<(), Error> {
    let mut connection = pool.acquire().await?;
    let asked_ms = here.time.here_ms();
    let query = sqlx::query("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint");
    let there_ms: i64 = query.fetch_one(&mut *connection).await?.try_get(0)?;
    here.time.learn(asked_ms, there_ms as u64, here.time.here_ms());
    Ok(())
}
