//! How many checks a second the fronts answer, generator included, beside a Redis and another rate
//! limiting server that are asked in the same way.
//!
//! A server on one thread, a generator on another: it sends on all its connections, then reads on
//! all of them. Client libraries would cost more than the servers; the [`protocol`]s are written
//! here as bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use measure::harness::{Saturated, Saturation};
use measure::{Bench, LoopSubject, Role, Scenario};
use parking_lot::Mutex;
use rate_limiter::registry::Registry;
use rate_limiter::store::memory::Memory;
use rate_limiter::{AlgorithmName, Store, http, resp};

use super::scale::plenty;
use super::{KEYS, Name, PATIENT, RedisStore};

mod peer;
mod protocol;

use peer::Peer;
use protocol::{Http, Incr, Protocol, Script, Throttle};

/// Who answers, and where.
struct Server {
    name: &'static str,
    role: Role,
    at: SocketAddr,
    speaks: fn() -> Box<dyn Protocol>,
}

pub(super) async fn compare(bench: &Bench) -> anyhow::Result<()> {
    if !bench.wants_any(&["fronts"]) {
        return Ok(());
    }
    let redis = infra::redis().await?;
    let peer = Peer::find().await?;
    let servers = Arc::new(servers(&redis, peer.as_ref()).await?);
    let scenarios = [
        ("fronts-one-at-a-time", 64, 1, "64 connections, one request in flight on each"),
        ("fronts-sixteen-at-a-time", 32, 16, "32 connections, 16 requests in flight on each"),
    ];
    for (name, connections, depth, about) in scenarios {
        let about = format!("check of one, in process behind a front, {about}");
        let subjects =
            servers.iter().map(|server| subject(server, connections, depth)).collect::<Vec<_>>();
        let slice = Duration::from_millis(bench.pick(20, 100, 200));
        // The batch is one round over all connections, so that no reading of the clock falls
        // between a request and its reply.
        let batch = (connections * depth) as u32;
        let load = Saturation { slice, batch, slices: 5, threads: 1 };
        bench.in_process(Scenario::new(name, about, "Redis INCR"), load, subjects).await?;
    }
    Ok(())
}

async fn servers(redis: &infra::Redis, peer: Option<&Peer>) -> anyhow::Result<Vec<Server>> {
    let registry = Arc::new(Registry::new(Memory::default(), 1));
    registry.put(plenty(AlgorithmName::Gcra))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let resp_at = listener.local_addr()?;
    resp::serve_on_a_thread(listener, Arc::clone(&registry))?;
    let shutdown = service::Shutdown::new();
    let router = http::router(registry, service::Readiness::new(&shutdown));
    let router = service::harden(router, service::Limits::default());
    let http_at = on_a_thread(move |listener| service::serve(listener, router, shutdown))?;

    let address = redis.url().trim_start_matches("redis://").trim_end_matches('/');
    let redis_at: SocketAddr = address.parse()?;
    let script = RedisStore::connect(redis.url(), PATIENT)?.limiter(plenty(AlgorithmName::Gcra));
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let hash: String = script.bare_script().prepare_invoke().load_async(&mut connection).await?;
    SCRIPT_HASH.get_or_init(|| hash);

    let server = |name, role, at, speaks| Server { name, role, at, speaks };
    Ok([
        server("Redis INCR", Role::Peer, redis_at, || Box::new(Incr)),
        server("Redis EVALSHA", Role::Peer, redis_at, || Box::new(Script::new(script_hash()))),
        server("RESP", Role::Answer, resp_at, || Box::new(Throttle::ours())),
        server("HTTP", Role::Answer, http_at, || Box::new(Http::ours())),
    ]
    .into_iter()
    .chain(grpc()?)
    .chain(peer.into_iter().flat_map(throttlecrab))
    .collect())
}

fn throttlecrab(peer: &Peer) -> Vec<Server> {
    let server = |name, at, speaks| Server { name, role: Role::Peer, at, speaks };
    vec![
        server("throttlecrab RESP", peer.resp, || Box::new(Throttle::throttlecrab())),
        server("throttlecrab HTTP", peer.http, || Box::new(Http::throttlecrab())),
        #[cfg(feature = "envoy")]
        server("throttlecrab gRPC", peer.grpc, || Box::new(protocol::Grpc::throttlecrab())),
    ]
}

static SCRIPT_HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();

fn script_hash() -> &'static str {
    SCRIPT_HASH.get().map_or("", String::as_str)
}

#[cfg(not(feature = "envoy"))]
fn grpc() -> anyhow::Result<Option<Server>> {
    Ok(None)
}

