//! A few connections, each used by one transaction at a time, off the async workers.
//!
//! What the three locking answers run on; the batching answer has one writer instead
//! (`crates/group-commit`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use group_commit::rusqlite::{Connection, TransactionBehavior};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::inventory::Error;

/// Connections. SQLite has one writer at a time, so more of them only wait for each other.
pub const CONNECTIONS: usize = 4;

/// How long a transaction waits for another one's lock before it is busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Connections {
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
}

impl Connections {
    pub(super) fn open(path: &Path, schema: &str) -> Result<Self, Error> {
        let connections = (0..CONNECTIONS).map(|_| open(path)).collect::<Result<Vec<_>, _>>()?;
        connections[0].execute_batch(&format!("BEGIN IMMEDIATE;\n{schema}\nCOMMIT;"))?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Self { idle: Arc::new(Mutex::new(connections)), places })
    }

    /// Runs `work` on a connection of its own, outside any transaction.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.expect("the semaphore is never closed");
        let idle = Arc::clone(&self.idle);
        let working = tokio::task::spawn_blocking(move || {
            // The place is held until the connection is back, even if the caller has gone.
            let _place = place;
            let connection = idle.lock().pop();
            let mut connection = connection.expect("there is a connection for each place");
            let result = work(&mut connection);
            idle.lock().push(connection);
            result
        });
        working.await.map_err(Error::unavailable)?
    }

    /// Runs `work` in a transaction that has the write lock from its first statement on.
    ///
    /// Trap: a transaction that reads first and locks later (`BEGIN` without `IMMEDIATE`) fails
    /// with "database is locked" when somebody wrote in between, and no busy timeout helps it.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.with(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&tx)?; // an error drops the transaction, which rolls it back
            tx.commit()?;
            Ok(result)
        })
        .await
    }
}

fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Every acknowledged commit is on disk; NORMAL would lose the last ones with the power.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
