//! The contract as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by.
//!
//! A [`Fixture`] offers an empty store on a clock that the suite moves. The promises come in the
//! order in which an interviewer would probe: at least once, leases, poison, order, duplicates.

use std::sync::Arc;

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promise};

use crate::clock::Clock;
use crate::message::{Content, Delivery, NewMessage, QueueId, Receipt, Sent};
use crate::queue::{Ask, Counts, Error, Queues};
use crate::settings::{Redrive, Settings};

mod basics;
mod leases;
mod dead_letters;
mod fifo;
mod waiting;
mod model;

/// Where the suite's clock starts: a day in 2026.
pub const EPOCH_MS: u64 = 1_790_000_123_456;

/// How the suite reaches the answer under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Queues: Queues;

    /// An empty store.
    fn queues(&self) -> &Self::Queues;

    /// The clock it reads. It starts at [`EPOCH_MS`].
    fn clock(&self) -> &Clock;
}

/// What every store of queues promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    let families = [
        basics::promises(),
        leases::promises(),
        dead_letters::promises(),
        fifo::promises(),
        waiting::promises(),
        model::promises(),
    ];
    families.into_iter().flatten().collect()
}

// ---- the words of the promises

const REGION: &str = "eu-central-1";

fn name(name: &str) -> QueueId {
    QueueId::new(REGION, name)
}

fn failed(error: Error) -> Broken {
    Broken::because(format!("the store failed: {error}"))
}

/// A new queue.
async fn queue<F: Fixture>(it: &F, called: &str, settings: Settings) -> Result<QueueId, Broken> {
    let queue = name(called);
    it.queues().create(&queue, settings).await.map_err(failed)?;
    Ok(queue)
}

/// A FIFO message without a duplicate.
fn grouped(group: &str, body: &str) -> NewMessage {
    NewMessage::new(Content {
        group: Some(group.into()),
        dedup_id: Some(format!("{group}/{body}")),
        ..Content::text(body)
    })
}

fn text(body: &str) -> NewMessage {
    NewMessage::new(Content::text(body))
}

async fn send<F: Fixture>(it: &F, queue: &QueueId, message: NewMessage) -> Result<Sent, Broken> {
    let sent = it.queues().send(queue, vec![message]).await.map_err(failed)?;
    match <[_; 1]>::try_from(sent) {
        Ok([sent]) => sent.map_err(failed),
        Err(sent) => Err(Broken::because(format!("one message was sent, {} answered", sent.len()))),
    }
}

async fn send_all<F: Fixture>(it: &F, queue: &QueueId, bodies: &[&str]) -> Verdict {
    for body in bodies {
        send(it, queue, text(body)).await?;
    }
    Ok(())
}

async fn receive<F: Fixture>(it: &F, queue: &QueueId, max: usize) -> Result<Vec<Delivery>, Broken> {
    it.queues().receive(queue, Ask::now(max)).await.map_err(failed)
}

/// Exactly one message.
async fn receive_one<F: Fixture>(it: &F, queue: &QueueId) -> Result<Delivery, Broken> {
    let received = receive(it, queue, 1).await?;
    let count = received.len();
    let one = <[_; 1]>::try_from(received).ok().map(|[one]| one);
    one.ok_or_else(|| Broken::because(format!("one message was expected, {count} were received")))
}

async fn expect_nothing<F: Fixture>(it: &F, queue: &QueueId, when: &str) -> Verdict {
    let received = receive(it, queue, 10).await?;
    ensure!(received.is_empty(), "{when}, {:?} was delivered", bodies(&received));
    Ok(())
}

async fn delete<F: Fixture>(
    it: &F,
    queue: &QueueId,
    receipt: Receipt,
) -> Result<Result<(), Error>, Broken> {
    let mut deleted = it.queues().delete(queue, vec![receipt]).await.map_err(failed)?;
    deleted.pop().ok_or_else(|| Broken::because("a delete was not answered"))
}

async fn change<F: Fixture>(
    it: &F,
    queue: &QueueId,
    receipt: Receipt,
    ms: u64,
) -> Result<Result<(), Error>, Broken> {
    let changes = vec![(receipt, ms)];
    let mut changed = it.queues().change_visibility(queue, changes).await.map_err(failed)?;
    changed.pop().ok_or_else(|| Broken::because("a change of visibility was not answered"))
}

async fn counts<F: Fixture>(it: &F, queue: &QueueId) -> Result<Counts, Broken> {
    it.queues().counts(queue).await.map_err(failed)
}

fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|it| it.content.body.as_str()).collect()
}

/// `work` with dead letters in `work-dead` after `max_receives`.
async fn with_dead_letters<F: Fixture>(
    it: &F,
    settings: Settings,
    max_receives: u32,
) -> Result<(QueueId, QueueId), Broken> {
    called_with_dead_letters(it, "work", settings, max_receives).await
}

/// The same under another name.
async fn called_with_dead_letters<F: Fixture>(
    it: &F,
    called: &str,
    settings: Settings,
    max_receives: u32,
) -> Result<(QueueId, QueueId), Broken> {
    let suffix = if settings.fifo.is_some() { ".fifo" } else { "" };
    let dead = queue(it, &format!("{called}-dead{suffix}"), settings.clone()).await?;
    let redrive = Some(Redrive { target: dead.clone(), max_receives });
    let work = queue(it, &format!("{called}{suffix}"), Settings { redrive, ..settings }).await?;
    Ok((work, dead))
}
