//! One Redis server, and the connection to it.
//!
//! A [`Session`] is everything that was true of the server when we connected: that it is the same
//! process at the end of both connections, and since when it has been the primary. When anything
//! breaks, the session ends as a whole and the next call opens a new one, so a promise made by one
//! server is never taken for that of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, RedisResult, Script, Value};

use super::fence::Fence;
use super::{RedisSettings, slot::slot_of};

/// After a failed attempt to connect, nobody tries again for this long; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest such pause: how late a server that is back may be noticed.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// So many calls in a row without a reply, and the connection is taken for dead.
///
/// Trap: a connection whose other end vanished without a word never reports an error.
const SILENT_MAX: u32 = 3;

/// A server by its address. It connects when it is needed.
pub(super) struct Server {
    client: Client,
    address: String,
    settings: RedisSettings,
    session: Mutex<Option<Arc<Session>>>,
    connecting: tokio::sync::Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    failed: u32,
    not_before: Option<Instant>,
}

/// An open connection, or two.
pub(super) struct Session {
    connection: MultiplexedConnection,
    fence: Option<Fence>,
    learning_since_us: tokio::sync::OnceCell<u64>,
    silent: AtomicU32,
}

impl Server {
    pub(super) fn new(client: Client, address: String, settings: RedisSettings) -> Self {
        let (session, connecting) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { client, address, settings, session, connecting }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The open session, or a new one.
    ///
    /// # Errors
    /// When there is none: nothing was sent.
    pub(super) async fn session(&self) -> RedisResult<Arc<Session>> {
        if let Some(session) = self.open() {
            return Ok(session);
        }
        let mut attempts = self.connecting.lock().await;
        if let Some(session) = self.open() {
            return Ok(session);
        }
        if attempts.not_before.is_some_and(|at| Instant::now() < at) {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Err(RedisError::from(refused));
        }
        match self.connect().await {
            Ok(session) => {
                *attempts = Attempts::default();
                let session = Arc::new(session);
                *self.session.lock() = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => {
                let pause = PAUSE_MIN.saturating_mul(1 << attempts.failed.min(10)).min(PAUSE_MAX);
                attempts.failed += 1;
                attempts.not_before = Some(Instant::now() + pause);
                Err(error)
            }
        }
    }

    fn open(&self) -> Option<Arc<Session>> {
        self.session.lock().clone()
    }

    /// Ends a session. Calls that are under way on it come to their own end.
    pub(super) fn end(&self, session: &Arc<Session>) {
        let mut current = self.session.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
        }
    }

    async fn connect(&self) -> RedisResult<Session> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.response_timeout))
            // A call is timed as a whole, by whoever makes it.
            .set_response_timeout(None);
        let open = || self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = open().await?;
        let mut fence = None;
        if self.settings.wait_replicas > 0 {
            let second = open().await?;
            // Behind one address there may be two servers while a failover is under way.
            let servers = (run_id(&connection).await?, run_id(&second).await?);
            if servers.0 != servers.1 {
                let torn = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                return Err(RedisError::from(torn));
            }
            fence = Some(Fence::new(second, &self.settings));
        }
        let (learning_since_us, silent) = Default::default();
        Ok(Session { connection, fence, learning_since_us, silent })
    }

    /// Sends a command that needs nothing but a connection.
    pub(super) async fn bare(&self, command: &Cmd) -> RedisResult<Value> {
        let session = self.session().await?;
        let reply = session.send(command, false).await;
        if reply.as_ref().is_err_and(RedisError::is_io_error) {
            self.end(&session);
        }
        reply
    }

    /// Nobody heard from this session in time.
    pub(super) fn was_silent(&self, session: &Arc<Session>) {
        if session.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX {
            self.end(session);
        }
    }
}

impl Session {
    /// Sends a command and returns the reply; `asking` first says that we were sent here.
    pub(super) async fn send(&self, call: &Cmd, asking: bool) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        let reply = match asking {
            false => call.query_async(&mut connection).await,
            true => {
                let mut both = redis::pipe();
                both.cmd("ASKING").add_command(call.clone());
                let replies = connection.send_packed_commands(&both, 0, 2).await?;
                replies.into_iter().nth(1).unwrap_or(Value::Nil).extract_error()
            }
        };
        self.silent.store(0, Ordering::Relaxed);
        reply
    }

    /// Puts a script into the server's cache.
    pub(super) async fn load(&self, script: &Script) -> RedisResult<()> {
        script.prepare_invoke().load_async(&mut self.connection.clone()).await.map(|_| ())
    }

    /// Whether replies have to be confirmed.
    pub(super) fn has_fence(&self) -> bool {
        self.fence.is_some()
    }

    /// Returns once the replicas have everything this server replied to before, where the store
    /// was told to wait for them. `key` is one that this server serves.
    pub(super) async fn confirm(&self, key: &str) -> Result<(), String> {
        match &self.fence {
            Some(fence) => fence.pass(key).await,
            None => Ok(()),
        }
    }

    /// Since when the server has been the primary. `own_slots` are those it serves, in a cluster.
    pub(super) async fn learning_since_us(
        &self,
        own_slots: impl FnOnce() -> Option<Vec<u16>>,
    ) -> RedisResult<u64> {
        let learned = self
            .learning_since_us
            .get_or_try_init(|| async { learn(&self.connection, own_slots()).await });
        learned.await.copied()
    }
}

async fn run_id(connection: &MultiplexedConnection) -> RedisResult<String> {
    info(connection, "server", "run_id").await
}

async fn info(
    connection: &MultiplexedConnection,
    section: &str,
    field: &str,
) -> RedisResult<String> {
    let text: String = redis::cmd("INFO").arg(section).query_async(&mut connection.clone()).await?;
    let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(found.unwrap_or_default().trim().to_owned())
}

/// Notes in the store itself who is the primary, and returns since when.
///
/// The note is replicated like any key, with the name of the history it was written in. A replica
/// that is promoted begins a history of its own, so the first of all clients to arrive finds a
/// note of the old one (or, after a restart that lost everything, none) and the learning period
/// begins. Whoever comes later finds when it began.
async fn learn(
    connection: &MultiplexedConnection,
    own_slots: Option<Vec<u16>>,
) -> RedisResult<u64> {
    let history = info(connection, "replication", "master_replid").await?;
    let key = match own_slots {
        None => "rl-primary".to_owned(),
        Some(slots) => marker_in(&slots),
    };
    let script = Script::new(include_str!("../lua/learn.lua"));
    script.key(key).arg(history).invoke_async(&mut connection.clone()).await
}

/// A key for the note in a slot that this server serves.
fn marker_in(slots: &[u16]) -> String {
    let key = |number: u32| format!("rl-primary:{{{number}}}");
    // One slot in 16384 is hit within 16384 tries on average, and a primary has thousands.
    let found = (0..1_000_000).map(key).find(|key| slots.contains(&slot_of(key)));
    found.unwrap_or_else(|| key(0))
}
