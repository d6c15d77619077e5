//! The links that are followed, the requests that follow them, and whether the answers are right.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use url_shortener::link::{Creation, Owner, Redirect, Terms};
use url_shortener::store::sqlite::Sqlite;
use url_shortener::{Code, Links as _, TargetUrl};

use super::servers::Server;
use super::wire::Connection;
use measure::harness::{Keys, Outcome, Shot};
use measure::{Ready, Subject};

/// Links in the store.
pub(super) const LINKS: u64 = 1_000_000;

/// The code of a link: neighbours in number are not neighbours in code.
pub(super) fn code(number: u64) -> Code {
    Code::base62(number.wrapping_mul(2_654_435_761) % 62_u64.pow(7), 7)
}

/// Its target, of sixty bytes.
pub(super) fn target(number: u64) -> String {
    format!("https://example.com/{number:040}")
}

/// Writes the links into a new database.
pub(super) async fn fill(database: &Path, many: u64) -> anyhow::Result<()> {
    let store = Arc::new(Sqlite::open(database)?);
    let batch = 1_000;
    for first in (0..many).step_by(batch) {
        let creation = |number| Creation { terms: terms(code(number), target(number)), once: None };
        let rows = (first..many.min(first + batch as u64)).map(creation).collect();
        for created in store.create(rows).await? {
            created?;
        }
    }
    Ok(())
}

/// A link as it is stored that has nothing but a code and a target.
pub(crate) fn terms(code: Code, target: String) -> Terms {
    Terms {
        code,
        target: TargetUrl::stored(target),
        owner: Owner("everybody".to_owned()),
        created_at_ms: 1_790_000_000_000,
        expires_at_ms: None,
        max_visits: None,
        redirect: Redirect::Found,
        tags: vec![],
        unlisted: false,
    }
}

/// About what a browser sends.
const HEADERS: &str = "host: sho.rt\r\n\
    user-agent: Mozilla/5.0 (X11; rv:144.0) Gecko/20100101 Firefox/144.0\r\n\
    accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\naccept-language: en-US,en;q=0.5\r\n\
    accept-encoding: gzip, deflate\r\nreferer: https://news.example/item/17\r\n\r\n";

/// Visitors of a shortener, who look where they are sent.
pub(super) struct Visitors {
    server: Arc<Server>,
    keys: Keys,
}

impl Visitors {
    pub(super) fn of(server: &Arc<Server>, keys: Keys) -> Arc<Self> {
        Arc::new(Self { server: Arc::clone(server), keys })
    }

    /// One visit.
    pub(super) async fn visit(&self, shot: Shot) -> Outcome {
        let number = self.keys.pick(&mut shot.rng());
        let request = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(b"GET /");
            buffer.extend_from_slice(code(number).as_str().as_bytes());
            buffer.extend_from_slice(b" HTTP/1.1\r\n");
            buffer.extend_from_slice(HEADERS.as_bytes());
        };
        let sent = self.server.wire.exchange(request, |reply| {
            let there =
                reply.field(b"location").and_then(|at| at.strip_prefix(b"https://example.com/"));
            let there = there.and_then(|at| std::str::from_utf8(at).ok()?.parse::<u64>().ok());
            (reply.status == 302, there == Some(number))
        });
        match sent.await {
            Ok((true, true)) => {
                if let Some(visits) = self.server.visits.get(number as usize) {
                    visits.fetch_add(1, Ordering::Relaxed);
                }
                Ok("302")
            }
            Ok((true, false)) => Err("sent elsewhere"),
            Ok((false, _)) => Err("not a redirect"),
            Err(_) => Err("no answer"),
        }
    }

    /// Whether each watched link has the clicks that were made, or which has not.
    async fn counted(&self) -> Result<(), String> {
        for (number, made) in self.server.visits.iter().enumerate() {
            let made = made.load(Ordering::Relaxed);
            let mut counted = self.stats(number as u64).await?;
            for _ in 0..100 {
                if counted == made {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                counted = self.stats(number as u64).await?;
            }
            if counted != made {
                return Err(format!("link {number} was visited {made} times, {counted} counted"));
            }
        }
        Ok(())
    }

    async fn stats(&self, number: u64) -> Result<u64, String> {
        let request = |buffer: &mut Vec<u8>| {
            let head = format!("GET /v1/links/{}/stats HTTP/1.1\r\nhost: s\r\n\r\n", code(number));
            buffer.extend(head.bytes());
        };
        let total = |body: &[u8]| {
            let stats: serde_json::Value = serde_json::from_slice(body).ok()?;
            stats["total"].as_u64()
        };
        let sent = self.server.wire.exchange(request, |reply| total(reply.body)).await;
        sent.map_err(|error| error.to_string())?.ok_or_else(|| "no statistics".to_owned())
    }
}

