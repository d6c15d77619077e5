//! Requests to commands and back: every command is answered at once.

use std::{io, sync::Arc};

pub use ::resp::server::CONNECTIONS_MAX;
use ::resp::server::Connection;
use tokio::net::TcpListener;

use super::{
    command::{self, Command},
    frame::{Reply, Version},
    keyspace::{Bytes, Keyspace},
};
use crate::{cache::Cache, clock::Clock, expiry::Timed};

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
    let talk = |connection| talk(connection, Arc::clone(&keyspace));
    tokio::select! {
        () = ::resp::server::serve(listener, talk) => {}
        () = shutdown => {}
    }
}

async fn talk<C, T>(mut connection: Connection, keyspace: Arc<Keyspace<C, T>>) -> io::Result<()>
where
    C: Cache<Bytes, Timed<Bytes>> + 'static,
    T: Clock + Clone + Send + Sync + 'static,
{
    let mut version = Version::default();
    while connection.turn().await? {
        let (requests, mut replies) = connection.parts();
        for request in requests {
            let (reply, ends) = match request.map(|arguments| command::parse(&arguments)) {
                Ok(Ok(command)) => {
                    let quits = command == Command::Quit;
                    (keyspace.execute(command, &mut version), quits)
                }
                Ok(Err(complaint)) => (Reply::Error(complaint), false),
                Err(malformed) => (Reply::Error(format!("ERR {malformed}")), true),
            };
            replies.push(&reply, version).await?;
            if ends {
                return connection.end().await;
            }
        }
    }
    Ok(())
}
