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
mod dead_letters;
mod fifo;
mod leases;
mod model;
mod waiting;

use basics::*;
use dead_letters::*;
use fifo::*;
use leases::*;
use model::*;
use waiting::*;

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
    vec![
        promise!(
            F,
            what_is_sent_is_delivered,
            "Every message accepted is delivered once while its lease lasts, unchanged."
        ),
        promise!(
            F,
            a_batch_is_answered_entry_by_entry,
            "Each entry of a batch gets its own answer, in order."
        ),
        promise!(
            F,
            counts_are_exact,
            "Ready, in flight and delayed add up to what was sent and not deleted."
        ),
        promise!(
            F,
            looking_leases_nothing,
            "Peeking shows messages in order of age and changes nothing."
        ),
        promise!(
            F,
            queues_are_kept_apart,
            "Queues of other names and other regions do not see each other's messages."
        ),
        promise!(
            F,
            a_queue_made_anew_is_empty,
            "A queue that is deleted and created again holds nothing and honours no old receipt."
        ),
        promise!(
            F,
            a_purge_empties_the_queue,
            "A purge deletes ready, leased and delayed messages, at most once a minute."
        ),
        promise!(F, settings_change_all_or_nothing, "A change that is refused changes nothing."),
        promise!(
            F,
            a_lease_hides_the_message,
            "A leased message is hidden until its timeout, to the millisecond, and then delivered again."
        ),
        promise!(
            F,
            a_deleted_message_never_returns,
            "What was deleted with a valid receipt is never delivered again."
        ),
        promise!(
            F,
            a_stale_receipt_proves_nothing,
            "A receipt of an earlier lease neither deletes nor extends nor gives back."
        ),
        promise!(
            F,
            epochs_only_grow,
            "Each lease of a message has a higher epoch, also through dead-letter queue and redrive."
        ),
        promise!(
            F,
            leases_can_be_moved,
            "A lease is extended, shortened or given back, up to 12 hours in total."
        ),
        promise!(
            F,
            a_foreign_receipt_is_refused,
            "A receipt works in the queue that issued it and nowhere else."
        ),
        promise!(
            F,
            a_delay_hides_a_new_message,
            "A delayed message is hidden until its delay is over; the message's own wins."
        ),
        promise!(
            F,
            retention_ends,
            "A message past its retention is not delivered and not counted."
        ),
        promise!(
            F,
            a_message_that_kills_its_worker_becomes_a_dead_letter,
            "Receives count when leased: after the last one allowed, the message goes to the dead-letter queue."
        ),
        promise!(
            F,
            a_dead_letter_keeps_its_age,
            "On a standard queue, retention goes on in the dead-letter queue."
        ),
        promise!(
            F,
            without_its_dead_letter_queue_nothing_is_lost,
            "If the dead-letter queue is gone, the message is delivered on."
        ),
        promise!(
            F,
            a_redrive_brings_each_message_home,
            "Dead letters return to the queues they came from, each once, with receives at zero."
        ),
        promise!(
            F,
            fifo_keeps_order_within_a_group,
            "Messages of a group are delivered in the order of their sends, also after a lease ran out."
        ),
        promise!(
            F,
            a_group_has_one_batch_in_flight,
            "While a message of a group is leased, no other of the group is delivered."
        ),
        promise!(
            F,
            groups_do_not_block_each_other,
            "Blocked groups do not hold up the others, however many they are."
        ),
        promise!(
            F,
            a_duplicate_is_accepted_once,
            "A deduplication id counts for five minutes, also when the message is deleted."
        ),
        promise!(
            F,
            duplicates_are_scoped,
            "With the scope set to the group, equal ids in two groups are two messages."
        ),
        promise!(
            F,
            an_expired_fifo_receipt_is_refused,
            "On a FIFO queue nothing is deleted after the visibility timeout."
        ),
        promise!(
            F,
            a_repeated_attempt_gets_the_same_messages,
            "A receive repeated under its attempt id returns the same leases, renewed."
        ),
        promise!(
            F,
            tenants_take_turns,
            "On a standard queue one tenant's backlog does not hide another's message."
        ),
        promise!(
            F,
            a_long_poll_wakes,
            "A waiting consumer gets a message when it is sent, and when a lease or a delay ends."
        ),
        promise!(
            F,
            waiting_ends_on_time,
            "A long poll without a message ends empty at its deadline."
        ),
        promise!(
            F,
            each_message_wakes_a_consumer,
            "As many waiting consumers are served as messages arrive."
        ),
        promise!(
            F,
            consumers_never_share_a_lease,
            "Many consumers at once: every message is in one pair of hands."
        )
        .on_many_threads(),
        promise!(
            F,
            a_standard_queue_agrees_with_the_model,
            "Every step of a random history is one the model allows."
        ),
        promise!(
            F,
            a_fifo_queue_agrees_with_the_model,
            "The same with groups, order and duplicates."
        ),
    ]
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
    let suffix = if settings.fifo.is_some() { ".fifo" } else { "" };
    let dead = queue(it, &format!("work-dead{suffix}"), settings.clone()).await?;
    let redrive = Some(Redrive { target: dead.clone(), max_receives });
    let work = queue(it, &format!("work{suffix}"), Settings { redrive, ..settings }).await?;
    Ok((work, dead))
}