/// One of our shorteners as a subject.
pub(super) fn shortener(name: &str, visitors: &Arc<Visitors>) -> Subject {
    let visitors = Arc::clone(visitors);
    Subject::answer(name, move || {
        let (load, after) = (Arc::clone(&visitors), Arc::clone(&visitors));
        async move {
            let process = load.server.process();
            let visit = move |shot| {
                let load = Arc::clone(&load);
                async move { load.visit(shot).await }
            };
            let check = move |_| async move { after.counted().await };
            Ok(Ready::new(visit, check).served_by(process))
        }
    })
}

/// nginx with the same links. It counts nothing by itself, so there is nothing to hold against it.
pub(super) fn nginx(server: &Arc<Server>, keys: Keys) -> Subject {
    let visitors = Visitors::of(server, keys);
    Subject::peer("nginx map, buffered log", move || {
        let load = Arc::clone(&visitors);
        async move {
            let process = load.server.process();
            let visit = move |shot| {
                let load = Arc::clone(&load);
                async move { load.visit(shot).await }
            };
            Ok(Ready::new(visit, |_| async { Ok(()) }).served_by(process))
        }
    })
}

/// axum's hello world: the same request, to the one path it knows.
pub(super) fn hello_world(server: &Arc<Server>) -> Subject {
    let server = Arc::clone(server);
    Subject::peer("axum hello world", move || {
        let server = Arc::clone(&server);
        async move {
            let process = server.process();
            let greet = move |_| {
                let server = Arc::clone(&server);
                async move {
                    let request = |buffer: &mut Vec<u8>| {
                        buffer.extend_from_slice(b"GET / HTTP/1.1\r\n");
                        buffer.extend_from_slice(HEADERS.as_bytes());
                    };
                    let right = |reply: super::wire::Reply<'_>| reply.body == b"Hello, World!";
                    match server.wire.exchange(request, right).await {
                        Ok(true) => Ok("200"),
                        _ => Err("no greeting"),
                    }
                }
            };
            Ok(Ready::new(greet, |_| async { Ok(()) }).served_by(process))
        }
    })
}

/// Rows of an import that are written at once.
const ROWS_PER_PIECE: u64 = 100;

/// Sends rows for new links in one request, and makes sure that each was created.
pub(super) async fn import(server: &Server, first: u64, rows: u64) -> anyhow::Result<()> {
    let row = |number| format!("{{\"url\":\"{}\"}}\n", target(number));
    let body_bytes = row(first).len() as u64 * rows;
    let head = format!(
        "POST /v1/links/bulk HTTP/1.1\r\nhost: s\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {body_bytes}\r\n\r\n"
    );
    let (mut head, mut next) = (Some(head), first);
    let piece = |buffer: &mut Vec<u8>| {
        buffer.extend(head.take().unwrap_or_default().bytes());
        let end = (next + ROWS_PER_PIECE).min(first + rows);
        (next..end).for_each(|number| buffer.extend_from_slice(row(number).as_bytes()));
        next = end;
        !buffer.is_empty()
    };
    let mut created = 0;
    let count = |line: &[u8]| {
        let start = &line[..line.len().min(40)];
        created += u64::from(start.windows(12).any(|text| text == b"\"status\":201"));
    };
    Connection::converse(server.wire.address, piece, count).await?;
    ensure!(created == rows, "{created} of {rows} rows were created");
    Ok(())
}
