//! The sockets: a listener, and two pumps per connection that move bytes through their lanes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::fault::{Direction, Fault, ScopedFault};
use crate::lane::{Lane, Release};
use crate::plan::{Conditions, Plan};

/// Connections at one time. One more is reset at once: a client that leaks connections must not
/// take the machine's memory through us.
const CONNECTIONS_MAX: usize = 4_096;
/// What is read at once, and what an idle direction keeps ready.
const READ_BYTES_MAX: usize = 16 * 1024;

/// A proxy in front of one upstream. Dropping it closes its port and resets its connections.
///
/// All methods take effect at once, also on open connections, and can be called from anywhere.
pub struct Proxy {
    addr: SocketAddr,
    seed: u64,
    plan: watch::Sender<Plan>,
    shared: Arc<Shared>,
}

/// What connections have in common.
struct Shared {
    upstream: Mutex<String>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    connections_open: AtomicU64,
    connections_reset: AtomicU64,
    upstream_failures: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// What has passed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Stats {
    /// Connections that clients made.
    pub connections: u64,
    /// Those that are open now.
    pub connections_open: u64,
    /// Those that ended in a reset: by a fault, by a failed upstream or by either end.
    pub connections_reset: u64,
    /// Those for which the upstream could not be reached.
    pub upstream_failures: u64,
    /// Bytes handed to the upstream.
    pub bytes_up: u64,
    /// Bytes handed to clients.
    pub bytes_down: u64,
}

impl Proxy {
    /// Returns a proxy that listens on a free loopback port and forwards to `upstream`: a
    /// `host:port`, a socket address, or a URL with a host and a port. The upstream need not be
    /// there yet. The random part of faults comes from a fresh seed.
    ///
    /// # Errors
    /// [`Error::BadUpstream`], [`Error::Listen`].
    pub async fn start(upstream: impl ToString) -> Result<Self> {
        Self::start_seeded(upstream, fastrand::u64(..)).await
    }

    /// The same with a given seed: the n-th connection meets the same delays and cuts each time.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_seeded(upstream: impl ToString, seed: u64) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), upstream, seed).await
    }

    /// The same on a given address, for a program that shows its port to people.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_at(listen: SocketAddr, upstream: impl ToString, seed: u64) -> Result<Self> {
        let upstream = host_and_port(&upstream.to_string())?;
        let failed = |source| Error::Listen { addr: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (plan, watching) = watch::channel(Plan::default());
        let counters = Counters::default();
        let shared = Arc::new(Shared { upstream: Mutex::new(upstream), counters });
        tokio::spawn(listen_until_dropped(listener, watching, Arc::clone(&shared), seed));
        Ok(Self { addr, seed, plan, shared })
    }

    /// Where clients connect. It stays the same for the life of the proxy.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `url` with the proxy's address in place of its host and port: user, path and parameters
    /// stay.
    pub fn url_of(&self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else { return self.addr.to_string() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@"));
        format!("{scheme}://{}{}{tail}", user.unwrap_or_default(), self.addr)
    }

    /// The seed of the random part of the faults, for a failure message.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Sets a fault, beside those that are set. A [`Fault`] is meant for both directions,
    /// [`Fault::on`] for one.
    pub fn set(&self, fault: impl Into<ScopedFault>) {
        let fault = fault.into();
        tracing::debug!(%fault, proxy = %self.addr, "fault set");
        self.plan.send_modify(|plan| plan.set(fault));
    }

    /// Takes one fault away; its value does not matter.
    pub fn unset(&self, fault: impl Into<ScopedFault>) {
        let fault = fault.into();
        tracing::debug!(%fault, proxy = %self.addr, "fault taken away");
        self.plan.send_modify(|plan| plan.unset(fault));
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        tracing::debug!(proxy = %self.addr, "all faults taken away");
        self.plan.send_modify(Plan::clear);
    }

    /// The faults that are set.
    pub fn faults(&self) -> Vec<ScopedFault> {
        self.plan.borrow().faults()
    }

    /// Resets every connection, and every new one until [`heal`](Self::heal): the upstream is
    /// unreachable, and clients notice.
    pub fn cut(&self) {
        self.set(Fault::Cut);
    }

    /// Ends a [`cut`](Self::cut). Other faults stay.
    pub fn heal(&self) {
        self.unset(Fault::Cut);
    }

    /// Sends new connections to another upstream; open ones stay where they are. Follow it by
    /// [`cut`](Self::cut) and [`heal`](Self::heal) to move those too.
    ///
    /// # Errors
    /// [`Error::BadUpstream`].
    pub fn retarget(&self, upstream: impl ToString) -> Result<()> {
        let upstream = host_and_port(&upstream.to_string())?;
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
        Ok(())
    }

    /// What has passed so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            connections: counters.connections.load(Relaxed),
            connections_open: counters.connections_open.load(Relaxed),
            connections_reset: counters.connections_reset.load(Relaxed),
            upstream_failures: counters.upstream_failures.load(Relaxed),
            bytes_up: counters.bytes_up.load(Relaxed),
            bytes_down: counters.bytes_down.load(Relaxed),
        }
    }
}

