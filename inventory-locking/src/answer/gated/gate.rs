//! The gate itself: for a few SKUs, an upper bound of what SQL has available.
//!
//! The one rule is that the bound may be too high and never too low. Too high costs a question to
//! SQL, which refuses; too low turns away a buyer who could be served. So a grant is counted
//! *after* SQL has committed it ([`Gate::granted`]), and stock that comes back is announced
//! *before* ([`Gate::raise`]); whoever dies in between leaves the bound too high. A bound is
//! learnt by looking at SQL ([`Gate::look`], [`Gate::learn`]) and dropped if a return overlaps the
//! look. It holds for [`FRESH_MS`] at most, and not beyond the next deadline of a hold.
//!
//! A Redis that does not answer is an open gate.
//!
//! Trade-off: what nobody announces is found late. Stock added past the gate (by hand, by a server
//! that does not know it, or lost in a failover to a replica that lags) is refused for at most
//! [`FRESH_MS`]. Nothing is ever oversold, whatever the gate believes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, Script, ScriptInvocation};
use service::Clock;

use crate::inventory::Error;
use crate::order::{Key, Order, ReservationId, Sku};

/// How long a bound holds that nobody has confirmed. Longer, and stock that was added past the
/// gate is refused for longer; shorter, and SQL is looked at more often, once for each SKU.
pub const FRESH_MS: u64 = 1_000;

/// For how long repeats of a request are recognised without asking SQL. Until the gate has
/// existed for as long, or a key is found in it, each refusal of a request with a key costs SQL
/// the look-up of that key. Beyond it a repeat may be told "sold out" about stock that it holds.
pub const KEY_MEMORY_MS: u64 = 15 * 60 * 1_000;

/// The longest a return may take. One that takes longer may overlap a look that counts without it.
pub const RAISE_MS_MAX: u64 = 60_000;

/// The longest a look may take; a slower one is not learnt.
pub const LOOK_MS_MAX: u64 = 5_000;

/// How long to wait for Redis. It answers in a fraction of this, or the gate stands open.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the gate stands open after Redis did not answer, so that an outage does not cost
/// every buyer [`PATIENCE`].
const OPEN_MS: u64 = 1_000;

/// How a gate is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Before every key. The braces put all keys into one slot, for carts span SKUs: the gate is
    /// one Redis node, also on a cluster.
    pub prefix: String,
    /// See [`KEY_MEMORY_MS`].
    pub key_memory_ms: u64,
    /// Redis's own time, or what the suite says it is.
    pub clock: Option<Clock>,
    /// What runs inside Redis. The suite edits it, to see that it notices.
    pub scripts: Scripts,
}

impl Default for Settings {
    fn default() -> Self {
        let prefix = "{inventory}".to_owned();
        let scripts = Scripts::default();
        Self { prefix, key_memory_ms: KEY_MEMORY_MS, clock: None, scripts }
    }
}

/// The scripts, each one step that nothing can interleave.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is described in its first line")]
pub struct Scripts {
    pub ask: String,
    pub granted: String,
    pub raise: String,
    pub look: String,
    pub learn: String,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            ask: include_str!("lua/ask.lua").to_owned(),
            granted: include_str!("lua/granted.lua").to_owned(),
            raise: include_str!("lua/raise.lua").to_owned(),
            look: include_str!("lua/look.lua").to_owned(),
            learn: include_str!("lua/learn.lua").to_owned(),
        }
    }
}

/// What the gate says about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SQL may grant it: ask, and say so with this if it does.
    Pass(Ticket),
    /// SQL would refuse it.
    Short {
        /// The first line that is short.
        line: usize,
        /// What there is.
        left: u64,
        /// Whether the request may be a repeat, which is answered whatever is left.
        perhaps_a_repeat: bool,
    },
}

/// When an order was let through, and what was known then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    asked_at_ms: Option<u64>,
    looks: Vec<String>,
}

/// A look at SQL that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    began_ms: u64,
    epoch: String,
}

/// Stock that is about to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    name: String,
    skus: Vec<Sku>,
}

/// The gate; clones share it.
#[derive(Clone)]
pub struct Gate {
    connection: ConnectionManager,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    ask: Script,
    granted: Script,
    raise: Script,
    look: Script,
    learn: Script,
    since: Instant,
    /// In milliseconds since `since`: until then nobody asks.
    open_until_ms: AtomicU64,
}

