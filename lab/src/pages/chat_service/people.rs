//! The people of the page, and the network between each of them and the servers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use chat_service::chat::Identity;
use chat_service::token::{Claims, TOKEN_MS, Tokens};
use faultline::{Fault, Proxy};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::Problem;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Upstream;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The one device everybody has here.
pub(super) const DEVICE: &str = "lab-page";
/// A slow network: this much later each way, and no more bytes than this.
const SLOW: [Fault; 2] = [
    Fault::Latency { delay: Duration::from_millis(700) },
    Fault::Bandwidth { bytes_per_second: 8 * 1024 },
];
/// How long a connection to a server may take; a slow network answers within it.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// "Try again later", for a person who reaches no server.
const CLOSE_TRY_AGAIN: u16 = 1013;

/// What a person's network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Network {
    Good,
    Slow,
    Offline,
}

/// Somebody, and a proxy to each server, the nearest first.
pub(super) struct Person {
    name: &'static str,
    proxies: Vec<Proxy>,
    network: Mutex<Network>,
}

/// Everybody.
pub(super) struct People(Vec<Person>);

/// What the page is told of somebody.
#[derive(Serialize)]
pub(super) struct Member {
    name: &'static str,
    token: String,
}

impl People {
    pub(super) async fn start(
        people: &[(&'static str, usize)],
        servers: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for &(name, nearest) in people {
            let mut proxies = Vec::new();
            for offset in 0..servers.len() {
                let server = servers[(nearest + offset) % servers.len()];
                proxies.push(Proxy::start(server).await.context("a proxy")?);
            }
            all.push(Person { name, proxies, network: Mutex::new(Network::Good) });
        }
        Ok(Self(all))
    }

    pub(super) fn person(&self, name: &str) -> Result<&Person, Problem> {
        let person = self.0.iter().find(|person| person.name == name);
        person.ok_or_else(|| Problem::not_found(format!("there is nobody called {name}")))
    }

    pub(super) fn networks(&self) -> Vec<Value> {
        let network =
            |person: &Person| json!({"name": person.name, "network": *person.network.lock()});
        self.0.iter().map(network).collect()
    }

    /// Everybody with a token, as a login gives it.
    pub(super) fn members(
        &self,
        identity: &Identity,
        now_ms: u64,
    ) -> Result<Vec<Member>, chat_service::Error> {
        let tokens = Tokens::new(&identity.token_key);
        let member = |person: &Person| {
            let (user, device) = (person.name.parse()?, DEVICE.parse()?);
            let claims = Claims { user, device, expires_ms: now_ms + TOKEN_MS };
            Ok(Member { name: person.name, token: tokens.sign(&claims) })
        };
        self.0.iter().map(member).collect()
    }
}

impl Person {
    pub(super) fn switch(&self, network: Network) {
        let mut now = self.network.lock();
        *now = network;
        for proxy in &self.proxies {
            proxy.clear();
            match network {
                Network::Good => proxy.heal(),
                Network::Slow => SLOW.into_iter().for_each(|fault| proxy.set(fault)),
                Network::Offline => proxy.cut(),
            }
        }
    }

    /// Where the servers are, through this person's network.
    pub(super) fn lines(&self) -> Vec<SocketAddr> {
        self.proxies.iter().map(Proxy::addr).collect()
    }
}

type Line = WebSocketStream<TcpStream>;

/// The first server that answers.
async fn connect(lines: &[SocketAddr]) -> Option<Line> {
    for line in lines {
        let connecting = async {
            let stream = TcpStream::connect(line).await.ok()?;
            stream.set_nodelay(true).ok()?;
            Some(client_async(format!("ws://{line}/v1/socket"), stream).await.ok()?.0)
        };
        if let Ok(Some(line)) = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await {
            return Some(line);
        }
    }
    None
}

/// Carries frames both ways until one side ends; a close code of the server is passed on.
pub(super) async fn relay(mut page: WebSocket, lines: Vec<SocketAddr>) {
    let code = match connect(&lines).await {
        Some(mut line) => carry(&mut page, &mut line).await,
        None => Some((CLOSE_TRY_AGAIN, "no server answers".to_owned())),
    };
    if let Some((code, reason)) = code {
        let close = CloseFrame { code, reason: reason.into() };
        // The page may have gone; then nobody needs to be told.
        drop(page.send(Message::Close(Some(close))).await);
    }
}

/// Why the server's side ended; `None` when the page's did.
async fn carry(page: &mut WebSocket, line: &mut Line) -> Option<(u16, String)> {
    let broken = || Some((CLOSE_TRY_AGAIN, "the connection broke".to_owned()));
    loop {
        tokio::select! {
            frame = page.recv() => match frame {
                Some(Ok(Message::Text(text))) => {
                    if line.send(Upstream::text(text.as_str())).await.is_err() {
                        return broken();
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            },
            frame = line.next() => match frame {
                Some(Ok(Upstream::Text(text))) => {
                    page.send(Message::text(text.as_str())).await.ok()?;
                }
                Some(Ok(Upstream::Close(Some(close)))) => {
                    return Some((close.code.into(), close.reason.to_string()));
                }
                Some(Ok(Upstream::Close(None)) | Err(_)) | None => return broken(),
                Some(Ok(_)) => {}
            },
        }
    }
}