#[cfg(feature = "envoy")]
fn grpc() -> anyhow::Result<Option<Server>> {
    use rate_limiter::envoy::{Envoy, router, tree::Tree};

    let file = std::env::temp_dir().join(format!("rate-limiter-{}.yaml", std::process::id()));
    let limit = "rate_limit: { unit: second, requests_per_unit: 1000000000 }";
    std::fs::write(&file, format!("domain: shop\ndescriptors:\n  - key: user\n    {limit}\n"))?;
    let tree = Tree::read(&file).map_err(anyhow::Error::from_boxed);
    std::fs::remove_file(&file)?;
    let router = router(Arc::new(Envoy::new(Memory::default(), [tree?])));
    let shutdown = service::Shutdown::new();
    let at = on_a_thread(move |listener| service::serve(listener, router, shutdown))?;
    let (name, role) = ("gRPC", Role::Answer);
    Ok(Some(Server { name, role, at, speaks: || Box::new(protocol::Grpc::ours()) }))
}

/// A server on a thread of its own, until the process ends.
fn on_a_thread<F: Future>(
    serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let at = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("front".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener);
            serve(listener.expect("a listener that does not block")).await;
        });
    })?;
    Ok(at)
}

fn subject(server: &Server, connections: usize, depth: usize) -> LoopSubject {
    let (at, speaks) = (server.at, server.speaks);
    let make = move || Mutex::new(Generator::connect(at, speaks, connections, depth));
    let worker = |generator: Arc<Mutex<Result<Generator, String>>>, _| {
        move |_| {
            let mut generator = generator.lock();
            if let Ok(running) = &mut *generator
                && let Err(what) = running.call()
            {
                *generator = Err(what);
            }
        }
    };
    let check = |generator: &Mutex<Result<Generator, String>>, measured: &Saturated| {
        let generator = generator.lock();
        let generator = generator.as_ref().map_err(String::clone)?;
        // The last round is answered as a whole, and so is every other.
        (generator.answered >= measured.calls)
            .then_some(())
            .ok_or_else(|| format!("{} of {} were allowed", generator.answered, measured.calls))
    };
    LoopSubject::new(server.name, server.role, make, worker, check)
}

/// One thread that keeps some connections busy.
struct Generator {
    connections: Vec<Connection>,
    depth: usize,
    rng: fastrand::Rng,
    name: Name,
    /// Requests of this round that were not counted as calls yet.
    left: usize,
    answered: u64,
}

struct Connection {
    socket: TcpStream,
    protocol: Box<dyn Protocol>,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Generator {
    fn connect(
        at: SocketAddr,
        speaks: fn() -> Box<dyn Protocol>,
        connections: usize,
        depth: usize,
    ) -> Result<Self, String> {
        let connect = |_| Connection::to(at, speaks());
        let connections = (0..connections)
            .map(connect)
            .collect::<std::io::Result<_>>()
            .map_err(|error| format!("cannot connect: {error}"))?;
        let (rng, name) = (fastrand::Rng::with_seed(1), Name::new());
        Ok(Self { connections, depth, rng, name, left: 0, answered: 0 })
    }

    /// One call is one check: the first of a round does the work of all.
    fn call(&mut self) -> Result<(), String> {
        if self.left == 0 {
            self.round()?;
            self.left = self.connections.len() * self.depth;
        }
        self.left -= 1;
        Ok(())
    }

    fn round(&mut self) -> Result<(), String> {
        for connection in &mut self.connections {
            for _ in 0..self.depth {
                let name = self.name.of(self.rng.u64(..KEYS));
                connection.protocol.request(name, &mut connection.output);
            }
            let sent = connection.socket.write_all(&connection.output);
            connection.output.clear();
            sent.map_err(|error| format!("cannot send: {error}"))?;
        }
        for connection in &mut self.connections {
            connection.collect(self.depth)?;
            self.answered += self.depth as u64;
        }
        Ok(())
    }
}

impl Connection {
    fn to(at: SocketAddr, mut protocol: Box<dyn Protocol>) -> std::io::Result<Self> {
        let socket = TcpStream::connect(at)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENT))?;
        let mut output = Vec::new();
        protocol.greet(&mut output);
        Ok(Self { socket, protocol, output, input: Vec::new() })
    }

    /// Reads until `expected` requests are answered, every one of them with a yes.
    fn collect(&mut self, expected: usize) -> Result<(), String> {
        let mut answered = 0;
        let mut buffer = [0; 16 << 10];
        while answered < expected {
            let bytes =
                self.socket.read(&mut buffer).map_err(|error| format!("no reply: {error}"))?;
            if bytes == 0 {
                return Err("the server hung up".to_owned());
            }
            self.input.extend_from_slice(&buffer[..bytes]);
            let (done, replies) = self.protocol.replies(&self.input, &mut self.output)?;
            self.input.drain(..done);
            answered += replies;
        }
        Ok(())
    }
}
