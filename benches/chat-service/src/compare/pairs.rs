//! Pairs of people with a connection each: one writes, the other acknowledges.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_service::client::{Device, Ended, Heard, Socket};
use chat_service::protocol::{ClientFrame, Resume};
use chat_service::{ClientId, ConversationId, Seq, Store};
use tokio::sync::{mpsc, oneshot};

use crate::questions::{Server, connect, enter};
use measure::harness::Outcome;

/// Pairs; each has a conversation of its own.
const PAIRS: usize = 32;
/// Credit of every device: a window that is never the limit here.
const CREDIT: u32 = 2_048;
/// Longest wait for the last messages of a run.
const SETTLE: Duration = Duration::from_secs(10);

/// Who waits for which message to arrive at the other end.
type Waiting = Arc<Mutex<HashMap<ClientId, oneshot::Sender<()>>>>;

struct Pair {
    outbox: mpsc::Sender<oneshot::Sender<()>>,
    seen: Arc<Seen>,
}

/// What the two ends of a pair have seen.
#[derive(Default)]
struct Seen {
    sent: AtomicU64,
    arrived: AtomicU64,
    /// Messages that were not the next one in line, or came again.
    out_of_line: AtomicU64,
    duplicates: AtomicU64,
}

/// Everybody, and the server between them.
pub(super) struct Pairs {
    pairs: Vec<Pair>,
    _server: Server,
}

impl Pairs {
    pub(super) async fn connected<S: Store>(store: Arc<S>) -> anyhow::Result<Self> {
        let server = Server::alone(store).await?;
        let (api, base) = (server.api(), server.base.clone());
        let text: Arc<str> = "x".repeat(200).into();
        let mut pairs = Vec::new();
        for number in 0..PAIRS {
            let (one, other) = (format!("one{number}"), format!("other{number}"));
            let writer = enter(&api, &one, "laptop").await?;
            let reader = enter(&api, &other, "phone").await?;
            let conversation = api.direct(&writer, &other).await?;
            let mut writer = Device::new(writer, CREDIT);
            let mut reader = Device::new(reader, CREDIT);
            let writing = connect(&base, &mut writer, Resume::Missed).await?;
            let reading = connect(&base, &mut reader, Resume::Missed).await?;
            let (outbox, orders) = mpsc::channel(CREDIT as usize);
            let (seen, waiting) = (Arc::new(Seen::default()), Waiting::default());
            let end = Writer { conversation, device: writer, socket: writing, seen: seen.clone() };
            tokio::spawn(write(end, orders, text.clone(), Arc::clone(&waiting)));
            tokio::spawn(read(reader, reading, seen.clone(), waiting));
            pairs.push(Pair { outbox, seen });
        }
        Ok(Self { pairs, _server: server })
    }

    /// Sends one message and returns when it has arrived at the other end.
    pub(super) async fn send(&self, number: u64) -> Outcome {
        let pair = &self.pairs[number as usize % PAIRS];
        let (arrived, arrival) = oneshot::channel();
        pair.outbox.send(arrived).await.map_err(|_| "disconnected")?;
        arrival.await.map_err(|_| "disconnected")?;
        Ok("arrived")
    }

    /// Everything that was sent has arrived, once, in order, and was answered.
    pub(super) async fn check(&self, counted: u64) -> Result<(), String> {
        let sum = |of: fn(&Seen) -> &AtomicU64| -> u64 {
            self.pairs.iter().map(|pair| of(&pair.seen).load(Ordering::Relaxed)).sum()
        };
        let deadline = tokio::time::Instant::now() + SETTLE;
        let settled = || sum(|seen| &seen.sent) == sum(|seen| &seen.arrived);
        while !settled() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (sent, arrived) = (sum(|seen| &seen.sent), sum(|seen| &seen.arrived));
        let (odd, again) = (sum(|seen| &seen.out_of_line), sum(|seen| &seen.duplicates));
        let is_right = sent == arrived && arrived >= counted && odd == 0 && again == 0;
        is_right.then_some(()).ok_or_else(|| {
            format!(
                "{counted} were counted, {sent} answered, {arrived} arrived, {odd} of them out of \
                 line, {again} twice in the log"
            )
        })
    }
}

struct Writer {
    conversation: ConversationId,
    device: Device,
    socket: Socket,
    seen: Arc<Seen>,
}

/// Writes what is asked for, everything that waits in one go, until nobody asks any more.
async fn write(
    mut end: Writer,
    mut orders: mpsc::Receiver<oneshot::Sender<()>>,
    text: Arc<str>,
    waiting: Waiting,
) -> Result<(), Ended> {
    let mut asked = Vec::new();
    loop {
        tokio::select! {
            count = orders.recv_many(&mut asked, CREDIT as usize) => {
                if count == 0 {
                    end.socket.close().await;
                    return Ok(());
                }
                let mut frames = Vec::with_capacity(count);
                {
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    for arrived in asked.drain(..) {
                        let frame = end.device.write(end.conversation, &text);
                        if let ClientFrame::Send { client_id, .. } = &frame {
                            waiting.insert(*client_id, arrived);
                        }
                        frames.push(frame);
                    }
                }
                end.socket.send_all(&frames).await?;
            }
            frame = end.socket.next() => {
                let mut next = Some(frame?);
                while let Some(frame) = next {
                    if let Heard::Sent { duplicate, .. } = end.device.hear(frame) {
                        end.seen.sent.fetch_add(1, Ordering::Relaxed);
                        end.seen.duplicates.fetch_add(u64::from(duplicate), Ordering::Relaxed);
                    }
                    next = end.socket.try_next().transpose()?;
                }
            }
        }
    }
}

/// Reads and acknowledges, as much as came at once with one frame.
async fn read(
    mut device: Device,
    mut socket: Socket,
    seen: Arc<Seen>,
    waiting: Waiting,
) -> Result<(), Ended> {
    let mut last = Seq(0);
    loop {
        let mut next = Some(socket.next().await?);
        while let Some(frame) = next {
            match device.hear(frame) {
                Heard::New(message) => {
                    let is_next = message.seq == last.next();
                    seen.out_of_line.fetch_add(u64::from(!is_next), Ordering::Relaxed);
                    last = message.seq;
                    seen.arrived.fetch_add(1, Ordering::Relaxed);
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(arrived) = waiting.remove(&message.client_id) {
                        let _gone = arrived.send(());
                    }
                }
                Heard::Again(_) => {
                    seen.out_of_line.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            next = socket.try_next().transpose()?;
        }
        socket.send_all(&device.due()).await?;
    }
}
