//! A closure on its way: it runs before the commit and is answered after it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::Error;

/// A call with its type erased, for the queue.
pub(crate) trait Job: Send {
    /// Runs the closure; whether it succeeded, that is, whether its writes are to be kept.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Answers the caller. A call that failed by itself says so, whatever became of the batch.
    fn answer(self: Box<Self>, committed: &Result<(), Error>);
}

/// A closure, what it returned, and where to send that.
pub(crate) struct Call<F, T, E> {
    work: Option<F>,
    returned: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Call<F, T, E> {
    pub(crate) fn new(work: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work: Some(work), returned: None, reply }
    }
}

impl<F, T, E> Job for Call<F, T, E>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        let returned = caught(work, connection);
        let keep = returned.is_ok();
        self.returned = Some(returned);
        keep
    }

    fn answer(self: Box<Self>, committed: &Result<(), Error>) {
        let answer = match (self.returned, committed) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.clone().into()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            // Committed without having run: cannot happen, and must not look like success.
            (None, Ok(())) => Err(Error::Aborted.into()),
        };
        // A caller that no longer waits does not want the answer.
        drop(self.reply.send(answer));
    }
}

/// A read: it answers by itself, there is no commit to wait for.
pub(crate) type Read = Box<dyn FnOnce(&Connection) + Send>;

pub(crate) fn read<T, E, F>(work: F, reply: oneshot::Sender<Result<T, E>>) -> Read
where
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    Box::new(move |connection| drop(reply.send(snapshot(work, connection))))
}

/// One transaction around the read: without it every statement would see its own moment.
fn snapshot<T, E: From<Error>>(
    work: impl FnOnce(&Connection) -> Result<T, E>,
    connection: &Connection,
) -> Result<T, E> {
    run_cached(connection, "BEGIN").map_err(Error::from)?;
    let returned = caught(work, connection);
    // Nothing was written; this only lets go of the snapshot.
    if !connection.is_autocommit() {
        run_cached(connection, "ROLLBACK").map_err(Error::from)?;
    }
    returned
}

fn caught<T, E: From<Error>>(
    work: impl FnOnce(&Connection) -> Result<T, E>,
    connection: &Connection,
) -> Result<T, E> {
    // The connection is all that the closure shares with others, and it is rolled back.
    catch_unwind(AssertUnwindSafe(|| work(connection)))
        .unwrap_or_else(|panic| Err(Error::Panicked(message(&*panic)).into()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// Runs a statement without parameters that is parsed once per connection.
pub(crate) fn run_cached(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
