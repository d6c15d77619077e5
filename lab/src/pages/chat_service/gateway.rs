//! A server that can be killed without killing the lab: it has a runtime of its own, and killing
//! takes that runtime away. Every task stops where it is, every socket closes, nothing is said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_service::bus::local::Local;
use chat_service::bus::{Bus, Event, Listener};
use chat_service::store::sqlite::Sqlite;
use chat_service::{Error, Node, NodeSettings, http};
use parking_lot::Mutex;
use service::{Clock, Readiness, Shutdown};
use tokio::runtime::Runtime;

/// How long a client may take nothing: short, so that it can be watched.
const SLOW_MS: u64 = 8_000;

/// One server of the service.
pub(super) struct Gateway {
    name: &'static str,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

struct Running {
    runtime: Option<Runtime>,
    plug: Arc<Plug>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.plug.pull();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Gateway {
    /// Starts one on a port of its own, which it keeps over deaths.
    pub(super) async fn start(
        name: &'static str,
        store: Arc<Sqlite>,
        bus: &Arc<Local>,
    ) -> anyhow::Result<Self> {
        let (running, address) = run("127.0.0.1:0".parse()?, store, bus).await?;
        Ok(Self { name, address, running: Mutex::new(Some(running)) })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.lock().is_some()
    }

    pub(super) fn kill(&self) {
        drop(self.running.lock().take());
    }

    /// Starts it again, if it was killed.
    pub(super) async fn run(&self, store: Arc<Sqlite>, bus: &Arc<Local>) -> Result<(), Error> {
        if !self.is_up() {
            let (running, _) = run(self.address, store, bus).await.map_err(|error| {
                Error::Unavailable { what: "start the server", source: Some(error.into()) }
            })?;
            *self.running.lock() = Some(running);
        }
        Ok(())
    }
}

async fn run(
    listen: SocketAddr,
    store: Arc<Sqlite>,
    bus: &Arc<Local>,
) -> anyhow::Result<(Running, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("chat-server")
        .enable_all()
        .build()?;
    let plug = Arc::new(Plug::new(bus));
    let serving = serve(listen, store, Arc::clone(&plug));
    let serving = runtime.spawn(serving);
    // Made first: whatever fails from here on takes the runtime with it.
    let running = Running { runtime: Some(runtime), plug };
    let address = serving.await??;
    Ok((running, address))
}

async fn serve(
    listen: SocketAddr,
    store: Arc<Sqlite>,
    bus: Arc<Plug>,
) -> anyhow::Result<SocketAddr> {
    let shutdown = Shutdown::new().with_deadline(Duration::from_secs(1));
    let settings =
        NodeSettings { connects_per_minute: 0, slow_ms: SLOW_MS, ..NodeSettings::default() };
    let node = Node::start(store, bus, Clock::system(), settings, shutdown.closing()).await?;
    let router = http::router(node, Readiness::new(&shutdown));
    let router = service::harden(router, service::Limits::default());
    let listener = service::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { service::serve(listener, router, shutdown).await });
    Ok(address)
}

/// A server's line to the bus. A server that was killed hears nothing any more, and what it hears
/// while it lives is heard on its own runtime, whoever published it.
pub(super) struct Plug {
    bus: Arc<Local>,
    listener: Arc<Mutex<Option<Listener>>>,
}

impl Plug {
    pub(super) fn new(bus: &Arc<Local>) -> Self {
        Self { bus: Arc::clone(bus), listener: Arc::default() }
    }

    fn pull(&self) {
        drop(self.listener.lock().take());
    }
}

impl Bus for Plug {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        self.bus.publish(event).await
    }

    async fn attach(&self, listener: Listener) -> Result<(), Error> {
        *self.listener.lock() = Some(listener);
        let (kept, own) = (Arc::clone(&self.listener), tokio::runtime::Handle::current());
        let hearing = move |signal| {
            let listener = kept.lock().clone();
            if let Some(listener) = listener {
                let _own = own.enter();
                listener(signal);
            }
        };
        self.bus.attach(Arc::new(hearing)).await
    }
}
