//! Sockets to commands and back, one task per connection.
//!
//! Requests that arrived together are answered together: all of them are begun before the first is
//! waited for, so that behind a Redis a pipeline costs one call and not one per request. Answers
//! leave in the order of the requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::resp::frame::{self, Reply, Version};
use futures::future::{FutureExt, join_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Front;
use crate::limiter::Store;
use crate::registry::Registry;

/// More connections wait to be accepted. Each may hold a request and a reply buffer.
pub const CONNECTIONS_MAX: usize = 4_096;
const READ_BYTES: usize = 16 << 10;
/// Pause after a failed accept: without file descriptors, trying again at once only burns a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves on a thread of its own, until the process ends: one thread that is never woken by another
/// core answers more than several that hand each other connections.
///
/// # Errors
/// When the thread cannot be started.
pub fn serve_on_a_thread<S: Store>(
    listener: std::net::TcpListener,
    registry: Arc<Registry<S>>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("resp".to_owned());
    let serving = async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => serve(listener, registry).await,
            Err(error) => tracing::error!(%error, "RESP cannot be served"),
        }
    };
    thread.spawn(move || runtime.block_on(serving)).map(|_| ())
}

/// Serves until it is dropped. Connections are dropped with it: every charge is one command, and
/// what was not answered is the client's to ask again.
pub async fn serve<S: Store>(listener: TcpListener, registry: Arc<Registry<S>>) {
    let front = Arc::new(Front::new(registry));
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let front = Arc::clone(&front);
        connections.spawn(async move {
            let _permit = permit;
            // A client that goes away in the middle is no event.
            let _ = talk(socket, &front).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What is known about a request of a pipeline, and in which version it is answered: a `HELLO` behind
/// it must not change that.
enum Answer<F> {
    Known(Reply, Version),
    Waiting(F, Version),
}

async fn talk<S: Store>(mut socket: TcpStream, front: &Front<S>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut input, mut output) = (Vec::with_capacity(READ_BYTES), Vec::new());
    let mut version = Version::default();
    loop {
        let (done, ended) = answer_all(front, &input, &mut version, &mut output).await;
        input.drain(..done);
        if !output.is_empty() {
            socket.write_all(&output).await?;
            output.clear();
        }
        if ended {
            return socket.shutdown().await;
        }
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

/// Answers every whole request in `input`. Returns how many bytes they were, and whether the
/// connection is over.
async fn answer_all<S: Store>(
    front: &Front<S>,
    input: &[u8],
    version: &mut Version,
    output: &mut Vec<u8>,
) -> (usize, bool) {
    let (mut done, mut ended) = (0, false);
    let mut answers = Vec::new();
    let mut all_known = true;
    while !ended {
        let buffer = &input[done..];
        let request = match frame::parse(buffer) {
            Ok(None) => break,
            Ok(Some(request)) => request,
            Err(malformed) => {
                let error = Reply::Error(format!("ERR {malformed}"));
                answers.push(Answer::Known(error, *version));
                ended = true;
                break;
            }
        };
        done += request.bytes;
        let arguments: Vec<&[u8]> =
            request.arguments.iter().map(|range| &buffer[range.clone()]).collect();
        let Some(name) = arguments.first() else { continue };
        ended = name.eq_ignore_ascii_case(b"QUIT");
        let mut spoken = *version;
        let mut reply = Box::pin(async move {
            let reply = front.execute(&arguments, &mut spoken).await;
            (reply, spoken)
        });
        // In process every answer is known at once; behind a store this begins the request.
        match (&mut reply).now_or_never() {
            Some((reply, spoken)) => {
                *version = spoken;
                if all_known {
                    encode(&reply, *version, output);
                } else {
                    answers.push(Answer::Known(reply, spoken));
                }
            }
            None => {
                all_known = false;
                answers.push(Answer::Waiting(reply, *version));
            }
        }
    }
    let answers = join_all(answers.into_iter().map(|answer| async {
        match answer {
            Answer::Known(reply, version) => (reply, version),
            Answer::Waiting(reply, version) => (reply.await.0, version),
        }
    }));
    for (reply, version) in answers.await {
        encode(&reply, version, output);
    }
    (done, ended)
}

/// Encodes a reply and, as replies nest no deeper, what is in it.
fn encode(reply: &Reply, version: Version, output: &mut Vec<u8>) {
    frame::encode_head(reply, version, output);
    match reply {
        Reply::Array(replies) => {
            for reply in replies {
                frame::encode_head(reply, version, output);
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
}
