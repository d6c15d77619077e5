//! How a script reaches the server that must run it: the only place from which one is sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Client, Cmd, RedisResult, Script, Value};

use super::cluster::Cluster;
use super::refusal::Refusal;
use super::session::{Server, Session};
use super::slot::slot_of;
use super::{RedisSettings, unavailable};
use crate::limiter::Error;

/// The pause before a call that was refused for now is sent again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// One server, or the servers of a cluster.
pub(super) struct Link {
    to: To,
    settings: RedisSettings,
    tally: Mutex<Tally>,
}

/// What went wrong so far, by its name. The same is in the metrics, for all stores together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that provably changed nothing and were sent again: `moved`, `ask`, `tryagain`, ...
    pub refused: BTreeMap<&'static str, u64>,
    /// Calls that were sent and of which nobody knows whether they charged: at most once each.
    pub unknown: BTreeMap<&'static str, u64>,
}

enum To {
    One(Arc<Server>),
    Many(Cluster),
}

/// A script with its keys and arguments.
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) command: Cmd,
    /// One of its keys; they are all in one slot.
    pub(super) key: &'a str,
}

/// Proof of a reply that replicas may not have yet.
pub(in crate::store) struct Receipt(Option<(Arc<Session>, String)>);

impl Receipt {
    /// Whether there is anything to wait for.
    pub(in crate::store) fn is_open(&self) -> bool {
        self.0.is_some()
    }
}

/// What is known of a call while it is under way.
#[derive(Default)]
struct Progress {
    /// The command is with the server, and its fate unknown until it replies.
    sent: AtomicBool,
    at: Mutex<Option<(Arc<Server>, Arc<Session>)>>,
}

impl Link {
    pub(super) fn one(url: &str, settings: RedisSettings) -> Result<Self, Error> {
        let client =
            Client::open(url).map_err(|error| Error::invalid("store", error.to_string()))?;
        let server = Server::new(client, url.to_owned(), settings);
        Ok(Self { to: To::One(Arc::new(server)), settings, tally: Mutex::default() })
    }

