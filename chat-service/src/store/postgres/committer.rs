//! Group commit: what waits becomes one transaction, and the transaction one fsync.
//!
//! There are several lines, each with a committer of its own, and a conversation has its place in
//! one of them. So two transactions of this server hardly ever want the same row, and one is written
//! while the other one is on its way to the disk. With one line for all committers the second waits
//! for the row locks of the first, that is, for its fsync.

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};

use super::batch::{self, Seen};
use super::{ATTEMPTS_MAX, may_be_repeated};
use crate::chat::{Appended, Error, Moved, NewMessage};
use crate::ids::{ConversationId, DeviceId, Seq, UserId};

/// Transactions at once. One would leave the processor idle while the disk works and the disk idle
/// while the next batch is written; more make the batches smaller.
const COMMITTERS: usize = 2;
/// Callers that wait in a line. Above it the next one waits outside, and with it its connection.
const WAITING_MAX: usize = 2_048;
/// Messages and cursors in one transaction: how long one batch may keep the next one waiting.
const WEIGHT_MAX: usize = 2_048;

/// What somebody wants written.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Append(Vec<NewMessage>),
    Acknowledge { user: UserId, device: DeviceId, cursors: Vec<(ConversationId, Seq)> },
    Read { user: UserId, conversation: ConversationId, seq: Seq },
    Published(Vec<(ConversationId, Seq)>),
}

impl Work {
    fn weight(&self) -> usize {
        match self {
            Self::Append(messages) => messages.len(),
            Self::Acknowledge { cursors, .. } | Self::Published(cursors) => cursors.len(),
            Self::Read { .. } => 1,
        }
    }

    /// Where it stands. Work on conversations of several lines is right in any of them: rows are
    /// locked, the line only keeps them from being waited for.
    fn line(&self) -> usize {
        let first = match self {
            Self::Append(messages) => messages.first().map(|new| new.conversation),
            Self::Acknowledge { cursors, .. } | Self::Published(cursors) => {
                cursors.first().map(|(id, _)| *id)
            }
            Self::Read { conversation, .. } => Some(*conversation),
        };
        first.map_or(0, line_of)
    }
}

/// The line of a conversation: by the last byte of its id, which is random.
pub(super) fn line_of(conversation: ConversationId) -> usize {
    usize::from(conversation.0.as_bytes()[15]) % COMMITTERS
}

/// What became of it, item by item.
#[derive(Debug)]
pub(super) enum Answer {
    Appended(Vec<Result<Appended, Error>>),
    Moved(Vec<Result<Moved, Error>>),
    Noted,
}

struct Job {
    work: Work,
    answer: oneshot::Sender<Answer>,
}

/// The lines, each of which is served.
pub(super) struct Committer {
    lines: [mpsc::Sender<Job>; COMMITTERS],
}

impl Committer {
    /// Serving ends when this is dropped and the lines are empty.
    pub(super) fn start(pool: &PgPool) -> Self {
        let lines = std::array::from_fn(|_| {
            let (jobs, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(serve(pool.clone(), waiting));
            jobs
        });
        Self { lines }
    }

    /// Returns when `work` is on disk; `None` when it is not known to be.
    pub(super) async fn commit(&self, work: Work) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.lines[work.line()].send(Job { work, answer }).await.ok()?;
        answered.await.ok()
    }
}

async fn serve(pool: PgPool, mut waiting: mpsc::Receiver<Job>) {
    let mut kept = None;
    loop {
        let jobs = take(&mut waiting).await;
        if jobs.is_empty() {
            return;
        }
        let (work, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.work, job.answer)).unzip();
        metrics::histogram!("chat_batch_jobs").record(work.len() as f64);
        match commit(&pool, &mut kept, &work).await {
            // A caller that went away is told nothing.
            Ok(done) => answers.into_iter().zip(done).for_each(|(to, done)| drop(to.send(done))),
            // Dropping the senders tells everybody that it is not known to be on disk.
            Err(error) => tracing::warn!(%error, jobs = work.len(), "a batch was not committed"),
        }
    }
}

/// Waits for the first, takes what else is there. Empty when nobody can come any more.
async fn take(waiting: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let Some(first) = waiting.recv().await else { return Vec::new() };
    let mut weight = first.work.weight();
    let mut jobs = vec![first];
    while weight < WEIGHT_MAX {
        let Ok(next) = waiting.try_recv() else { break };
        weight += next.work.weight();
        jobs.push(next);
    }
    jobs
}

/// The connection from one batch to the next: a pool asks a connection whether it is alive before it
/// hands it out, which is one more way there and back for everybody who waits.
type Kept = Option<PoolConnection<sqlx::Postgres>>;

async fn commit(pool: &PgPool, kept: &mut Kept, work: &[Work]) -> Result<Vec<Answer>, Error> {
    let mut attempt = 1;
    loop {
        match attempt_once(pool, kept, work).await {
            Err(error) if attempt < ATTEMPTS_MAX && may_be_repeated(&error) => attempt += 1,
            done => return done,
        }
    }
}

async fn attempt_once(pool: &PgPool, kept: &mut Kept, work: &[Work]) -> Result<Vec<Answer>, Error> {
    if let Some(mut connection) = kept.take()
        && let Some(answers) = transact(&mut connection, work).await?
    {
        *kept = Some(connection);
        return Ok(answers);
    }
    let mut connection = pool.acquire().await?;
    let done = transact(&mut connection, work).await?;
    *kept = Some(connection);
    done.ok_or(Error::Unavailable { what: "begin a transaction", source: None })
}

/// `None` when the connection turned out to be dead before anything was done on it.
async fn transact(
    connection: &mut PgConnection,
    work: &[Work],
) -> Result<Option<Vec<Answer>>, Error> {
    let Ok(mut tx) = connection.begin().await else { return Ok(None) };
    let answers = run(&mut tx, work).await?;
    tx.commit().await?;
    Ok(Some(answers))
}

/// Lock, look, judge, write.
async fn run(tx: &mut PgConnection, work: &[Work]) -> Result<Vec<Answer>, Error> {
    let mut seen = Seen::look(tx, work).await?;
    let answers = work.iter().map(|work| batch::judge(&mut seen, work)).collect();
    seen.changes.write(tx).await?;
    Ok(answers)
}
