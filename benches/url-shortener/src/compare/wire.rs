//! A small HTTP/1.1 client for load: keep-alive, no pipelining, and nothing allocated for a
//! request but what grows a buffer once. A client that costs more than the server measures itself.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest response that is read.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Connections to one server, as many as there are requests at once.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response, as it lies in the buffer.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    head: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Wire {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Sends what `write` writes and gives the whole response to `read`.
    pub(super) async fn exchange<T>(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(Reply<'_>) -> T,
    ) -> Result<T> {
        let idle = self.idle.lock().expect("no panic under this lock").pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::to(self.address).await?,
        };
        connection.buffer.clear();
        write(&mut connection.buffer);
        let answer = connection.exchange(read).await?;
        self.idle.lock().expect("no panic under this lock").push(connection);
        Ok(answer)
    }
}

impl Connection {
    async fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(2048) })
    }

    async fn exchange<T>(&mut self, read: impl FnOnce(Reply<'_>) -> T) -> Result<T> {
        self.stream.write_all(&self.buffer).await?;
        self.buffer.clear();
        let head_bytes = loop {
            let searched = self.buffer.len().saturating_sub(3);
            self.fill().await?;
            let end = self.buffer[searched..].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break searched + end + 4;
            }
        };
        let head = &self.buffer[..head_bytes];
        let status = head.get(9..12).and_then(|text| std::str::from_utf8(text).ok());
        let status = status.and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| Error::other("no status line"))?;
        let end = match field(head, b"content-length") {
            Some(length) => head_bytes + number(length)?,
            None if field(head, b"transfer-encoding").is_some() => {
                self.read_to_last_chunk().await?
            }
            None => head_bytes,
        };
        while self.buffer.len() < end {
            self.fill().await?;
        }
        let (head, body) = self.buffer[..end].split_at(head_bytes);
        Ok(read(Reply { status, head, body }))
    }

    /// Reads until the chunk of no bytes; nothing follows it, since requests are not pipelined.
    async fn read_to_last_chunk(&mut self) -> Result<usize> {
        while !self.buffer.ends_with(b"\r\n0\r\n\r\n") {
            self.fill().await?;
        }
        Ok(self.buffer.len())
    }

    /// Sends a body in pieces, on a connection of its own, while the answer is read line by line.
    ///
    /// Trap: who sends everything before reading anything waits for a server that answers as it
    /// reads, while that waits for room to answer.
    pub(super) async fn converse(
        address: SocketAddr,
        mut next_piece: impl FnMut(&mut Vec<u8>) -> bool,
        mut line: impl FnMut(&[u8]),
    ) -> Result<()> {
        let (mut from, mut to) = Self::to(address).await?.stream.into_split();
        let send = async {
            let mut piece = Vec::new();
            while next_piece(&mut piece) {
                to.write_all(&piece).await?;
                piece.clear();
                tokio::task::yield_now().await; // other requests are sent from this thread, too
            }
            Ok(())
        };
        let receive = async {
            let mut rest = Vec::new();
            loop {
                if from.read_buf(&mut rest).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                for next in rest[..whole].split_inclusive(|byte| *byte == b'\n') {
                    if next == b"0\r\n" {
                        return Ok(()); // the chunk of no bytes
                    }
                    line(next);
                }
                rest.drain(..whole);
                tokio::task::yield_now().await;
            }
        };
        futures::future::try_join(send, receive).await.map(|_| ())
    }

    async fn fill(&mut self) -> Result<()> {
        if self.buffer.len() > RESPONSE_BYTES_MAX {
            return Err(Error::other("the response does not end"));
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Reply<'_> {
    /// The value of a header field, named in lower case.
    pub(super) fn field(&self, name: &[u8]) -> Option<&[u8]> {
        field(self.head, name)
    }
}

fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (before, after) = line.split_at_checked(name.len())?;
        let value = before.eq_ignore_ascii_case(name).then_some(after)?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })
}

fn number(text: &[u8]) -> Result<usize> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::other("a length that is no number"))
}