impl Gate {
    /// A gate in the Redis at `url`. One that is down is not an error: the gate stands open until
    /// it is back.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed URL.
    pub fn connect(url: &str, settings: Settings) -> Result<Self, Error> {
        let wrong = |error: redis::RedisError| Error::invalid("gate", error.to_string());
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(PATIENCE))
            .set_connection_timeout(Some(PATIENCE))
            .set_min_delay(Duration::from_millis(10))
            .set_max_delay(Duration::from_millis(500));
        let client = Client::open(url).map_err(wrong)?;
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(wrong)?;
        let script = |text: &str| Script::new(&format!("{}{text}", include_str!("lua/clock.lua")));
        let shared = Shared {
            ask: script(&settings.scripts.ask),
            granted: script(&settings.scripts.granted),
            raise: script(&settings.scripts.raise),
            look: script(&settings.scripts.look),
            learn: script(&settings.scripts.learn),
            settings,
            since: Instant::now(),
            open_until_ms: AtomicU64::new(0),
        };
        Ok(Self { connection, shared: Arc::new(shared) })
    }

    /// Whether `order` is certain to be refused. An order that passes has its key remembered.
    pub async fn ask(&self, order: &Order) -> Asked {
        if self.elapsed_ms() < self.shared.open_until_ms.load(Ordering::Relaxed) {
            return Asked::Pass(Ticket::default());
        }
        let mut call = self.call(&self.shared.ask);
        call.key(self.name("memory", "")).key(self.key_mark(order.key.as_ref()));
        call.arg(self.shared.settings.key_memory_ms).arg(u8::from(order.key.is_some()));
        for line in order.lines.iter() {
            call.key(self.name("left", line.sku.as_str())).arg(line.quantity);
        }
        let answer: Option<Vec<String>> = self.sent(&call).await;
        answer.as_deref().and_then(read_answer).unwrap_or(Asked::Pass(Ticket::default()))
    }

    /// The key of `order` has made something: its repeats must reach SQL.
    pub async fn remember(&self, order: &Order) {
        let mut connection = self.connection.clone();
        let memory_ms = self.shared.settings.key_memory_ms.max(1);
        let mut mark = redis::cmd("SET");
        mark.arg(self.key_mark(order.key.as_ref())).arg(1).arg("PX").arg(memory_ms);
        // If it is not heard, the next repeat is looked up as this one was.
        drop(tokio::time::timeout(PATIENCE, mark.query_async::<()>(&mut connection)).await);
    }

    /// SQL has granted what `ticket` let through.
    pub async fn granted(&self, ticket: &Ticket, order: &Order) {
        // Nothing was known, so nothing has changed.
        let Some(asked_at_ms) =
            ticket.asked_at_ms.filter(|_| ticket.looks.iter().any(|look| !look.is_empty()))
        else {
            return;
        };
        let mut call = self.call(&self.shared.granted);
        // It was granted after it was asked for, so it is not over before this.
        call.arg(asked_at_ms + order.ttl_ms);
        for (at, line) in order.lines.iter().enumerate() {
            call.key(self.name("left", line.sku.as_str()));
            call.arg(ticket.looks.get(at).map_or("", String::as_str)).arg(line.quantity);
        }
        self.sent::<()>(&call).await;
    }

    /// Announces that stock of `skus` may come back, before SQL is told. `None` when Redis does
    /// not answer: then others may be refused for [`FRESH_MS`].
    pub async fn raise(&self, skus: Vec<Sku>) -> Option<Raise> {
        let name = ReservationId::fresh().to_string();
        let mut call = self.call(&self.shared.raise);
        call.arg(&name).arg(RAISE_MS_MAX);
        for sku in &skus {
            self.keys_of(&mut call, sku);
        }
        self.sent::<()>(&call).await.map(|()| Raise { name, skus })
    }

    /// The stock has come back, or certainly not. Not to be called while nobody knows.
    pub async fn raised(&self, raise: Raise) {
        let mut pipe = redis::pipe();
        for sku in &raise.skus {
            pipe.zrem(self.name("raises", sku.as_str()), &raise.name).ignore();
        }
        let mut connection = self.connection.clone();
        let query = pipe.query_async::<()>(&mut connection);
        // If it is not heard, the raise runs out by itself; until then SQL answers alone.
        drop(tokio::time::timeout(PATIENCE, query).await);
    }

    /// Begins a look at SQL; `None` when nothing could be learnt, or (unless `again`) when it is
    /// known.
    pub async fn look(&self, sku: &Sku, again: bool) -> Option<Look> {
        let mut call = self.call(&self.shared.look);
        call.arg(u8::from(again));
        self.keys_of(&mut call, sku);
        let (began_ms, epoch) = self.sent::<Option<(u64, String)>>(&call).await??;
        Some(Look { began_ms, epoch })
    }

    /// Ends a look that has found `left`, certain for `certain_ms`. What the entry said before, if
    /// there was one; `None` when nothing was learnt, because stock has come back meanwhile.
    pub async fn learn(
        &self,
        look: Look,
        sku: &Sku,
        left: u64,
        certain_ms: u64,
    ) -> Option<Option<u64>> {
        let mut call = self.call(&self.shared.learn);
        call.arg(look.began_ms).arg(look.epoch).arg(left).arg(certain_ms.min(FRESH_MS));
        call.arg(LOOK_MS_MAX).arg(ReservationId::fresh().to_string());
        self.keys_of(&mut call, sku);
        let before = self.sent::<Option<String>>(&call).await??;
        Some(before.parse().ok())
    }

    /// The SKUs that have an entry.
    pub async fn known(&self) -> Vec<Sku> {
        let prefix = self.name("left", "");
        let mut connection = self.connection.clone();
        let pattern = format!("{prefix}*");
        let scan = async {
            let options = redis::ScanOptions::default().with_pattern(pattern).with_count(1_000);
            let mut found: redis::AsyncIter<'_, String> =
                redis::AsyncCommands::scan_options(&mut connection, options).await.ok()?;
            let mut skus = Vec::new();
            while let Some(Ok(name)) = found.next_item().await {
                skus.extend(name.strip_prefix(&prefix).map(Sku::stored));
            }
            Some(skus)
        };
        scan.await.unwrap_or_default()
    }

    fn elapsed_ms(&self) -> u64 {
        self.shared.since.elapsed().as_millis() as u64
    }

    fn name(&self, what: &str, of: &str) -> String {
        format!("{}:{what}:{of}", self.shared.settings.prefix)
    }

    fn key_mark(&self, key: Option<&Key>) -> String {
        self.name("key", key.map_or("", Key::as_str))
    }

    fn keys_of(&self, call: &mut ScriptInvocation<'_>, sku: &Sku) {
        for what in ["left", "epoch", "raises"] {
            call.key(self.name(what, sku.as_str()));
        }
    }

    fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        match &self.shared.settings.clock {
            Some(clock) => call.arg(clock.now_ms()),
            None => call.arg(""),
        };
        call
    }

    /// `None` when there was no answer in time.
    async fn sent<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Option<T> {
        let mut connection = self.connection.clone();
        let answer = tokio::time::timeout(PATIENCE, call.invoke_async(&mut connection)).await;
        if let Ok(Ok(answer)) = answer {
            return Some(answer);
        }
        metrics::counter!("inventory_gate_failures_total").increment(1);
        if let Ok(Err(error)) = answer {
            tracing::warn!(%error, "the gate stands open");
        }
        self.shared.open_until_ms.store(self.elapsed_ms() + OPEN_MS, Ordering::Relaxed);
        None
    }
}

fn read_answer(answer: &[String]) -> Option<Asked> {
    match answer {
        [verdict, asked_at_ms, looks @ ..] if verdict == "pass" => {
            let asked_at_ms = Some(asked_at_ms.parse().ok()?);
            Some(Asked::Pass(Ticket { asked_at_ms, looks: looks.to_vec() }))
        }
        [verdict, line, left] => {
            let line = line.parse::<usize>().ok()?.checked_sub(1)?;
            let perhaps_a_repeat = verdict != "short";
            Some(Asked::Short { line, left: left.parse().ok()?, perhaps_a_repeat })
        }
        _ => None,
    }
}
