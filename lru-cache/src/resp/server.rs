//! Sockets to commands and back, one task per connection.
//!
//! Requests that arrived together are answered together: everything complete in the buffer is
//! executed before the replies are flushed. That is all that pipelining asks of a server.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{
    command::{self, Command},
    frame::{self, Reply, Version},
    keyspace::{Bytes, Keyspace},
};
use crate::{cache::Cache, clock::Clock, expiry::Timed};

/// More connections wait to be accepted. Each may hold a request and a reply buffer.
pub const CONNECTIONS_MAX: usize = 4096;

/// Replies are sent when so much has gathered, however many requests are still unanswered: a client
/// that pipelines without reading fills its own socket and not our memory.
const FLUSH_BYTES: usize = 64 << 10;

const READ_BYTES: usize = 16 << 10;

/// Pause after a failed accept: without file descriptors, trying again at once only burns a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves until `shutdown` is ready. Connections are then dropped where they are: a cache owes
/// nobody durability.
pub async fn serve<C, T>(
    listener: TcpListener,
    keyspace: Arc<Keyspace<C, T>>,
    shutdown: impl Future<Output = ()>,
) where
    C: Cache<Bytes, Timed<Bytes>> + Send + 'static,
    T: Clock + Clone + Send + Sync + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let keyspace = Arc::clone(&keyspace);
            connections.spawn(async move {
                let _permit = permit;
                // A client that goes away in the middle is no event.
                let _ = talk(socket, &keyspace).await;
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
}

async fn talk<C, T>(mut socket: TcpStream, keyspace: &Keyspace<C, T>) -> io::Result<()>
where
    C: Cache<Bytes, Timed<Bytes>> + 'static,
    T: Clock + Clone + Send + Sync + 'static,
{
    socket.set_nodelay(true)?;
    let (mut input, mut output) = (Vec::with_capacity(READ_BYTES), Vec::new());
    let mut version = Version::default();
    loop {
        let mut done = 0;
        loop {
            let buffer = &input[done..];
            let request = match frame::parse(buffer) {
                Ok(None) => break,
                Ok(Some(request)) => request,
                Err(malformed) => {
                    let reply = Reply::Error(format!("ERR {malformed}"));
                    send(&mut socket, &reply, version, &mut output).await?;
                    socket.write_all(&output).await?;
                    return socket.shutdown().await;
                }
            };
            done += request.bytes;
            let arguments: Vec<&[u8]> =
                request.arguments.iter().map(|range| &buffer[range.clone()]).collect();
            if arguments.is_empty() {
                continue;
            }
            let (reply, quit) = match command::parse(&arguments) {
                Ok(command) => {
                    let quit = command == Command::Quit;
                    (keyspace.execute(command, &mut version), quit)
                }
                Err(complaint) => (Reply::Error(complaint), false),
            };
            send(&mut socket, &reply, version, &mut output).await?;
            if quit {
                socket.write_all(&output).await?;
                return socket.shutdown().await;
            }
        }
        input.drain(..done);
        socket.write_all(&output).await?;
        output.clear();
        // A buffer that was needed once for a large request is not kept for ever.
        if input.is_empty() && input.capacity() > 4 * READ_BYTES {
            input = Vec::with_capacity(READ_BYTES);
        }
        input.reserve(READ_BYTES);
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Encodes a reply, sending what has gathered whenever it is much.
async fn send(
    socket: &mut TcpStream,
    reply: &Reply,
    version: Version,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    frame::encode_head(reply, version, output);
    flush_if_much(socket, output).await?;
    match reply {
        // Replies nest no deeper than one level, so this is no recursion.
        Reply::Array(replies) => {
            for reply in replies {
                frame::encode_head(reply, version, output);
                flush_if_much(socket, output).await?;
            }
        }
        Reply::Map(pairs) => {
            for (name, reply) in pairs {
                frame::encode_head(&Reply::text(name), version, output);
                frame::encode_head(reply, version, output);
            }
        }
        _ => {}
    }
    Ok(())
}

async fn flush_if_much(socket: &mut TcpStream, output: &mut Vec<u8>) -> io::Result<()> {
    if output.len() >= FLUSH_BYTES {
        socket.write_all(output).await?;
        output.clear();
    }
    Ok(())
}
