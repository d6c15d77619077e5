//! How nodes talk: each tells every peer what changed, over a connection of its own, and remembers
//! how far the peer has acknowledged. What is lost is told again.
//!
//! A frame is its length in four bytes and a JSON document: a [`Tale`] one way, a [`Heard`] back.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Node, Peers};
use crate::clock::Clock;
use crate::gossip::{Actor, News};

/// A longer frame is refused and the connection closed. Room for the news of one message, all with
/// the longest keys and a few dozen actors.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Peers that may talk to us at once.
const CONNECTIONS_MAX: usize = 1_024;
/// A peer that does not answer within so many intervals is reconnected to.
const INTERVALS_OF_PATIENCE: u32 = 10;
/// A life that was silent for so many intervals no longer counts in the staleness.
const INTERVALS_TO_FORGET: u32 = 600;

/// What a node tells: its counters that changed. Without any it is a sign of life.
#[derive(Serialize, Deserialize)]
struct Tale {
    from: Actor,
    news: Vec<News>,
}

/// Who heard it.
#[derive(Serialize, Deserialize)]
struct Heard {
    by: Actor,
}

/// Starts the tasks of a node; they end when it is dropped.
pub(super) fn talk<C: Clock>(
    node: &Arc<Node<C>>,
    listener: TcpListener,
    peers: Peers,
    interval: Duration,
    ended: watch::Receiver<()>,
) {
    tokio::spawn(until(ended.clone(), listen(Arc::downgrade(node), listener)));
    tokio::spawn(until(ended, tell_all(Arc::downgrade(node), peers, interval)));
}

async fn until(mut ended: watch::Receiver<()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        // The sender is dropped with the node.
        _ = ended.changed() => {}
    }
}

async fn listen<C: Clock>(node: Weak<Node<C>>, listener: TcpListener) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let node = Weak::clone(&node);
        connections.spawn(async move {
            let _permit = permit;
            // A peer that goes away in the middle comes back and tells it again.
            let _ = answer(node, stream).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer<C: Clock>(node: Weak<Node<C>>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let Tale { from, news } = read(&mut stream).await?;
        let Some(node) = node.upgrade() else { return Ok(()) };
        node.hear(from, &news);
        let by = node.ledger.lock().actor();
        drop(node);
        write(&mut stream, &Heard { by }).await?;
    }
}

/// One task per peer, for as long as it is one.
async fn tell_all<C: Clock>(node: Weak<Node<C>>, mut peers: Peers, interval: Duration) {
    let mut telling: HashMap<SocketAddr, Telling> = HashMap::new();
    loop {
        let now: Vec<_> = peers.borrow_and_update().clone();
        telling.retain(|peer, _| now.contains(peer));
        for peer in now {
            let tell = || Telling(tokio::spawn(tell(Weak::clone(&node), peer, interval)));
            telling.entry(peer).or_insert_with(tell);
        }
        let changed = tokio::select! {
            changed = peers.changed() => changed.is_ok(),
            () = tokio::time::sleep(interval) => true,
        };
        let Some(node) = node.upgrade() else { return };
        node.forget(interval * INTERVALS_TO_FORGET);
        drop(node);
        if !changed {
            // The list is final; the node goes on talking.
            tokio::time::sleep(interval).await;
        }
    }
}

/// A task that ends with its peer.
struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a peer has acknowledged: how much, and in which of its lives.
#[derive(Default)]
struct Told {
    up_to: u64,
    life: Option<Actor>,
}

async fn tell<C: Clock>(node: Weak<Node<C>>, peer: SocketAddr, interval: Duration) {
    let mut told = Told::default();
    let patience = interval * INTERVALS_OF_PATIENCE;
    while node.strong_count() > 0 {
        if let Ok(Ok(stream)) = timeout(patience, TcpStream::connect(peer)).await {
            let ended = tell_over(&node, stream, interval, &mut told).await;
            tracing::debug!(%peer, ?ended, "a peer cannot be told any more");
        }
        tokio::time::sleep(interval).await;
    }
}

async fn tell_over<C: Clock>(
    node: &Weak<Node<C>>,
    mut stream: TcpStream,
    interval: Duration,
    told: &mut Told,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let Some((tale, up_to)) = next_tale(node, told.up_to) else { return Ok(()) };
        let more = tale.news.len() == crate::gossip::NEWS_MAX;
        let exchange = async {
            write(&mut stream, &tale).await?;
            read::<Heard>(&mut stream).await
        };
        let Heard { by } = timeout(interval * INTERVALS_OF_PATIENCE, exchange).await??;
        // Somebody else under the same address has heard nothing of what was told before.
        let same = told.life.replace(by).is_none_or(|life| life == by);
        told.up_to = if same { up_to } else { 0 };
        if same && !more {
            tokio::time::sleep(interval).await;
        }
    }
}

fn next_tale<C: Clock>(node: &Weak<Node<C>>, after: u64) -> Option<(Tale, u64)> {
    let node = node.upgrade()?;
    let ledger = node.ledger.lock();
    let (news, up_to) = ledger.news(after);
    Some((Tale { from: ledger.actor(), news }, up_to))
}

async fn write(stream: &mut TcpStream, message: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame).await
}

async fn read<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let length = stream.read_u32().await? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut frame = Vec::new();
    // Not allocated before it is there: a length is only a claim.
    stream.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&frame)?)
}
