//! From a new socket to a connection that is followed: hello, who are you, where do you stand.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message as WsMessage, WebSocket};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frames::broken;
use super::{Connection, End, goodbye};
use crate::bus::{Bus, Event};
use crate::chat::{Error, SUMMARIES_MAX, Store};
use crate::hub::Handle;
use crate::ids::{ConversationId, Epoch, Seq};
use crate::mailbox::SessionId;
use crate::node::Node;
use crate::protocol::{
    CURSORS_MAX, ClientFrame, CloseCode, Cursor, HELLO_MS_MAX, Resume, ServerFrame, parse,
};
use crate::session::Session;
use crate::token::{Claims, Rejected};

/// Bytes a socket reads at once: several usual frames. Every idle connection has such a buffer.
pub(crate) const SOCKET_BUFFER_BYTES: usize = 1024;

/// A hello, as far as it matters after it was checked.
struct Hello {
    claims: Claims,
    epoch: Option<Epoch>,
    cursors: Vec<Cursor>,
    resume: Resume,
    credit: u32,
}

/// Opens a connection, or closes the socket with the reason.
pub(super) async fn open<S: Store, B: Bus>(
    node: Node<S, B>,
    mut socket: WebSocket,
    closing: &CancellationToken,
) -> Option<Connection<S, B>> {
    let hello =
        tokio::time::timeout(Duration::from_millis(HELLO_MS_MAX), hello(&node, &mut socket));
    let hello = tokio::select! {
        () = closing.cancelled() => Err(End::Close(CloseCode::GoingAway)),
        hello = hello => hello.unwrap_or(Err(End::Close(CloseCode::BadHello))),
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(End::Close(code)) => {
            goodbye(&mut socket, code).await;
            return None;
        }
        Err(End::Gone) => return None,
    };
    let mut connection = register(node, socket, &hello).await;
    match welcome(&mut connection, hello).await {
        Ok(()) => Some(connection),
        Err(end) => {
            connection.leave(end).await;
            None
        }
    }
}

async fn hello<S: Store, B: Bus>(node: &Node<S, B>, socket: &mut WebSocket) -> Result<Hello, End> {
    let text = loop {
        match socket.next().await {
            Some(Ok(WsMessage::Text(text))) => break text,
            Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_))) => {}
            Some(Ok(WsMessage::Binary(_))) => return Err(End::Close(CloseCode::BadHello)),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(WsMessage::Close(_))) | None => return Err(End::Gone),
        }
    };
    let Ok(ClientFrame::Hello { token, epoch, cursors, resume, credit }) = parse(&text) else {
        return Err(End::Close(CloseCode::BadHello));
    };
    if cursors.len() > CURSORS_MAX {
        return Err(End::Close(CloseCode::BadHello));
    }
    let claims = node.tokens.check(&token, node.clock.now_ms()).map_err(|rejected| {
        End::Close(match rejected {
            Rejected::Expired => CloseCode::Expired,
            Rejected::Invalid => CloseCode::Unauthorised,
        })
    })?;
    // A token outlives a removed device; the store knows.
    let devices = node.store.devices(claims.user.clone()).await;
    let devices = devices.map_err(|_| End::Close(CloseCode::TryLater))?;
    if devices.iter().all(|known| known.device != claims.device) {
        return Err(End::Close(CloseCode::Unauthorised));
    }
    Ok(Hello { claims, epoch, cursors, resume, credit })
}

/// From here on the hub puts what happens into the mailbox.
async fn register<S: Store, B: Bus>(
    node: Node<S, B>,
    socket: WebSocket,
    hello: &Hello,
) -> Connection<S, B> {
    let id = SessionId(uuid::Uuid::now_v7());
    let Claims { user, device, expires_ms } = hello.claims.clone();
    let handle = Arc::new(Handle::new(id, user.clone(), device.clone()));
    let is_first = node.hub.add(&handle);
    node.publish_lossy(Event::Connected { user: user.clone(), device, session: id }).await;
    if is_first {
        node.publish_lossy(Event::Presence { user, online: true }).await;
    }
    let now = Instant::now();
    let valid = Duration::from_millis(expires_ms.saturating_sub(node.clock.now_ms()));
    Connection {
        node,
        socket,
        handle,
        session: Session::new(id, hello.credit),
        doing: FuturesUnordered::new(),
        unsent: Vec::new(),
        appending: false,
        acks: Default::default(),
        acknowledging: false,
        histories: 0,
        watched: Vec::new(),
        errors: 0,
        heard: now,
        expires: now + valid,
        unflushed: false,
    }
}

/// Tells the client where it is, and the session where it stands, conversation by conversation.
async fn welcome<S: Store, B: Bus>(
    connection: &mut Connection<S, B>,
    hello: Hello,
) -> Result<(), End> {
    let epoch = connection.node.store.identity().epoch;
    let reset = hello.epoch.is_some_and(|known| known != epoch);
    let cursors: Vec<Cursor> = if hello.epoch == Some(epoch) { hello.cursors } else { Vec::new() };
    let Claims { user, device, .. } = hello.claims;
    let silence_ms_max = connection.node.settings.silence_ms;
    let welcome = ServerFrame::Welcome {
        user: user.clone(),
        device: device.clone(),
        epoch,
        reset,
        silence_ms_max,
    };
    connection.tell(&welcome).await?;
    let mut after: Option<ConversationId> = None;
    loop {
        let store = Arc::clone(&connection.node.store);
        let page = store.summaries(user.clone(), device.clone(), after, SUMMARIES_MAX).await;
        let page = page.map_err(|error: Error| {
            tracing::warn!(%error, "a connection was not opened");
            End::Close(CloseCode::TryLater)
        })?;
        for summary in &page.items {
            let cursor = cursors.iter().find(|c| c.conversation == summary.conversation);
            // After a reset the device has nothing, whatever it acknowledged in another life.
            let cursor: Option<Seq> = cursor.map(|cursor| cursor.seq);
            connection.session.track(summary, cursor, hello.resume);
        }
        after = page.items.last().map(|summary| summary.conversation);
        let complete = !page.has_more;
        connection.tell(&ServerFrame::Conversations { items: page.items, complete }).await?;
        if complete {
            return Ok(());
        }
    }
}
