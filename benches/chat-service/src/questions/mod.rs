//! An interviewer's follow-up questions about the chat service.

mod broker_as_inbox;
mod large_group;
mod offline_for_a_week;
mod server_dies;
mod slow_phone;
mod textbook;
mod two_devices;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chat_service::bus::Bus;
use chat_service::bus::local::Local;
use chat_service::chat::{APPEND_MAX, NewMessage};
use chat_service::client::{Api, Device, Ended, Socket};
use chat_service::protocol::{Resume, ServerFrame};
use chat_service::{ClientId, ConversationId, Node, NodeSettings, Store, UserId, http};
use service::{Clock, Readiness, Shutdown};

use measure::Question;

/// In the order an interviewer would ask them.
pub(super) fn questions() -> Vec<Question> {
    vec![
        textbook::question(),
        unread::question(),
        offline_for_a_week::question(),
        server_dies::question(),
        two_devices::question(),
        large_group::question(),
        slow_phone::question(),
        broker_as_inbox::question(),
    ]
}

const PASSWORD: &str = "correct horse battery";
/// Longest wait for one frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in this process, on a free port.
pub(super) struct Server {
    pub(super) base: String,
    shutdown: Shutdown,
}

impl Server {
    async fn start<S: Store, B: Bus>(store: Arc<S>, bus: Arc<B>) -> anyhow::Result<Self> {
        Self::start_with(store, bus, NodeSettings::default(), Clock::system()).await
    }

    pub(super) async fn alone<S: Store>(store: Arc<S>) -> anyhow::Result<Self> {
        Self::start(store, Arc::new(Local::default())).await
    }

    async fn start_with<S: Store, B: Bus>(
        store: Arc<S>,
        bus: Arc<B>,
        settings: NodeSettings,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let shutdown = Shutdown::new().with_deadline(Duration::from_secs(2));
        let settings = NodeSettings {
            sends_per_second: 1_000_000,
            send_burst: 1_000_000,
            connects_per_minute: 0,
            cheap_passwords: true,
            ..settings
        };
        let node = Node::start(store, bus, clock, settings, shutdown.closing()).await?;
        let router = http::router(node, Readiness::new(&shutdown));
        let router = service::harden(router, service::Limits::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let stopping = shutdown.clone();
        tokio::spawn(async move { service::serve(listener, router, stopping).await });
        Ok(Self { base, shutdown })
    }

    pub(super) fn api(&self) -> Api {
        Api::new(&self.base)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

pub(super) async fn enter(api: &Api, user: &str, device: &str) -> anyhow::Result<String> {
    Ok(api.enter(user, PASSWORD, device).await?)
}

/// Connects a device and takes in everything up to and including `welcome`.
pub(super) async fn connect(
    base: &str,
    device: &mut Device,
    resume: Resume,
) -> anyhow::Result<Socket> {
    let mut socket = Socket::connect(base, &device.hello(resume)).await?;
    let welcome = frame(&mut socket).await?;
    device.hear(welcome);
    Ok(socket)
}

async fn frame(socket: &mut Socket) -> anyhow::Result<ServerFrame> {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await;
    Ok(next.context("nothing was heard")?.map_err(|ended: Ended| ended)?)
}

/// Hears until `done`; acknowledges and gives credit on the way. Returns the sequences pushed.
async fn hear(
    socket: &mut Socket,
    device: &mut Device,
    mut done: impl FnMut(&ServerFrame) -> bool,
) -> anyhow::Result<Vec<u64>> {
    let mut pushed = Vec::new();
    loop {
        let mut next = Some(frame(socket).await?);
        while let Some(frame) = next {
            if let ServerFrame::Message(message) = &frame {
                pushed.push(message.seq.0);
            }
            let is_done = done(&frame);
            device.hear(frame);
            if is_done {
                socket.send_all(&device.due()).await?;
                return Ok(pushed);
            }
            next = socket.try_next().transpose()?;
        }
        let due = device.due();
        if !due.is_empty() {
            socket.send_all(&due).await?;
        }
    }
}

/// Writes messages straight into the store: to set a scene, not to measure.
pub(super) async fn fill<S: Store>(
    store: &S,
    sender: &str,
    conversation: ConversationId,
    count: usize,
    at_ms: impl Fn(usize) -> u64,
) -> anyhow::Result<()> {
    let sender = UserId::new(sender)?;
    let text: Arc<str> = "x".repeat(200).into();
    let message = |index| NewMessage {
        conversation,
        sender: sender.clone(),
        client_id: ClientId::fresh(),
        text: Arc::clone(&text),
        now_ms: at_ms(index),
    };
    let mut from = 0;
    while from < count {
        let to = count.min(from + APPEND_MAX);
        for result in store.append((from..to).map(message).collect()).await {
            result?;
        }
        from = to;
    }
    Ok(())
}

/// The p-th percentile of what was measured.
fn percentile(times: &mut [Duration], p: f64) -> Duration {
    times.sort_unstable();
    let at = ((times.len() as f64 - 1.0) * p / 100.0).round() as usize;
    times.get(at).copied().unwrap_or_default()
}
