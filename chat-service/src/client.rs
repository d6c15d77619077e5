//! The other end: what a correct client does. The terminal, the demonstration, the tests and the
//! load generator all use it.
//!
//! [`Device`] is the pure part: cursors, what is not yet known to be sent, what to acknowledge. It
//! survives its connections; [`Socket`] does not. [`Api`] is the REST side.

mod api;
mod device;
mod witness;

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as WsMessage};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::protocol::{ClientFrame, ServerFrame};

pub use api::{Api, ApiError};
pub use device::{Device, Heard};
pub use witness::{Witness, text_of};

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The server closed, and said why.
    #[error("closed by the server: {code} {reason}")]
    Closed {
        /// The close code; [`CloseCode::may_reconnect`](crate::protocol::CloseCode::may_reconnect)
        /// says what to do.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The connection broke: reconnect.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl From<tungstenite::Error> for Ended {
    fn from(error: tungstenite::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Ended {
    /// Whether to connect again.
    pub fn may_reconnect(&self) -> bool {
        match self {
            Self::Closed { code, .. } => crate::protocol::CloseCode::may_reconnect(*code),
            Self::Broken(_) => true,
        }
    }
}

/// One connection.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Connects to the server at `base` (`http://host:port[/path]`) and says hello.
    ///
    /// # Errors
    /// [`Ended::Broken`] when there is no connection to be had.
    pub async fn connect(base: &str, hello: &ClientFrame) -> Result<Self, Ended> {
        let mut socket = Self::connect_silently(base).await?;
        socket.send(hello).await?;
        Ok(socket)
    }

    /// Connects and says nothing yet.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_silently(base: &str) -> Result<Self, Ended> {
        let rest = base.trim_end_matches('/').trim_start_matches("http://");
        let host = rest.split('/').next().unwrap_or(rest);
        let stream = TcpStream::connect(host).await.map_err(|e| Ended::Broken(e.to_string()))?;
        // Without this Nagle's algorithm holds a small frame back for the peer's delayed ACK.
        stream.set_nodelay(true).map_err(|error| Ended::Broken(error.to_string()))?;
        Self::over(stream, &format!("ws://{rest}/v1/socket")).await
    }

    /// Speaks over a TCP stream that is connected already.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn over(stream: TcpStream, url: &str) -> Result<Self, Ended> {
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
        let (stream, _) = client_async_with_config(url, stream, Some(config)).await?;
        Ok(Self { stream })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), Ended> {
        Ok(self.stream.send(text(frame)).await?)
    }

    /// Sends several frames with one write.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn send_all(&mut self, frames: &[ClientFrame]) -> Result<(), Ended> {
        for frame in frames {
            self.stream.feed(text(frame)).await?;
        }
        Ok(self.stream.flush().await?)
    }

    /// Sends text as it is: for tests that misbehave.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn send_text(&mut self, text: &str) -> Result<(), Ended> {
        Ok(self.stream.send(WsMessage::Text(text.into())).await?)
    }

    /// The next frame. Cancel safe.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn next(&mut self) -> Result<ServerFrame, Ended> {
        let text = self.next_text().await?;
        serde_json::from_str(&text)
            .map_err(|error| Ended::Broken(format!("not a frame: {error}: {text}")))
    }

    /// The next frame as it came. Cancel safe.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn next_text(&mut self) -> Result<tungstenite::Utf8Bytes, Ended> {
        loop {
            match self.stream.next().await {
                Some(Ok(WsMessage::Text(text))) => return Ok(text),
                Some(Ok(WsMessage::Close(frame))) => {
                    let frame = frame.ok_or_else(|| Ended::Broken("closed".to_owned()))?;
                    let (code, reason) = (frame.code.into(), frame.reason.to_string());
                    return Err(Ended::Closed { code, reason });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Ended::Broken("the connection ended".to_owned())),
            }
        }
    }

    /// The next frame if one has arrived.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn try_next(&mut self) -> Option<Result<ServerFrame, Ended>> {
        use futures::FutureExt;
        self.next().now_or_never()
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        // It may be gone already, which is what is wanted.
        drop(self.stream.close(None).await);
    }
}

fn text(frame: &ClientFrame) -> WsMessage {
    let json = serde_json::to_string(frame).expect("frames have string keys and no failing parts");
    WsMessage::Text(json.into())
}

/// A text as frames carry it.
pub fn words(text: &str) -> Arc<str> {
    Arc::from(text)
}
