//! A redirect has three ways: the loop before hyper, hyper beside the router, and the router. The
//! same bytes get the same answer on each, and leave the same clicks.

use std::sync::Arc;

use serde_json::json;
use testkit::Seed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url_shortener::store::memory::Memory;

use crate::support::{App, Choices, app_on};

/// The last request of every conversation, so that each ends by itself.
const LAST: &str = "GET /plain HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
/// A request that the loop leaves to hyper, and the connection with it.
const TO_HYPER: &str = "GET /plain?q HTTP/1.1\r\nhost: h\r\n\r\n";

async fn service(beside_the_router: bool) -> App<Memory> {
    let app = app_on(Arc::default(), Choices { beside_the_router, ..Choices::default() }).await;
    for (alias, extra) in [
        ("plain", json!({})),
        ("permanent", json!({"redirect": 308})),
        ("limited", json!({"max_visits": 2})),
    ] {
        let mut body = json!({"url": "https://example.com/x?y=1", "alias": alias});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        app.client.create(body).await.code();
    }
    app
}

/// Sends the pieces, lets the server look at each, and returns all it answered until it closed.
async fn converse(app: &App<Memory>, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(app.client.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // After an error the server may have closed already; what it said is still to be read.
        let _ = stream.write_all(piece).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// The answer without what is different each time: dates, ids, and the lengths of documents that
/// hold an id.
fn steady(answer: &str) -> String {
    let of = |name: &str| -> Vec<&str> {
        answer.split(name).skip(1).map(|rest| rest.split("\r\n").next().unwrap()).collect()
    };
    let mut ids = of("x-request-id: ");
    ids.sort_by_key(|id| std::cmp::Reverse(id.len())); // one may be the beginning of another
    let mut steady = answer.to_owned();
    for different in ids.into_iter().chain(of("date: ")) {
        steady = steady.replace(different, "*");
    }
    let lines = steady.split("\r\n").map(|line| match line.starts_with("content-length: ") {
        true if line != "content-length: 0" => "content-length: *",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

struct Fronts {
    beside: App<Memory>,
    through: App<Memory>,
}

impl Fronts {
    async fn new() -> Self {
        Self { beside: service(true).await, through: service(false).await }
    }

    /// Whether all three ways answer these bytes alike.
    async fn agree_on(&self, pieces: &[&[u8]]) {
        let shown = || String::from_utf8_lossy(&pieces.concat()).into_owned();
        let router = steady(&converse(&self.through, pieces).await);
        let before_hyper = steady(&converse(&self.beside, pieces).await);
        assert_eq!(before_hyper, router, "before hyper, asked {}", shown());
        let after_another = [&[TO_HYPER.as_bytes()], pieces].concat();
        let router = steady(&converse(&self.through, &after_another).await);
        let hyper = steady(&converse(&self.beside, &after_another).await);
        assert_eq!(hyper, router, "beside the router, asked {}", shown());
    }

    /// Whether the same clicks were counted.
    async fn counted_alike(&self) {
        let mut counted = Vec::new();
        for app in [&self.beside, &self.through] {
            app.shortener.flush_clicks().await.unwrap();
            for code in ["plain", "permanent", "limited"] {
                let mut stats = app.client.get(&format!("/v1/links/{code}/stats")).await.json();
                // An estimate, with a secret of each installation's own.
                stats.as_object_mut().unwrap().remove("unique");
                for day in stats["days"].as_array_mut().unwrap() {
                    day.as_object_mut().unwrap().remove("unique");
                }
                counted.push(stats);
            }
        }
        let (beside, through) = counted.split_at(3);
        assert_eq!(beside, through);
        let made = |of: &str| beside[0][of].as_u64().unwrap();
        assert!(made("total") + made("bots") > 0, "{beside:?}");
    }
}

#[tokio::test]
async fn the_same_bytes_get_the_same_answer_by_every_way() {
    let fronts = Fronts::new().await;
    let long = "x".repeat(5_000);
    let many: String = (0..60).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let head = |start: &str, fields: &str| format!("{start}\r\nhost: h\r\n{fields}\r\n");
    for (start, fields) in [
        ("GET /plain HTTP/1.1", "user-agent: Firefox/144\r\nreferer: https://news.example/\r\n"),
        ("HEAD /plain HTTP/1.1", ""),
        ("GET /permanent HTTP/1.1", "Connection: Keep-Alive\r\n"),
        ("GET /limited HTTP/1.1", ""),
        ("GET /nothing HTTP/1.1", ""),
        ("GET /not.a.code HTTP/1.1", ""),
        ("GET /plain?utm=1 HTTP/1.1", ""),
        ("GET /pl%61in HTTP/1.1", ""),
        ("GET /plain/ HTTP/1.1", ""),
        ("GET //plain HTTP/1.1", ""),
        ("GET http://h/plain HTTP/1.1", ""),
        ("GET /plain HTTP/1.0", ""),
        ("GET /plain HTTP/1.1", "connection: close\r\n"),
        ("GET /plain HTTP/1.1", "expect: 100-continue\r\n"),
        ("GET /plain HTTP/1.1", "content-length: 0\r\n"),
        ("GET /plain HTTP/1.1", "content-length: 2\r\n\r\nhi"),
        ("GET /plain HTTP/1.1", "content-length: nonsense\r\n"),
        ("GET /plain HTTP/1.1", "transfer-encoding: chunked\r\n\r\n0\r\n"),
        ("GET /plain HTTP/1.1", "upgrade: websocket\r\nconnection: upgrade\r\n"),
        ("POST /plain HTTP/1.1", "content-length: 0\r\n"),
        ("DELETE /plain HTTP/1.1", ""),
        ("get /plain HTTP/1.1", ""),
        ("GET /plain HTTP/3.0", ""),
        ("GET  /plain HTTP/1.1", ""),
        ("GET /plain HTTP/1.1", "no colon\r\n"),
        ("GET /plain HTTP/1.1", "x: a\r\n folded\r\n"),
        ("GET /plain HTTP/1.1", "x : a\r\n"),
        ("GET /plain HTTP/1.1", "user-agent: \u{e9}t\u{e9}\r\n"),
        ("GET /healthz HTTP/1.1", ""),
        ("GET / HTTP/1.1", ""),
        ("\r\n\r\nGET /plain HTTP/1.1", ""),
        ("GET /plain HTTP/1.1", &format!("x-long: {long}\r\n")),
        ("GET /plain HTTP/1.1", &format!("x-long: {}\r\n", long.repeat(5))),
        ("GET /plain HTTP/1.1", &format!("x-long: {}\r\n", long.repeat(20))),
        ("GET /plain HTTP/1.1", &many),
    ] {
        let request = head(start, fields);
        fronts.agree_on(&[request.as_bytes(), LAST.as_bytes()]).await;
    }
    fronts.counted_alike().await;
}

#[tokio::test]
async fn pieces_and_pipelines_are_answered_in_order() {
    let fronts = Fronts::new().await;
    let first = "GET /permanent HTTP/1.1\r\nhost: h\r\n\r\n";
    let all = format!("{first}HEAD /plain HTTP/1.1\r\n\r\n{first}{TO_HYPER}{first}{LAST}");
    for cut in 1..all.len() {
        let (one, other) = all.as_bytes().split_at(cut);
        fronts.agree_on(&[one, other]).await;
    }
    let bytes: Vec<&[u8]> = all.as_bytes().chunks(1).collect();
    fronts.agree_on(&bytes).await;
    let hundred = format!("{}{LAST}", first.repeat(100));
    fronts.agree_on(&[hundred.as_bytes()]).await;
    fronts.counted_alike().await;
}

#[tokio::test]
async fn a_head_with_any_byte_changed_is_judged_alike() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let fronts = Fronts::new().await;
    let head = "GET /plain HTTP/1.1\r\nhost: h\r\nuser-agent: Firefox/144\r\n\
                connection: keep-alive\r\nx-request-id: mine\r\n\r\n";
    for _ in 0..400 {
        let mut bytes = head.as_bytes().to_vec();
        // The empty line stays, so that every head has an end.
        let at = rng.usize(..bytes.len() - 4);
        bytes[at] = rng.u8(..);
        fronts.agree_on(&[&bytes, LAST.as_bytes()]).await;
    }
    fronts.counted_alike().await;
}

#[tokio::test]
async fn an_id_is_taken_over_when_it_is_sane() {
    let fronts = Fronts::new().await;
    for (sent, kept) in [("trace-1.a_B", true), ("two words", false), ("\"quoted\"", false)] {
        let request = format!("GET /plain HTTP/1.1\r\nx-request-id: {sent}\r\n\r\n{LAST}");
        let answer = converse(&fronts.beside, &[request.as_bytes()]).await;
        assert_eq!(answer.contains(&format!("x-request-id: {sent}\r\n")), kept, "{answer}");
        assert_eq!(answer.matches("x-request-id: ").count(), 2, "{answer}");
    }
}
