//! Redis: for several servers, at the speed of memory.
//!
//! The core of [`crate::state`] once more, as Lua over Redis's own structures (`redis/lua`). Redis
//! runs a script without anything in between, so every operation is one atomic step, whichever
//! server asks. What became ready is published by the script itself.
//!
//! As durable as Redis is told to be: with `appendonly yes, appendfsync always` what was
//! acknowledged survives a crash of Redis; with the shipped settings the last second may be lost,
//! and with none of it everything. A failover to a replica can lose what was acknowledged.
//!
//! Trade-off: one Redis, because a dead letter moves between two queues in one step. All keys share
//! a hash tag, so a cluster works and does not help.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, FromRedisValue, RedisError, Script, ScriptInvocation};

use super::remote::Here;
use crate::clock::Clock;
use crate::limits;
use crate::message::{Delivery, NewMessage, Peeked, Position, QueueId, Receipt, Sent};
use crate::meter::Reading;
use crate::queue::{Ask, Counts, Created, Error, Queues, Transferred};
use crate::settings::Settings;

mod listening;
mod values;

use listening::Listening;
use values::{Found, SeenMessage, entry, key, settings_arguments, settings_from};

/// Longest wait for an answer. A script may meet a thousand messages that are due; longer than
/// this, Redis is stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// What every key begins with.
const TAG: &str = "{jobs}";

/// Queues in a Redis; clones share the connection.
#[derive(Clone, Debug)]
pub struct Redis {
    connection: ConnectionManager,
    here: Arc<Here>,
    scripts: Arc<Scripts>,
    _listening: Arc<Listening>,
}

/// Every operation, with the core before it.
#[derive(Debug)]
struct Scripts {
    send: Script,
    receive: Script,
    acknowledge: Script,
    transfer: Script,
    counts: Script,
    peek: Script,
    next_due: Script,
    manage: Script,
    sweep: Script,
    list: Script,
}

/// The core and an operation, as one script.
macro_rules! script {
    ($operation:literal) => {
        Script::new(concat!(include_str!("redis/lua/core.lua"), include_str!($operation)))
    };
}

impl Scripts {
    fn new() -> Self {
        Self {
            send: script!("redis/lua/send.lua"),
            receive: script!("redis/lua/receive.lua"),
            acknowledge: script!("redis/lua/acknowledge.lua"),
            transfer: script!("redis/lua/transfer.lua"),
            counts: script!("redis/lua/counts.lua"),
            peek: script!("redis/lua/peek.lua"),
            next_due: script!("redis/lua/next_due.lua"),
            manage: script!("redis/lua/manage.lua"),
            sweep: script!("redis/lua/sweep.lua"),
            list: script!("redis/lua/list.lua"),
        }
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("JQ404") => Self::NoSuchQueue,
            Some("JQ403") => Self::PurgedRecently,
            Some("JQ429") => Self::TooManyInFlight,
            Some("JQ507") => Self::Full { what: "the store (queues)", limit: limits::QUEUES_MAX },
            _ => {
                Self::Unavailable { what: format!("Redis: {error}"), source: Some(Arc::new(error)) }
            }
        }
    }
}

