//! Group commit: what waits becomes one transaction, and the transaction one fsync.

use std::sync::Arc;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::batch::{self, Seen};
use super::{ATTEMPTS_MAX, may_be_repeated};
use crate::chat::{Appended, Error, Moved, NewMessage};
use crate::ids::{ConversationId, DeviceId, Seq, UserId};

/// Transactions at once. One would leave the processor idle while the disk works and the disk idle
/// while the next batch is written; more make the batches smaller and the waiting at busy rows
/// longer.
const COMMITTERS: usize = 2;
/// Callers that wait in line. Above it the next one waits outside, and with it its connection.
const WAITING_MAX: usize = 4_096;
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

/// The line, and those who serve it.
pub(super) struct Committer {
    jobs: mpsc::Sender<Job>,
}

impl Committer {
    /// They end when this is dropped and the line is empty.
    pub(super) fn start(pool: PgPool) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..COMMITTERS {
            tokio::spawn(serve(pool.clone(), Arc::clone(&waiting)));
        }
        Self { jobs }
    }

    /// Returns when `work` is on disk; `None` when it is not known to be.
    pub(super) async fn commit(&self, work: Work) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { work, answer }).await.ok()?;
        answered.await.ok()
    }
}

async fn serve(pool: PgPool, waiting: Arc<Mutex<mpsc::Receiver<Job>>>) {
    loop {
        // Whoever holds the line takes everything in it; the other one commits meanwhile.
        let jobs = take(&mut *waiting.lock().await).await;
        if jobs.is_empty() {
            return;
        }
        let (work, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.work, job.answer)).unzip();
        metrics::histogram!("chat_batch_jobs").record(work.len() as f64);
        match commit(&pool, &work).await {
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

async fn commit(pool: &PgPool, work: &[Work]) -> Result<Vec<Answer>, Error> {
    let mut attempt = 1;
    loop {
        match attempt_once(pool, work).await {
            Err(error) if attempt < ATTEMPTS_MAX && may_be_repeated(&error) => attempt += 1,
            done => return done,
        }
    }
}

async fn attempt_once(pool: &PgPool, work: &[Work]) -> Result<Vec<Answer>, Error> {
    let mut connection = pool.acquire().await?;
    let mut tx = connection.begin().await?;
    let answers = run(&mut tx, work).await?;
    tx.commit().await?;
    Ok(answers)
}

/// Lock, look, judge, write.
async fn run(tx: &mut PgConnection, work: &[Work]) -> Result<Vec<Answer>, Error> {
    let mut seen = Seen::look(tx, work).await?;
    let answers = work.iter().map(|work| batch::judge(&mut seen, work)).collect();
    seen.changes.write(tx).await?;
    Ok(answers)
}
