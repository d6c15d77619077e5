//! The accept loop, on hyper-util directly.
//!
//! axum's own `serve` has neither a deadline nor limits on connections: one idle keep-alive
//! connection can hold its graceful shutdown open, and one that never sends a byte stays for
//! ever. Here every connection is told to finish, and bounded in time, size and number.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use futures::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::Error;
use crate::first::{First, Hot, Nobody};
use crate::shutdown::{Drained, Shutdown};

/// Most connections open at once. The next waits in the kernel's backlog until one closes: a
/// file descriptor and some 10 KB each would otherwise be the client's to spend.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Longest time for a request's head to arrive, and longest idle time of a kept-alive HTTP/1
/// connection. Without it a client that sends one byte a minute (slowloris) holds a connection
/// for ever.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// Most a connection buffers; a request's head above it is refused by hyper with a bare 431.
pub const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;

/// Most requests at once on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 256;

/// How often a silent HTTP/2 peer is asked whether it is still there, and how long it may take.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause after `accept` failed for want of descriptors: retrying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may cost; the defaults are the constants of this module.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`HEAD_TIME_MAX`].
    pub head_time: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head_time: HEAD_TIME_MAX }
    }
}

/// Listens on `address`, and logs the port it got: `listening on http://127.0.0.1:8080`.
///
/// # Errors
/// [`Error::AddressInUse`] or [`Error::Listen`], each a line that names the flag.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse(address),
        _ => Error::Listen { address, source },
    })?;
    tracing::info!("listening on http://{address}");
    Ok(listener)
}

/// The connection a request came by; an extractor. Without [`serve`](fn@serve) (a router called directly,
/// as tests do) it has no peer and is never closing.
#[derive(Clone, Default)]
pub struct Connection(Option<(SocketAddr, Arc<Shutdown>)>);

impl Connection {
    /// Who is at the other end: the client, or the last proxy. See
    /// [`TrustedProxies`](crate::TrustedProxies).
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.as_ref().map(|(peer, _)| peer.ip())
    }

    /// Cancelled when the service stops: an upgraded or streaming connection says goodbye then.
    pub fn closing(&self) -> CancellationToken {
        self.0.as_ref().map_or_else(CancellationToken::new, |(_, shutdown)| shutdown.closing())
    }

    /// Runs the work of an upgraded connection so that the drain waits for it, and aborts it at
    /// the deadline: `ws.on_upgrade(move |socket| connection.track(talk(socket)))`.
    pub async fn track(self, work: impl Future<Output = ()>) {
        match self.0 {
            Some((_, shutdown)) => drop(shutdown.track(work).await),
            None => work.await,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Serves until `shutdown` begins, then stops in the order of [`crate::shutdown`] and returns when
/// nothing is left. HTTP/1.1, h2c and upgrades.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> Drained {
    serve_with(listener, router, shutdown, ConnectionLimits::default()).await
}

/// [`serve`](fn@serve) with limits of one's own.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
    limits: ConnectionLimits,
) -> Drained {
    serve_all(listener, None::<Hot<Nobody>>, router, shutdown, limits).await
}

/// [`serve_with`], asking `first` before the router: what it answers costs no request, no routing,
/// no boxed future and no layer. For the one hot route of a service whose work is smaller than
/// that; see [`crate::first`].
pub async fn serve_first(
    listener: TcpListener,
    first: impl First,
    router: Router,
    shutdown: Shutdown,
    limits: ConnectionLimits,
) -> Drained {
    serve_all(listener, Some(Hot::new(first)), router, shutdown, limits).await
}

async fn serve_all<F: First>(
    listener: TcpListener,
    hot: Option<Hot<F>>,
    router: Router,
    shutdown: Shutdown,
    limits: ConnectionLimits,
) -> Drained {
    let hot = hot.map(Arc::new);
    let places = Arc::new(Semaphore::new(limits.connections));
    let http = http(&limits);
    let shared = Arc::new(shutdown.clone());
    let closed = shutdown.closed();
    tokio::pin!(closed);
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut closed => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let front = Front {
            hot: hot.clone(),
            router: router.clone(),
            peer,
            connection: Connection(Some((peer, Arc::clone(&shared)))),
            http: http.clone(),
            head_time: limits.head_time,
        };
        tokio::spawn(shutdown.track(async move {
            front.handle(stream).await;
            drop(place);
        }));
    }
    drop(listener); // from here on a connect is refused, not left waiting
    shutdown.drain().await
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::error!(%error, "accept failed; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A client that was gone before it was accepted is no fault of this service.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn http(limits: &ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        // Trap: `pipeline_flush` would never send the 400 for bytes that are not HTTP: hyper then
        // flushes only when nothing is left to read, and those bytes stay.
        .max_buf_size(CONNECTION_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIME_MAX)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(CONNECTION_BUFFER_BYTES as u32)
        .enable_connect_protocol();
    builder
}

/// What a connection is served with.
struct Front<F> {
    hot: Option<Arc<Hot<F>>>,
    router: Router,
    peer: SocketAddr,
    connection: Connection,
    http: Builder<TokioExecutor>,
    head_time: Duration,
}

impl<F: First> Front<F> {
    /// One connection, from accept to close.
    async fn handle(self, mut stream: TcpStream) {
        // Without this Nagle's algorithm holds small responses back for the client's delayed ACK.
        let _best_effort = stream.set_nodelay(true);
        let Some(hot) = self.hot.clone() else { return self.by_hyper(stream).await };
        let closing = self.connection.closing();
        let peer = self.peer.ip();
        let Some(read) = hot.serve(&mut stream, peer, &closing, self.head_time).await else {
            return;
        };
        // hyper reads again what was read already, then the rest.
        let (rest, write) = stream.into_split();
        self.by_hyper(tokio::io::join(Cursor::new(read).chain(rest), write)).await;
    }

    async fn by_hyper<IO>(self, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { hot, router, peer, connection, http, head_time } = self;
        let closing = connection.closing();
        let has_asked = Arc::new(AtomicBool::new(false));
        let asking = Arc::clone(&has_asked);
        let service = service_fn(move |request: Request<Incoming>| {
            asking.store(true, Ordering::Relaxed);
            if let Some(response) = hot.as_ref().and_then(|hot| hot.respond(&request, peer.ip())) {
                return Either::Left(std::future::ready(Ok(response)));
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(connection.clone());
            Either::Right(router.clone().call(request))
        });
        let http = http.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::pin!(http);
        let first_request = tokio::time::sleep(head_time);
        tokio::pin!(first_request);
        let (mut told, mut overdue) = (false, false);
        loop {
            tokio::select! {
                biased; // what was read is looked at before the goodbye
                ended = http.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error = &*error, "connection ended");
                    }
                    return;
                }
                () = closing.cancelled(), if !told => {
                    told = true;
                    http.as_mut().graceful_shutdown();
                }
                // hyper's own timer starts only once it knows the protocol: a client that sends
                // nothing, or half an HTTP/2 preface, would stay for ever.
                () = &mut first_request, if !overdue => {
                    overdue = true;
                    if !has_asked.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
    }
}
