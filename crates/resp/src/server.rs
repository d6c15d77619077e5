//! Sockets to requests, and replies back: one task per connection.
//!
//! Requests that arrived together are answered together: everything that is whole in the buffer is
//! read before the replies are flushed. That is all that pipelining asks of a server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::frame::{self, Malformed, Reply, Version};

/// More connections wait to be accepted. Each may hold a request and a reply buffer.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Replies are sent when so much has gathered, however many requests are still unanswered: a client
/// that pipelines without reading fills its own socket and not our memory.
const FLUSH_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;
/// Pause after a failed accept: without file descriptors, trying again at once only burns a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections and has `talk` hold each of them, until it is dropped; connections are
/// dropped with it, wherever they are.
pub async fn serve<Talk, Talking>(listener: TcpListener, talk: Talk)
where
    Talk: Fn(Connection) -> Talking,
    Talking: Future<Output = io::Result<()>> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let accepted = listener.accept().await;
        let Ok(connection) = accepted.and_then(|(socket, _)| Connection::new(socket)) else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let talking = talk(connection);
        connections.spawn(async move {
            let _permit = permit;
            // A client that goes away in the middle is no event.
            let _ = talking.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A client, what it sent and is not yet read, and what is not yet sent to it.
pub struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` whose requests were read.
    done: usize,
    output: Vec<u8>,
}

impl Connection {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Vec::with_capacity(READ_BYTES), done: 0, output: Vec::new() })
    }

    /// Sends the replies that gathered and waits for more of the client. `false` when it has no
    /// more to say.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn turn(&mut self) -> io::Result<bool> {
        self.flush().await?;
        self.input.drain(..std::mem::take(&mut self.done));
        // A buffer that was needed once for a large request is not kept for ever.
        if self.input.is_empty() && self.input.capacity() > 4 * READ_BYTES {
            self.input = Vec::with_capacity(READ_BYTES);
        }
        self.input.reserve(READ_BYTES);
        Ok(self.socket.read_buf(&mut self.input).await? > 0)
    }

    /// The requests that are here, and where their replies go. A request that was taken is read,
    /// and may be held on to while the next ones are.
    pub fn parts(&mut self) -> (Requests<'_>, Replies<'_>) {
        let requests = Requests { input: &self.input, done: &mut self.done };
        (requests, Replies { socket: &mut self.socket, output: &mut self.output })
    }

    /// Sends the replies that gathered, and says that there are no more.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn end(mut self) -> io::Result<()> {
        self.flush().await?;
        self.socket.shutdown().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.socket.write_all(&self.output).await?;
            self.output.clear();
        }
        Ok(())
    }
}

/// The whole requests of a buffer, each as its arguments, the first being the command's name.
/// Behind one that is malformed there are no others.
pub struct Requests<'a> {
    input: &'a [u8],
    done: &'a mut usize,
}

impl<'a> Iterator for Requests<'a> {
    type Item = Result<Vec<&'a [u8]>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let buffer = &self.input[*self.done..];
            let request = match frame::parse(buffer) {
                Ok(request) => request?,
                Err(malformed) => {
                    *self.done = self.input.len();
                    return Some(Err(malformed));
                }
            };
            *self.done += request.bytes;
            // An empty line asks for nothing.
            if !request.arguments.is_empty() {
                let argument = |range: std::ops::Range<usize>| &buffer[range];
                return Some(Ok(request.arguments.into_iter().map(argument).collect()));
            }
        }
    }
}

/// Where replies gather.
pub struct Replies<'a> {
    socket: &'a mut TcpStream,
    output: &'a mut Vec<u8>,
}

impl Replies<'_> {
    /// Adds a reply, and sends what has gathered whenever it is much.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn push(&mut self, reply: &Reply, version: Version) -> io::Result<()> {
        self.push_head(reply, version).await?;
        match reply {
            // Replies nest no deeper than one level, so this is no recursion.
            Reply::Array(replies) => {
                for reply in replies {
                    self.push_head(reply, version).await?;
                }
            }
            Reply::Map(pairs) => {
                for (name, reply) in pairs {
                    self.push_head(&Reply::text(name), version).await?;
                    self.push_head(reply, version).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn push_head(&mut self, reply: &Reply, version: Version) -> io::Result<()> {
        frame::encode_head(reply, version, self.output);
        if self.output.len() >= FLUSH_BYTES {
            self.socket.write_all(self.output).await?;
            self.output.clear();
        }
        Ok(())
    }
}
