//! The handle: hands closures to the writer thread and to the readers, and brings answers back.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{self, Message};
use crate::connection;
use crate::error::Error;
use crate::job::{Call, Read, read};
use crate::options::{Location, Options};
use crate::readers;

/// A database with one writer thread; clones share it. Dropping the last clone runs what is
/// queued, then closes the database, and blocks meanwhile: async code calls [`close`](Self::close)
/// first.
#[derive(Debug, Clone)]
pub struct Writer {
    threads: Arc<Threads>,
}

#[derive(Debug)]
struct Threads {
    /// `None` only while being dropped.
    calls: Option<mpsc::Sender<Message>>,
    /// `None` for a database in memory: its only connection belongs to the writer thread.
    reads: Option<mpsc::Sender<Read>>,
    running: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Opens the database, runs `schema` in one transaction (on every open, so it says
    /// `IF NOT EXISTS`) and starts the threads.
    ///
    /// # Errors
    /// [`Error::Open`], naming the file and the step.
    pub fn open(
        location: impl Into<Location>,
        schema: &str,
        options: Options,
    ) -> Result<Self, Error> {
        let location = location.into();
        let connection = connection::writer(&location, schema, &options)?;
        let (reads, mut running) = match &location {
            Location::Memory => (None, vec![]),
            Location::File(path) => {
                let (reads, threads) = readers::start(path, &options)?;
                (Some(reads), threads)
            }
        };
        let (calls, queue) = mpsc::channel(options.queue_limit.max(1));
        let thread = thread::Builder::new()
            .name(format!("{} writer", options.name))
            .spawn(move || batch::write(connection, queue, &options))
            .map_err(|_| connection::failed(&location, "start the writer thread", None))?;
        running.push(thread);
        Ok(Self { threads: Arc::new(Threads { calls: Some(calls), reads, running }) })
    }

    /// Runs `work` in a savepoint of the next batch, and returns its value once it is on disk.
    ///
    /// `work` must not begin, commit or roll back transactions; it may use savepoints. Use
    /// `prepare_cached`: a statement is then parsed once per writer. Once the call is queued it
    /// runs, even when this future is dropped.
    ///
    /// # Errors
    /// What `work` returned (then nothing of it is kept), or, made with `From`, an [`Error`].
    pub async fn call<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.calls()
            .send(Message::call(Call::new(work, reply)))
            .await
            .map_err(|_| Error::Closed)?;
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// [`call`](Self::call) for a thread without a runtime.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    ///
    /// # Panics
    /// Inside an async task, which it would block.
    pub fn call_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let message = Message::call(Call::new(work, reply));
        self.calls().blocking_send(message).map_err(|_| Error::Closed)?;
        answer.blocking_recv().unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Runs `work` on a read connection, in one snapshot of what is committed. Writing fails.
    ///
    /// # Errors
    /// What `work` returned, or, made with `From`, an [`Error`].
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let read = read(work, reply);
        match &self.threads.reads {
            Some(reads) => reads.send(read).await.map_err(|_| Error::Closed)?,
            None => self.calls().send(Message::Read(read)).await.map_err(|_| Error::Closed)?,
        }
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// [`read`](Self::read) for a thread without a runtime.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    ///
    /// # Panics
    /// Inside an async task, which it would block.
    pub fn read_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let read = read(work, reply);
        match &self.threads.reads {
            Some(reads) => reads.blocking_send(read).map_err(|_| Error::Closed)?,
            None => self.calls().blocking_send(Message::Read(read)).map_err(|_| Error::Closed)?,
        }
        answer.blocking_recv().unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// How many calls wait in the queue now; at most `queue_limit`.
    pub fn queued(&self) -> usize {
        self.calls().max_capacity() - self.calls().capacity()
    }

    /// Refuses new calls, finishes those that are queued, and returns when the last is on disk.
    /// Other clones then get [`Error::Closed`].
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.calls().send(Message::Close(reply)).await.is_ok() {
            // An error means that the thread is gone already, which is what is wanted.
            drop(closed.await);
        }
    }

    fn calls(&self) -> &mpsc::Sender<Message> {
        self.threads.calls.as_ref().expect("taken in drop only, when there is no handle left")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without senders the threads finish what is queued and end.
        self.calls = None;
        self.reads = None;
        let here = thread::current().id();
        for thread in self.running.drain(..) {
            // A closure may hold the last handle; its thread cannot wait for itself.
            if thread.thread().id() != here {
                drop(thread.join());
            }
        }
    }
}
