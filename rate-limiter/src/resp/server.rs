//! Requests to commands and back. All requests that arrived together are begun before the first is
//! waited for, so that behind a Redis a pipeline costs one call and not one per request. Answers
//! leave in the order of the requests.

use std::io;
use std::sync::Arc;

use ::resp::frame::{Reply, Version};
pub use ::resp::server::CONNECTIONS_MAX;
use ::resp::server::Connection;
use futures::future::{FutureExt, join_all};
use tokio::net::TcpListener;

use super::Front;
use crate::limiter::Store;
use crate::registry::Registry;

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
    ::resp::server::serve(listener, |connection| talk(connection, Arc::clone(&front))).await;
}

async fn talk<S: Store>(mut connection: Connection, front: Arc<Front<S>>) -> io::Result<()> {
    let mut version = Version::default();
    while connection.turn().await? {
        if answer_all(&front, &mut connection, &mut version).await? {
            return connection.end().await;
        }
    }
    Ok(())
}

/// What is known about a request of a pipeline, and in which version it is answered: a `HELLO` behind
/// it must not change that.
enum Answer<F> {
    Known(Reply, Version),
    Waiting(F, Version),
}

/// Answers every request that is here. Returns whether the connection is over.
async fn answer_all<S: Store>(
    front: &Front<S>,
    connection: &mut Connection,
    version: &mut Version,
) -> io::Result<bool> {
    let (requests, mut replies) = connection.parts();
    let mut ended = false;
    let mut waited_for = Vec::new();
    for request in requests {
        let arguments = match request {
            Ok(arguments) => arguments,
            Err(malformed) => {
                let error = Reply::Error(format!("ERR {malformed}"));
                waited_for.push(Answer::Known(error, *version));
                ended = true;
                break;
            }
        };
        ended = arguments[0].eq_ignore_ascii_case(b"QUIT");
        let mut spoken = *version;
        let mut reply = Box::pin(async move {
            let reply = front.execute(&arguments, &mut spoken).await;
            (reply, spoken)
        });
        // In process every answer is known at once; behind a store this begins the request.
        match (&mut reply).now_or_never() {
            Some((reply, spoken)) => {
                *version = spoken;
                match waited_for.is_empty() {
                    true => replies.push(&reply, spoken).await?,
                    false => waited_for.push(Answer::Known(reply, spoken)),
                }
            }
            None => waited_for.push(Answer::Waiting(reply, *version)),
        }
        if ended {
            break;
        }
    }
    let answers = join_all(waited_for.into_iter().map(|answer| async {
        match answer {
            Answer::Known(reply, version) => (reply, version),
            Answer::Waiting(reply, version) => (reply.await.0, version),
        }
    }));
    for (reply, version) in answers.await {
        replies.push(&reply, version).await?;
    }
    Ok(ended)
}