/// Finds `host:port` in a URL, or takes it as it is.
fn host_and_port(upstream: &str) -> Result<String> {
    let rest = upstream.split_once("://").map_or(upstream, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let is_complete = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_complete {
        return Err(Error::BadUpstream { given: upstream.to_owned() });
    }
    Ok(address.to_owned())
}

async fn listen_until_dropped(
    listener: TcpListener,
    mut plan: watch::Receiver<Plan>,
    shared: Arc<Shared>,
    seed: u64,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut number = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = dropped(&mut plan) => return,
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of file descriptors, most likely: the backlog waits until some are free.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        number += 1;
        shared.counters.connections.fetch_add(1, Relaxed);
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            shared.counters.connections_reset.fetch_add(1, Relaxed);
            reset(&client);
            continue;
        };
        let connection = Connection {
            born_at: plan.borrow().half_open_count,
            // Far apart, so that neighbouring connections do not get related randomness.
            seed: seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            plan: plan.clone(),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            connection.shared.counters.connections_open.fetch_add(1, Relaxed);
            if let Err(Ended) = connection.carry(client).await {
                connection.shared.counters.connections_reset.fetch_add(1, Relaxed);
            }
            connection.shared.counters.connections_open.fetch_sub(1, Relaxed);
            drop(slot);
        });
    }
}

/// Resolves when the proxy is dropped.
async fn dropped(plan: &mut watch::Receiver<Plan>) {
    while plan.changed().await.is_ok() {}
}

/// The connection ended otherwise than by both sides being done.
struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// One client's connection.
struct Connection {
    /// How often `half-open` had been set when this connection was made.
    born_at: u64,
    seed: u64,
    plan: watch::Receiver<Plan>,
    shared: Arc<Shared>,
}

impl Connection {
    /// Carries the connection to its end, however it ends.
    async fn carry(&self, client: TcpStream) -> std::result::Result<(), Ended> {
        let mut client = ResetUnlessDone::new(client);
        tokio::select! {
            biased;
            () = self.until(|plan| plan.cut) => return Err(Ended),
            () = self.until(|plan| plan.half_open_count > self.born_at) => {
                self.hold_half_open(&mut client.stream).await?;
            }
            carried = self.carry_to_upstream(&mut client.stream) => carried?,
        }
        client.is_done = true;
        Ok(())
    }

    async fn carry_to_upstream(&self, client: &mut TcpStream) -> std::result::Result<(), Ended> {
        let mut upstream = ResetUnlessDone::new(self.connect().await?);
        // Faults decide how long small pieces wait, the kernel must not add to it.
        client.set_nodelay(true)?;
        upstream.stream.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.stream.split();
        let up = self.pump(&mut from_client, &mut to_upstream, Direction::Up);
        let down = self.pump(&mut from_upstream, &mut to_client, Direction::Down);
        tokio::try_join!(up, down)?;
        upstream.is_done = true;
        Ok(())
    }

