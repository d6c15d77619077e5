//! The whole way: a request over a socket, JSON in and out, durable before the answer.
//!
//! The server and those who ask run in this process, so the figure is of both together. Each
//! buyer has a connection and speaks just enough HTTP to be cheap.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::postgres;
use inventory_locking::answer::sqlite::{self, Sqlite};
use inventory_locking::{Inventory, Sku, http};
use service::{Clock, Readiness, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::compare::{fresh, load, scenario};
use super::crowd::PLENTY;
use measure::harness::{Outcome, Shot};
use measure::{Bench, Ready, Subject};

/// Connections.
const BUYERS: usize = 128;

pub(super) async fn compare(bench: &Bench, server: &Arc<infra::Postgres>) -> anyhow::Result<()> {
    let about = "POST /v1/reservations, one unit of one hot SKU, on 128 connections; server and \
                 buyers share the cores (memory: not durable)";
    let scenario = scenario(bench, "http-128", about, "sqlite/batching");
    let memory =
        Subject::answer("memory", || async { served(Memory::new(Clock::system()), ()).await });
    let sqlite = Subject::answer("sqlite/batching", || async {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("inventory.db");
        let inventory = Sqlite::open(&path, sqlite::Strategy::Batching, Clock::system())?;
        served(inventory, directory).await
    });
    let server = Arc::clone(server);
    let postgres = Subject::answer("postgres/batching", move || {
        let server = Arc::clone(&server);
        async move {
            let (inventory, database) = fresh(&server, postgres::Strategy::Batching).await?;
            served(inventory, database).await
        }
    });
    bench.closed(scenario, load(bench, BUYERS), vec![memory, sqlite, postgres]).await
}

/// Serves `inventory`; `kept` is what it needs until the end.
async fn served<I: Inventory>(
    inventory: I,
    kept: impl Send + Sync + 'static,
) -> anyhow::Result<Ready> {
    inventory.create(Sku::new("sku-0000", "sku")?, PLENTY).await?;
    let inventory = Arc::new(inventory);
    let shutdown = Shutdown::new();
    let router = http::router(Arc::clone(&inventory), Readiness::new(&shutdown));
    let router = service::harden(router, service::Limits::default());
    let listener = service::bind(([127, 0, 0, 1], 0).into()).await?;
    let buyers = Arc::new(Buyers::new(listener.local_addr()?));
    let serving = tokio::spawn(service::serve(listener, router, shutdown.clone()));
    let crowd = Arc::clone(&buyers);
    let op = move |_: Shot| {
        let crowd = Arc::clone(&crowd);
        async move { crowd.buy().await }
    };
    Ok(Ready::new(op, move |_| async move {
        shutdown.begin();
        drop(serving.await);
        let audit = inventory.audit().await.map_err(|error| error.to_string())?;
        let granted = buyers.granted.load(Ordering::Relaxed);
        drop(kept);
        match audit.is_clean() && audit.held as u64 >= granted {
            true => Ok(()),
            false => Err(format!("{granted} were granted; the audit says {audit:?}")),
        }
    }))
}

/// Those who ask, with the connections that nobody uses just now.
struct Buyers {
    address: SocketAddr,
    idle: Mutex<Vec<Line>>,
    wishes: AtomicU64,
    granted: AtomicU64,
}

impl Buyers {
    fn new(address: SocketAddr) -> Self {
        let [wishes, granted] = [0, 0].map(AtomicU64::new);
        Self { address, idle: Mutex::default(), wishes, granted }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn buy(&self) -> Outcome {
        let line = self.idle().pop();
        let mut line = match line {
            Some(line) => line,
            None => Line::open(self.address).await.map_err(|_| "connect")?,
        };
        let wish = self.wishes.fetch_add(1, Ordering::Relaxed);
        let status = line.reserve(wish).await.map_err(|_| "broken")?;
        self.idle().push(line);
        match status {
            201 => {
                self.granted.fetch_add(1, Ordering::Relaxed);
                Ok("reserved")
            }
            503 => Err("busy"),
            _ => Err("refused"),
        }
    }
}

/// A connection that is used again and again.
struct Line {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Line {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(1_024) })
    }

    /// The status of the answer.
    async fn reserve(&mut self, wish: u64) -> anyhow::Result<u16> {
        const CART: &str = r#"{"lines":[{"sku":"sku-0000","quantity":1}],"ttl_ms":600000}"#;
        let request = format!(
            "POST /v1/reservations HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n\
             idempotency-key: wish-{wish}\r\ncontent-length: {}\r\n\r\n{CART}",
            CART.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.read.clear();
        loop {
            let count = self.stream.read_buf(&mut self.read).await?;
            anyhow::ensure!(count > 0, "the server closed the connection");
            if let Some(status) = whole_answer(&self.read)? {
                return Ok(status);
            }
        }
    }
}

/// The status, when the whole answer has arrived.
fn whole_answer(bytes: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.get(9..12).context("a status line")?.parse()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("a content-length")?.parse()?;
    Ok((bytes.len() >= end + 4 + length).then_some(status))
}