impl Redis {
    /// Connects; the connection repairs itself from then on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a URL that is none, or when Redis does not answer.
    pub async fn connect(url: &str, clock: Clock) -> Result<Self, Error> {
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(ANSWER_TIME_MAX))
            .set_connection_timeout(Some(ANSWER_TIME_MAX))
            .set_min_delay(Duration::from_millis(10))
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_with_config(client.clone(), config).await?;
        let here = Arc::new(Here::new(clock));
        listening::learn_time(&mut connection.clone(), &here).await?;
        let listening = Listening::start(client, connection.clone(), &here).await?;
        let scripts = Arc::new(Scripts::new());
        let store = Self { connection, here, scripts, _listening: Arc::new(listening) };
        // What a server that was killed had thrown away and not deleted.
        store.sweep().await?;
        Ok(store)
    }

    /// Rates and latencies of every queue, as far as they passed through this server.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn readings(&self) -> Result<Vec<(QueueId, Counts, Reading)>, Error> {
        let mut connection = self.connection.clone();
        let mut names = ::redis::cmd("HKEYS");
        let names: Vec<String> =
            names.arg(format!("{TAG}:names")).query_async(&mut connection).await?;
        let mut queues: Vec<_> = names.iter().filter_map(|it| values::queue_of(it)).collect();
        queues.sort_unstable();
        let mut counts = Vec::with_capacity(queues.len());
        for queue in queues {
            match self.counts(&queue).await {
                Ok(found) => counts.push((queue, found)),
                Err(Error::NoSuchQueue) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.here.read(counts))
    }

    /// Calls a script, which is loaded when Redis does not have it (NOSCRIPT: nothing ran).
    async fn call<T: FromRedisValue>(&self, call: ScriptInvocation<'_>) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        match tokio::time::timeout(ANSWER_TIME_MAX, call.invoke_async(&mut connection)).await {
            Ok(answer) => Ok(answer?),
            // Trap: while the client reconnects nothing is sent, and its own timeout has not begun.
            Err(_) => {
                let what = format!("Redis: no answer within {ANSWER_TIME_MAX:?}");
                Err(Error::Unavailable { what, source: None })
            }
        }
    }

    /// A call on a queue, now.
    fn on<'a>(&self, script: &'a Script, queue: &QueueId) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(TAG).arg(self.here.time.now_ms()).arg(key(queue));
        call
    }

    /// Deletes what was thrown away, in steps that stop nobody for long.
    async fn sweep(&self) -> Result<(), Error> {
        loop {
            let mut call = self.scripts.sweep.prepare_invoke();
            call.key(TAG).arg(self.here.time.now_ms());
            if self.call::<u32>(call).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn look(&self, queue: &QueueId, ask: &Ask) -> Result<Vec<Delivery>, Error> {
        let now_ms = self.here.time.now_ms();
        let mut call = self.on(&self.scripts.receive, queue);
        call.arg(ask.max)
            .arg(ask.visibility_ms.map_or_else(String::new, |ms| ms.to_string()))
            .arg(ask.attempt.as_deref().unwrap_or_default())
            .arg(limits::IN_FLIGHT_MAX)
            .arg(limits::DEAD_PER_RECEIVE)
            .arg(limits::DEDUP_WINDOW_MS)
            .arg(limits::ATTEMPTS_MAX);
        let found: Vec<Found> = self.call(call).await?;
        let deliveries =
            found.into_iter().map(values::delivery).collect::<Result<Vec<_>, Error>>()?;
        let line = self.here.line(queue);
        if !deliveries.is_empty() {
            line.meter.lock().received(&deliveries, now_ms);
            line.due_at(ask.visibility_ms.map_or(0, |ms| now_ms + ms));
        }
        Ok(deliveries)
    }

    async fn next_due(&self, queue: &QueueId) -> Result<Option<u64>, Error> {
        let due: i64 = self.call(self.on(&self.scripts.next_due, queue)).await?;
        Ok(u64::try_from(due).ok())
    }

    async fn acknowledge(
        &self,
        queue: &QueueId,
        what: &str,
        receipts: &[(Receipt, u64)],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let mut call = self.on(&self.scripts.acknowledge, queue);
        call.arg(what).arg(limits::VISIBILITY_MAX_MS);
        for (receipt, ms) in receipts {
            call.arg(receipt.queue_number)
                .arg(format!("{:016}", receipt.seq.0))
                .arg(receipt.epoch.0)
                .arg(ms);
        }
        let answers: Vec<(i64, i64)> = self.call(call).await?;
        let line = self.here.line(queue);
        let (now_ms, mut meter) = (self.here.time.now_ms(), line.meter.lock());
        for worked_ms in answers.iter().filter_map(|&(_, ms)| u64::try_from(ms).ok()) {
            meter.deleted(worked_ms, now_ms);
        }
        Ok(answers.into_iter().map(|(outcome, _)| values::outcome(outcome)).collect())
    }

    async fn check_redrive(&self, queue: &QueueId, settings: &Settings) -> Result<(), Error> {
        let target = match &settings.redrive {
            Some(redrive) if redrive.target != *queue => {
                match self.settings(&redrive.target).await {
                    Err(Error::NoSuchQueue) => None,
                    found => Some(found?),
                }
            }
            _ => None,
        };
        settings.check_redrive(queue, target.as_ref())
    }

    async fn settings_text(&self, queue: &QueueId) -> Result<String, Error> {
        let mut call = self.on(&self.scripts.manage, queue);
        call.arg("settings");
        self.call(call).await
    }
}

impl Queues for Redis {
    async fn create(&self, queue: &QueueId, mut settings: Settings) -> Result<Created, Error> {
        match self.settings(queue).await {
            Err(Error::NoSuchQueue) => {}
            there => return Ok(Created::Existing(Box::new(there?))),
        }
        self.check_redrive(queue, &settings).await?;
        let now_ms = self.here.time.now_ms();
        (settings.created_at_ms, settings.modified_at_ms) = (now_ms, now_ms);
        let mut call = self.on(&self.scripts.manage, queue);
        call.arg("create").arg(limits::QUEUES_MAX);
        settings_arguments(&mut call, &settings);
        let there: String = self.call(call).await?;
        if there.is_empty() {
            return Ok(Created::New);
        }
        // Somebody else was faster.
        Ok(Created::Existing(Box::new(settings_from(&there)?)))
    }

    async fn remove(&self, queue: &QueueId) -> Result<(), Error> {
        let mut call = self.on(&self.scripts.manage, queue);
        call.arg("remove");
        self.call::<u32>(call).await?;
        self.here.forget(queue);
        self.sweep().await
    }

    async fn list(
        &self,
        region: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(QueueId, Settings)>, Error> {
        let mut call = self.scripts.list.prepare_invoke();
        call.key(TAG).arg(self.here.time.now_ms()).arg(region);
        call.arg(after.unwrap_or_default()).arg(limit);
        let listed: Vec<(String, String)> = self.call(call).await?;
        let read = |(name, text): (String, String)| {
            Ok((QueueId::new(region, &name), settings_from(&text)?))
        };
        listed.into_iter().map(read).collect()
    }

    async fn settings(&self, queue: &QueueId) -> Result<Settings, Error> {
        settings_from(&self.settings_text(queue).await?)
    }

    async fn configure(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let before = self.settings_text(queue).await?;
        let mut settings = settings_from(&before)?;
        change(&mut settings)?;
        self.check_redrive(queue, &settings).await?;
        settings.modified_at_ms = self.here.time.now_ms();
        let mut call = self.on(&self.scripts.manage, queue);
        call.arg("configure").arg(&before);
        settings_arguments(&mut call, &settings);
        if self.call::<u32>(call).await? == 1 {
            return Ok(());
        }
        let what = "Redis: another server changed the settings at the same time".to_owned();
        Err(Error::Unavailable { what, source: None })
    }

    async fn counts(&self, queue: &QueueId) -> Result<Counts, Error> {
        let call = self.on(&self.scripts.counts, queue);
        let (ready, in_flight, delayed, oldest): (i64, i64, i64, i64) = self.call(call).await?;
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        Ok(Counts {
            ready: count(ready),
            in_flight: count(in_flight),
            delayed: count(delayed),
            oldest_sent_at_ms: u64::try_from(oldest).ok(),
        })
    }

    async fn send(
        &self,
        queue: &QueueId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let mut call = self.on(&self.scripts.send, queue);
        call.arg(limits::DEDUP_WINDOW_MS)
            .arg(limits::QUEUE_MESSAGES_MAX)
            .arg(limits::QUEUE_BYTES_MAX)
            .arg(limits::DEDUP_IDS_MAX);
        messages.iter().for_each(|message| entry(&mut call, message));
        let answers: Vec<Vec<::redis::Value>> = self.call(call).await?;
        let line = self.here.line(queue);
        line.meter.lock().sent(answers.len());
        // Delays may have begun, which only the script knows.
        line.due_at(0);
        answers.into_iter().map(values::sent).collect()
    }

    async fn receive(&self, queue: &QueueId, ask: Ask) -> Result<Vec<Delivery>, Error> {
        let wait_ms = match ask.wait_ms {
            Some(wait_ms) => wait_ms,
            None => self.settings(queue).await?.wait_ms,
        };
        let line = self.here.line(queue);
        let (look, next_due) = (|| self.look(queue, &ask), || self.next_due(queue));
        line.receive(&self.here.time, wait_ms, look, next_due).await
    }

    async fn delete(
        &self,
        queue: &QueueId,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let receipts: Vec<_> = receipts.into_iter().map(|receipt| (receipt, 0)).collect();
        self.acknowledge(queue, "delete", &receipts).await
    }

    async fn change_visibility(
        &self,
        queue: &QueueId,
        changes: Vec<(Receipt, u64)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let soonest_ms = changes.iter().map(|&(_, ms)| ms).min().unwrap_or(u64::MAX / 2);
        let changed = self.acknowledge(queue, "hide", &changes).await?;
        self.here.line(queue).due_at(self.here.time.now_ms() + soonest_ms);
        Ok(changed)
    }

    async fn purge(&self, queue: &QueueId) -> Result<(), Error> {
        let mut call = self.on(&self.scripts.manage, queue);
        call.arg("purge").arg(limits::PURGE_INTERVAL_MS);
        self.call::<u32>(call).await?;
        self.sweep().await
    }

    async fn peek(
        &self,
        queue: &QueueId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        let mut call = self.on(&self.scripts.peek, queue);
        call.arg(after.sent_at_ms).arg(format!("{:016}", after.seq.0)).arg(limit);
        let seen: Vec<SeenMessage> = self.call(call).await?;
        seen.into_iter().map(values::peeked).collect()
    }

    async fn transfer(
        &self,
        from: &QueueId,
        to: Option<&QueueId>,
        limit: usize,
    ) -> Result<Transferred, Error> {
        let mut call = self.on(&self.scripts.transfer, from);
        call.arg(to.map(key).unwrap_or_default())
            .arg(limit.min(limits::TRANSFER_MAX))
            .arg(limits::QUEUE_MESSAGES_MAX);
        let (moved, failed): (usize, usize) = self.call(call).await?;
        Ok(Transferred { moved, failed })
    }
}
