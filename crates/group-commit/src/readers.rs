//! Read connections, each on a thread of its own, so that a long query blocks no async worker.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::connection;
use crate::error::Error;
use crate::job::Read;
use crate::options::{Location, Options};

type Queue = Arc<Mutex<mpsc::Receiver<Read>>>;

pub(crate) fn start(
    path: &Path,
    options: &Options,
) -> Result<(mpsc::Sender<Read>, Vec<JoinHandle<()>>), Error> {
    let (reads, queue) = mpsc::channel(options.queue_limit.max(1));
    let queue = Arc::new(Mutex::new(queue));
    let threads = (0..options.readers.max(1))
        .map(|number| {
            let connection = connection::reader(path, options)?;
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("{} reader {number}", options.name))
                .spawn(move || serve(&connection, &queue))
                .map_err(|_| connection::failed(&Location::from(path), "start a reader", None))
        })
        .collect::<Result<_, _>>()?;
    Ok((reads, threads))
}

fn serve(connection: &Connection, queue: &Queue) {
    // One idle reader waits inside the lock, the others for the lock: a queue with many takers.
    while let Some(read) = next(queue) {
        read(connection);
    }
}

fn next(queue: &Queue) -> Option<Read> {
    // No closure runs under this lock, so poison would mean nothing.
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}