    pub(super) fn cluster(seeds: &[String], settings: RedisSettings) -> Result<Self, Error> {
        if seeds.is_empty() {
            return Err(Error::invalid("store", "names no server of the cluster"));
        }
        let to = To::Many(Cluster::new(seeds, settings)?);
        Ok(Self { to, settings, tally: Mutex::default() })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.to, To::Many(_))
    }

    /// Sends a call, again where a reply proved that nothing was applied, and returns its reply.
    /// It may be acknowledged once it is [confirmed](Self::confirm).
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the response timeout, or as soon as the outcome is unknown.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<(Value, Receipt), Error> {
        let progress = Progress::default();
        let timeout = self.settings.response_timeout;
        if let Ok(reply) = tokio::time::timeout(timeout, self.deliver(call, &progress)).await {
            return reply;
        }
        let at = progress.at.into_inner();
        let what = match progress.sent.into_inner() {
            true => {
                if let Some((server, session)) = at {
                    server.was_silent(&session);
                }
                self.count_unknown("timeout");
                format!("no reply within {timeout:?}; it may have been charged")
            }
            false => format!("no server took it within {timeout:?}; nothing was charged"),
        };
        Err(Error::Unavailable { what, source: None })
    }

    async fn deliver(
        &self,
        call: &Call<'_>,
        progress: &Progress,
    ) -> Result<(Value, Receipt), Error> {
        let slot = slot_of(call.key);
        let mut sent_to = None;
        let mut pause = PAUSE_MIN;
        loop {
            let noticed = Instant::now();
            let asking = sent_to.is_some();
            let server = match sent_to.take() {
                Some(server) => server,
                None => self.server(slot).await?,
            };
            let refusal = match self.attempt(call, &server, asking, progress).await {
                Ok(reply) => return reply,
                Err(refusal) => refusal,
            };
            self.count_refused(refusal.label());
            match (&self.to, refusal) {
                (To::Many(cluster), Refusal::Ask(address)) => {
                    sent_to = Some(cluster.server_at(&address)?);
                }
                (To::Many(cluster), Refusal::Moved(address)) => cluster.moved(slot, &address)?,
                (_, Refusal::NoScript) => {}
                (To::One(_), Refusal::Unreachable) => {
                    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                    return Err(unavailable(refused.into()));
                }
                (to, refusal) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    if let To::Many(cluster) = to
                        && refusal.questions_the_map()
                    {
                        // Best effort: a map that cannot be drawn now is drawn next time.
                        let _ = cluster.redraw(noticed).await;
                    }
                }
            }
        }
    }

    /// One attempt. `Err` proves that nothing was applied; `Ok` is the end of the call.
    async fn attempt(
        &self,
        call: &Call<'_>,
        server: &Arc<Server>,
        asking: bool,
        progress: &Progress,
    ) -> Result<Result<(Value, Receipt), Error>, Refusal> {
        // Whatever goes wrong before the command is sent proves that it was not.
        let not_sent = |error| Refusal::of(&error).unwrap_or(Refusal::Unreachable);
        let session = server.session().await.map_err(not_sent)?;
        let command = self.stamped(call, server, &session).await.map_err(|error| {
            server.end(&session);
            not_sent(error)
        })?;
        *progress.at.lock() = Some((Arc::clone(server), Arc::clone(&session)));
        progress.sent.store(true, Ordering::Relaxed);
        let reply = session.send(&command, asking).await;
        let error = match reply {
            Ok(reply) => {
                let by = session.has_fence().then(|| (Arc::clone(&session), call.key.to_owned()));
                return Ok(Ok((reply, Receipt(by))));
            }
            Err(error) => error,
        };
        let Some(refusal) = Refusal::of(&error) else {
            if error.is_io_error() {
                server.end(&session);
                self.count_unknown("broken");
            }
            return Ok(Err(unavailable(error)));
        };
        progress.sent.store(false, Ordering::Relaxed);
        if refusal.ends_the_session() {
            server.end(&session);
        }
        if refusal == Refusal::NoScript
            && let Err(error) = session.load(call.script).await
        {
            return Ok(Err(unavailable(error)));
        }
        Err(refusal)
    }

    /// The command as this session's server needs it.
    async fn stamped<'a>(
        &self,
        call: &'a Call<'_>,
        server: &Arc<Server>,
        session: &Session,
    ) -> RedisResult<Cow<'a, Cmd>> {
        if !self.settings.learns {
            return Ok(Cow::Borrowed(&call.command));
        }
        let own_slots = || match &self.to {
            To::Many(cluster) => Some(cluster.slots_of(server)),
            To::One(_) => None,
        };
        let mut command = call.command.clone();
        command.arg(session.learning_since_us(own_slots).await?);
        Ok(Cow::Owned(command))
    }

    /// Returns once the replicas have what the receipt is for, where the store was told to wait for
    /// them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when they did not say so in time. It stays charged.
    pub(super) async fn confirm(&self, receipt: Receipt) -> Result<(), Error> {
        let Some((session, key)) = receipt.0 else { return Ok(()) };
        session.confirm(&key).await.map_err(|what| {
            self.count_unknown("unreplicated");
            let what = format!("charged, but {what}");
            Error::Unavailable { what: what.clone(), source: Some(what.into()) }
        })
    }

    async fn server(&self, slot: u16) -> Result<Arc<Server>, Error> {
        match &self.to {
            To::One(server) => Ok(Arc::clone(server)),
            To::Many(cluster) => cluster.owner(slot).await,
        }
    }

    /// Whether the server, or one server of the cluster, answers.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        let ping = async {
            let server = self.server(0).await?;
            server.bare(&redis::cmd("PING")).await.map_err(unavailable)
        };
        let timeout = self.settings.response_timeout;
        match tokio::time::timeout(timeout, ping).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => {
                let what = format!("no reply within {timeout:?}");
                Err(Error::Unavailable { what, source: None })
            }
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    fn count_refused(&self, reason: &'static str) {
        *self.tally.lock().refused.entry(reason).or_default() += 1;
        metrics::counter!("rate_limiter_redis_refusals_total", "reason" => reason).increment(1);
    }

    fn count_unknown(&self, why: &'static str) {
        *self.tally.lock().unknown.entry(why).or_default() += 1;
        metrics::counter!("rate_limiter_redis_unknown_total", "why" => why).increment(1);
    }
}
