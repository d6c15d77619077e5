//! The shell around a connection: it owns the socket, asks the pure [`session`](crate::session)
//! what to push, and hands everything slow to a future it does not wait for in line.
//!
//! The order on connecting is the point of the file: register with the hub *first*, then read
//! where the logs end. The other way round, a message between the two would be in neither.
//!
//! Memory of an idle connection: this task, an empty mailbox, and socket buffers of
//! [`SOCKET_BUFFER_BYTES`]. The WebSocket library's default is 128 KiB for reading alone.

mod opening;
mod frames;

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as WsMessage, WebSocket};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event};
use crate::chat::{APPEND_MAX, Error, Moved, NewMessage, Page, PageLimit, Store, Summaries};
use crate::hub::Handle;
use crate::ids::{ClientId, ConversationId, Seq, UserId};
use crate::mailbox::{Entry, Taken};
use crate::node::Node;
use crate::protocol::{ClientFrame, CloseCode, Resume, ServerFrame};
use crate::session::{Read, Session, Verdict};

pub(crate) use opening::SOCKET_BUFFER_BYTES;

/// Conversations with an acknowledgement that waits to be stored. Above it the client is told to
/// acknowledge again; it is cumulative, so nothing is lost.
const ACKS_MAX: usize = 512;
/// History pages being read for one connection.
const HISTORY_MAX: usize = 4;
/// Frames that are not as specified, before the connection is closed.
const ERRORS_MAX: u32 = 32;
/// Users one connection watches the presence of.
const WATCHED_MAX: usize = 256;
/// Pause before a page is read again after the store failed.
const READ_PAUSE: Duration = Duration::from_millis(100);
/// How long a goodbye may take.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a user stays online after the last connection ended: a tunnel is not a departure.
const LINGER: Duration = Duration::from_secs(3);

/// A store call that came back.
enum Done {
    /// The answers are in the mailbox. Not `known`: what became of some of it cannot be said.
    Appended {
        known: bool,
    },
    Moved(Vec<Result<Moved, Error>>),
    Read(Read, Result<Page, Error>),
    History(u64, ConversationId, Result<Page, Error>),
    Members(Vec<UserId>),
    Refused(Error),
    Resynced(Result<Summaries, Error>),
    Told,
}

type Doing = BoxFuture<'static, Done>;

/// What happened next.
enum Step {
    Frame(Option<Result<WsMessage, axum::Error>>),
    Mail(Taken),
    Done(Done),
    Timer,
    Closing,
}

struct Connection<S, B> {
    node: Node<S, B>,
    socket: WebSocket,
    handle: Arc<Handle>,
    session: Session,
    doing: FuturesUnordered<Doing>,
    /// Messages that wait for the append under way: batched, and kept in order.
    unsent: Vec<NewMessage>,
    appending: bool,
    acks: HashMap<ConversationId, Seq>,
    acknowledging: bool,
    histories: usize,
    watched: Vec<UserId>,
    errors: u32,
    heard: Instant,
    expires: Instant,
    /// Whether anything was fed to the socket since the last flush.
    unflushed: bool,
}