    /// Moves bytes one way until the sender is done and everything is delivered.
    async fn pump(
        &self,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        direction: Direction,
    ) -> std::result::Result<(), Ended> {
        let is_up = direction == Direction::Up;
        let counters = &self.shared.counters;
        let counter = if is_up { &counters.bytes_up } else { &counters.bytes_down };
        let mut plan = self.plan.clone();
        let mut lane = Lane::new(self.seed ^ u64::from(is_up));
        let mut buffer = BytesMut::new();
        let mut sender_is_done = false;
        loop {
            let conditions: Conditions = {
                let plan = plan.borrow_and_update();
                if is_up { plan.up } else { plan.down }
            };
            let wake_at = match lane.release(Instant::now().into_std(), &conditions) {
                Release::Deliver(piece) => {
                    to.write_all(&piece).await?;
                    counter.fetch_add(piece.len() as u64, Relaxed);
                    continue;
                }
                Release::End => return Ok(to.shutdown().await?),
                Release::Reset => return Err(Ended),
                Release::WaitUntil(at) => Some(Instant::from_std(at)),
                Release::Wait => None,
            };
            let room = lane.room().min(READ_BYTES_MAX);
            buffer.reserve(room);
            let mut into_buffer = (&mut buffer).limit(room);
            tokio::select! {
                changed = plan.changed() => changed.map_err(|_| Ended)?,
                () = sleep_until(wake_at) => {}
                read = from.read_buf(&mut into_buffer),
                    if room > 0 && !sender_is_done =>
                {
                    let now = Instant::now().into_std();
                    sender_is_done = !matches!(read, Ok(1..));
                    match read {
                        Ok(0) => lane.push_end(now),
                        Ok(_) => lane.push(now, buffer.split().freeze()),
                        Err(_) => lane.push_reset(now),
                    }
                }
            }
        }
    }

    /// Connects to the upstream. Under a partition or blackhole towards it, the connection is
    /// not made before that ends, as if the SYN were still being sent.
    async fn connect(&self) -> std::result::Result<TcpStream, Ended> {
        self.until(|plan| !plan.up.partition && !plan.up.blackhole).await;
        let address = self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match TcpStream::connect(&address).await {
            Ok(upstream) => Ok(upstream),
            Err(error) => {
                tracing::debug!(%address, %error, "the upstream cannot be reached");
                self.shared.counters.upstream_failures.fetch_add(1, Relaxed);
                Err(Ended)
            }
        }
    }

    /// The upstream is gone from this connection; the client is not told until the fault ends.
    async fn hold_half_open(&self, client: &mut TcpStream) -> std::result::Result<(), Ended> {
        let swallow = async {
            let mut buffer = vec![0; READ_BYTES_MAX];
            while client.read(&mut buffer).await? > 0 {}
            Ok::<(), Ended>(())
        };
        tokio::select! {
            ended = swallow => ended,
            () = self.until(|plan| !plan.half_open) => Err(Ended),
        }
    }

    /// Waits until the plan is so, or the proxy is dropped.
    async fn until(&self, is_so: impl Fn(&Plan) -> bool) {
        let _ = self.plan.clone().wait_for(|plan| is_so(plan)).await;
    }
}

/// A socket that is reset when it is dropped before its time: its peer must not take a lost
/// connection for a finished one.
struct ResetUnlessDone {
    stream: TcpStream,
    is_done: bool,
}

impl ResetUnlessDone {
    fn new(stream: TcpStream) -> Self {
        Self { stream, is_done: false }
    }
}

impl Drop for ResetUnlessDone {
    fn drop(&mut self) {
        if !self.is_done {
            reset(&self.stream);
        }
    }
}

/// Makes the close of this socket send RST instead of FIN.
fn reset(stream: &TcpStream) {
    // It fails only on a socket that is closed already.
    let _ = stream.set_zero_linger();
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_found_in_urls_and_refused_when_incomplete() {
        let cases = [
            ("127.0.0.1:6379", Some("127.0.0.1:6379")),
            ("redis://127.0.0.1:6379/0", Some("127.0.0.1:6379")),
            ("postgres://me:p@ss@db:5432/app?sslmode=off", Some("db:5432")),
            ("http://[::1]:80", Some("[::1]:80")),
            ("localhost", None),
            ("redis://host/", None),
            (":80", None),
            ("host:99999", None),
        ];
        for (given, found) in cases {
            assert_eq!(host_and_port(given).ok().as_deref(), found, "{given}");
        }
    }
}