/// Why a connection ends.
enum End {
    /// With a code the client is told.
    Close(CloseCode),
    /// The client went, or the socket broke.
    Gone,
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve<S: Store, B: Bus>(
    node: Node<S, B>,
    socket: WebSocket,
    closing: CancellationToken,
) {
    metrics::counter!("chat_connections_total").increment(1);
    // Boxed, as the beginning and the end are over, or not yet, for nearly all of a connection's
    // life: the task then has room for the middle only.
    let Some(mut connection) = Box::pin(opening::open(node, socket, &closing)).await else {
        return;
    };
    let end = connection.run(&closing).await;
    Box::pin(connection.leave(end)).await;
}

impl<S: Store, B: Bus> Connection<S, B> {
    async fn run(&mut self, closing: &CancellationToken) -> End {
        let handle = Arc::clone(&self.handle);
        // Waited for from beginning to end, not anew for every message: to get in line takes a lock
        // that all connections share, and one message may wake ten thousand of them.
        let mut cancelled = std::pin::pin!(closing.cancelled());
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.deadline()));
        loop {
            if let Err(end) = self.settle().await {
                return end;
            }
            let may_take = self.unsent.len() < APPEND_MAX;
            let step = tokio::select! {
                biased;
                () = &mut cancelled => Step::Closing,
                Some(done) = self.doing.next(), if !self.doing.is_empty() => Step::Done(done),
                taken = handle.take() => Step::Mail(taken),
                frame = self.socket.next(), if may_take => Step::Frame(frame),
                () = &mut timer => Step::Timer,
            };
            let outcome = match step {
                Step::Closing => Err(End::Close(CloseCode::GoingAway)),
                Step::Done(done) => self.done(done).await,
                Step::Mail(taken) => self.mail(taken).await,
                Step::Frame(frame) => self.frames(frame).await,
                // Something was said since the timer was set.
                Step::Timer if self.deadline() > Instant::now() => {
                    timer.as_mut().reset(self.deadline());
                    Ok(())
                }
                Step::Timer => Err(End::Close(match Instant::now() >= self.expires {
                    true => CloseCode::Expired,
                    false => CloseCode::Silent,
                })),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.expires.min(self.heard + Duration::from_millis(self.node.settings.silence_ms))
    }

    /// Starts what can be started now, and lets the socket have what was fed.
    async fn settle(&mut self) -> Result<(), End> {
        self.start_append();
        self.start_acknowledge();
        self.start_read();
        if self.session.just_caught_up() {
            self.feed(ServerFrame::CaughtUp.to_json().into()).await?;
        }
        if self.unflushed {
            self.unflushed = false;
            self.within(|socket, cx| socket.poll_flush_unpin(cx)).await?;
        }
        Ok(())
    }

    /// Feeds a frame. Where the client does not read, this waits, and messages meanwhile overflow
    /// into catch-up mode; a client that takes nothing for too long is closed.
    async fn feed(&mut self, frame: axum::extract::ws::Utf8Bytes) -> Result<(), End> {
        self.unflushed = true;
        self.within(|socket, cx| socket.poll_ready_unpin(cx)).await?;
        Ok(self.socket.start_send_unpin(WsMessage::Text(frame))?)
    }

    async fn within(
        &mut self,
        mut write: impl FnMut(&mut WebSocket, &mut Context<'_>) -> Poll<Result<(), axum::Error>>,
    ) -> Result<(), End> {
        let slow = Duration::from_millis(self.node.settings.slow_ms);
        let socket = &mut self.socket;
        let mut writing = std::future::poll_fn(|cx| write(socket, cx));
        // Nearly always the socket has room: then no timer is set up.
        if let Some(written) = (&mut writing).now_or_never() {
            return Ok(written?);
        }
        match tokio::time::timeout(slow, writing).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(End::Close(CloseCode::Slow)),
        }
    }

    async fn tell(&mut self, frame: &ServerFrame) -> Result<(), End> {
        self.feed(frame.to_json().into()).await
    }

    fn start_append(&mut self) {
        if self.appending || self.unsent.is_empty() {
            return;
        }
        self.appending = true;
        let batch = std::mem::take(&mut self.unsent);
        let appending = tokio::spawn(self.node.clone().append(Arc::clone(&self.handle), batch));
        self.doing.push(Box::pin(async move {
            Done::Appended { known: appending.await.unwrap_or(false) }
        }));
    }

    fn start_acknowledge(&mut self) {
        if self.acknowledging || self.acks.is_empty() {
            return;
        }
        self.acknowledging = true;
        let cursors: Vec<_> = self.acks.drain().collect();
        let node = self.node.clone();
        let (user, device) = (self.handle.user.clone(), self.handle.device.clone());
        self.doing.push(Box::pin(async move {
            let results = node.store.acknowledge(user, device, cursors).await;
            tell_receipts(&node, &results).await;
            Done::Moved(results)
        }));
    }

    fn start_read(&mut self) {
        let Some(read) = self.session.next_read() else { return };
        let store = Arc::clone(&self.node.store);
        let user = self.handle.user.clone();
        self.doing.push(Box::pin(async move {
            let limit = PageLimit::messages(read.limit);
            let page = store.since(user, read.conversation, read.after, limit).await;
            if matches!(page, Err(Error::Unavailable { .. })) {
                tokio::time::sleep(READ_PAUSE).await;
            }
            Done::Read(read, page)
        }));
    }

    async fn mail(&mut self, taken: Taken) -> Result<(), End> {
        if let Some(code) = taken.close {
            return Err(End::Close(code));
        }
        if taken.resync {
            self.start_resync(None);
        }
        for conversation in taken.removed {
            if self.session.removed(conversation) {
                self.tell(&ServerFrame::Removed { conversation }).await?;
            }
        }
        for entry in taken.queue {
            match entry {
                Entry::Live(live) if self.session.live(&live) == Verdict::Push => {
                    self.feed(live.frame).await?;
                }
                Entry::Live(_) => {}
                Entry::Answer(frame) => {
                    if let ServerFrame::Sent { conversation, seq, .. } = frame {
                        self.session.sent(conversation, seq);
                    }
                    self.tell(&frame).await?;
                }
            }
        }
        for (conversation, last) in taken.behind {
            self.session.moved(conversation, last);
        }
        for receipt in taken.receipts {
            self.tell(&ServerFrame::Receipt(receipt)).await?;
        }
        for notice in taken.notices {
            self.tell(&notice.frame).await?;
        }
        Ok(())
    }

    async fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Appended { known } => {
                self.appending = false;
                if !known {
                    // Trap: with the connection left open, a message sent after the one that failed
                    // would get the place before its repetition. A client that reconnects sends
                    // everything again, in order.
                    return Err(End::Close(CloseCode::TryLater));
                }
            }
            Done::Moved(results) => {
                self.acknowledging = false;
                for error in results.into_iter().filter_map(Result::err) {
                    self.tell(&ServerFrame::refusal(&error, None, None)).await?;
                }
            }
            Done::Read(read, Ok(page)) => {
                for message in self.session.page(read, &page) {
                    self.tell(&ServerFrame::Message(message)).await?;
                }
            }
            Done::Read(read, Err(Error::Unavailable { .. })) => self.session.page_failed(read),
            Done::Read(read, Err(_)) => {
                self.session.page_failed(read);
                if self.session.removed(read.conversation) {
                    self.tell(&ServerFrame::Removed { conversation: read.conversation }).await?;
                }
            }
            Done::History(id, conversation, page) => {
                self.histories -= 1;
                let frame = match page {
                    Ok(Page { messages, has_more }) => {
                        ServerFrame::Page { id, conversation, messages, has_more }
                    }
                    Err(error) => ServerFrame::refusal(&error, None, Some(id)),
                };
                self.tell(&frame).await?;
            }
            Done::Members(users) => self.watch(users),
            Done::Refused(error) => {
                self.tell(&ServerFrame::refusal(&error, None, None)).await?;
            }
            Done::Resynced(Ok(summaries)) => self.resynced(&summaries),
            Done::Resynced(Err(_)) => self.start_resync(None),
            Done::Told => {}
        }
        Ok(())
    }

    /// Something may have been missed: every conversation's end is looked up again.
    fn start_resync(&mut self, after: Option<ConversationId>) {
        let store = Arc::clone(&self.node.store);
        let (user, device) = (self.handle.user.clone(), self.handle.device.clone());
        self.doing.push(Box::pin(async move {
            // Everybody was told at the same moment; without jitter everybody would ask at once.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
            Done::Resynced(store.summaries(user, device, after, crate::chat::SUMMARIES_MAX).await)
        }));
    }

    fn resynced(&mut self, summaries: &Summaries) {
        for summary in &summaries.items {
            self.session.track(summary, None, Resume::Missed);
        }
        if let (true, Some(last)) = (summaries.has_more, summaries.items.last()) {
            self.start_resync(Some(last.conversation));
        }
    }

    fn watch(&mut self, users: Vec<UserId>) {
        let room = WATCHED_MAX.saturating_sub(self.watched.len());
        let users: Vec<_> = users.into_iter().take(room).collect();
        self.node.hub.watch(&self.handle, &users);
        self.watched.extend(users.iter().cloned());
        let node = self.node.clone();
        self.doing.push(Box::pin(async move {
            node.publish_lossy(Event::Roll { users }).await;
            Done::Told
        }));
    }

    /// Says goodbye, and tells who watches that the user is gone, if they stay gone.
    async fn leave(mut self, end: End) {
        self.node.hub.remove(&self.handle);
        self.node.hub.unwatch(&self.handle, &self.watched);
        let (node, user) = (self.node.clone(), self.handle.user.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            if !node.hub.is_online(&user) {
                node.publish_lossy(Event::Presence { user, online: false }).await;
            }
        });
        if let End::Close(code) = end {
            metrics::counter!("chat_closed_total", "code" => (code as u16).to_string())
                .increment(1);
            // What was appended is told even now, so that the client need not ask again.
            while self.appending && code == CloseCode::GoingAway {
                let Some(done) = self.doing.next().await else { break };
                if self.done(done).await.is_err()
                    || self.mail(self.handle.take_now()).await.is_err()
                {
                    return;
                }
            }
            goodbye(&mut self.socket, code).await;
        }
    }
}

async fn goodbye(socket: &mut WebSocket, code: CloseCode) {
    let frame = CloseFrame { code: code as u16, reason: code.reason().into() };
    let closing = async {
        if socket.send(WsMessage::Close(Some(frame))).await.is_ok() {
            // Until the client answers: closing at once could throw away what it has not read.
            while let Some(Ok(_)) = socket.next().await {}
            // Trap: the rest of a frame that is too large is unread and stays so. A socket that is
            // closed with unread bytes is reset, and the reset takes the close frame with it.
            if code == CloseCode::TooLarge {
                tokio::time::sleep(GOODBYE_TIME_MAX).await;
            }
        }
    };
    drop(tokio::time::timeout(GOODBYE_TIME_MAX, closing).await);
}

async fn tell_receipts<S: Store, B: Bus>(node: &Node<S, B>, results: &[Result<Moved, Error>]) {
    let moved = results.iter().filter_map(|result| result.as_ref().ok());
    let receipts = moved.filter(|moved| moved.changed).map(|moved| {
        let (receipt, members_version) = (moved.receipt.clone(), moved.members_version);
        Event::Receipt { receipt, members_version }
    });
    node.publish_all_lossy(receipts.collect()).await;
}
