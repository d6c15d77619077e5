//! Leases, receipts, delays, retention.

use super::*;
use crate::limits::{VISIBILITY_MAX_MS, seconds};

pub(super) fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
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
    ]
}

async fn a_lease_hides_the_message<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "lease", Settings::standard()).await?;
    send(&*it, &queue, text("job")).await?;
    let first = receive_one(&*it, &queue).await?;
    it.clock().advance_ms(seconds(30) - 1);
    expect_nothing(&*it, &queue, "a millisecond before the lease ended").await?;
    it.clock().advance_ms(1);
    let ask = Ask { visibility_ms: Some(seconds(2)), ..Ask::now(1) };
    let second = it.queues().receive(&queue, ask).await.map_err(failed)?;
    ensure!(second.len() == 1, "at the end of the lease nothing was delivered");
    ensure!(second[0].id == first.id, "another message was delivered");
    ensure!(second[0].receives == 2, "the second receive counts as {}", second[0].receives);
    let first_ms = second[0].first_received_at_ms;
    ensure!(first_ms == EPOCH_MS, "first received at {first_ms}, not {EPOCH_MS}");
    it.clock().advance_ms(seconds(2) - 1);
    expect_nothing(&*it, &queue, "before the receiver's own timeout").await?;
    it.clock().advance_ms(1);
    receive_one(&*it, &queue).await.map(drop)
}

async fn a_deleted_message_never_returns<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "delete", Settings::standard()).await?;
    send_all(&*it, &queue, &["1", "2"]).await?;
    let in_time = receive_one(&*it, &queue).await?;
    let late = receive_one(&*it, &queue).await?;
    delete(&*it, &queue, in_time.receipt).await?.map_err(failed)?;
    it.clock().advance_ms(seconds(30));
    // Late, but nobody else received it: on a standard queue it still counts.
    delete(&*it, &queue, late.receipt).await?.map_err(failed)?;
    delete(&*it, &queue, late.receipt).await?.map_err(failed)?;
    for _ in 0..3 {
        expect_nothing(&*it, &queue, "after both were deleted").await?;
        it.clock().advance_ms(seconds(43_200));
    }
    let left = counts(&*it, &queue).await?;
    ensure!(left == Counts::default(), "after both were deleted there is {left:?}");
    Ok(())
}

async fn a_stale_receipt_proves_nothing<F: Fixture>(it: Arc<F>) -> Verdict {
    for (called, settings) in [("stale", Settings::standard()), ("stale.fifo", Settings::fifo())] {
        let queue = queue(&*it, called, settings).await?;
        send(&*it, &queue, grouped("g", "job").only_if(called.ends_with(".fifo"))).await?;
        let dead_worker = receive_one(&*it, &queue).await?;
        it.clock().advance_ms(seconds(30));
        let worker = receive_one(&*it, &queue).await?;
        let deleted = delete(&*it, &queue, dead_worker.receipt).await?;
        ensure!(matches!(deleted, Err(Error::Stale)), "{called}: a stale delete: {deleted:?}");
        for ms in [0, seconds(600)] {
            let moved = change(&*it, &queue, dead_worker.receipt, ms).await?;
            ensure!(matches!(moved, Err(Error::Stale)), "{called}: a stale move: {moved:?}");
        }
        expect_nothing(&*it, &queue, "while the second worker holds it").await?;
        it.clock().advance_ms(seconds(30) - 1);
        delete(&*it, &queue, worker.receipt).await?.map_err(failed)?;
    }
    Ok(())
}

/// Standard queues take messages without a group; one helper serves both.
trait OnlyIf {
    fn only_if(self, fifo: bool) -> Self;
}

impl OnlyIf for NewMessage {
    fn only_if(self, fifo: bool) -> Self {
        if fifo { self } else { text(&self.content.body) }
    }
}

async fn epochs_only_grow<F: Fixture>(it: Arc<F>) -> Verdict {
    let (work, dead) = with_dead_letters(&*it, Settings::standard(), 2).await?;
    send(&*it, &work, text("job")).await?;
    let mut epochs = Vec::new();
    for round in 0..2 {
        for _ in 0..2 {
            epochs.push(receive_one(&*it, &work).await?.receipt.epoch);
            it.clock().advance_ms(seconds(30));
        }
        expect_nothing(&*it, &work, "after the last receive allowed").await?;
        epochs.push(receive_one(&*it, &dead).await?.receipt.epoch);
        it.clock().advance_ms(seconds(30));
        let moved = it.queues().transfer(&dead, None, 10).await.map_err(failed)?;
        ensure!(moved.moved == 1, "round {round}: the redrive moved {moved:?}");
    }
    let grow = epochs.windows(2).all(|pair| pair[0] < pair[1]);
    ensure!(grow, "the epochs of one message's leases are {epochs:?}");
    Ok(())
}

async fn leases_can_be_moved<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "move", Settings::standard()).await?;
    send(&*it, &queue, text("job")).await?;
    let lease = receive_one(&*it, &queue).await?;
    it.clock().advance_ms(seconds(20));
    change(&*it, &queue, lease.receipt, seconds(60)).await?.map_err(failed)?;
    it.clock().advance_ms(seconds(60) - 1);
    expect_nothing(&*it, &queue, "a millisecond before the extended lease ended").await?;
    change(&*it, &queue, lease.receipt, seconds(5)).await?.map_err(failed)?;
    it.clock().advance_ms(seconds(5));
    let late = change(&*it, &queue, lease.receipt, seconds(5)).await?;
    ensure!(matches!(late, Err(Error::NotInFlight)), "after the end: {late:?}");
    let lease = receive_one(&*it, &queue).await?;
    change(&*it, &queue, lease.receipt, 0).await?.map_err(failed)?;
    let lease = receive_one(&*it, &queue).await?;
    ensure!(lease.receives == 3, "the third receive counts as {}", lease.receives);
    it.clock().advance_ms(1);
    let too_long = change(&*it, &queue, lease.receipt, VISIBILITY_MAX_MS).await?;
    ensure!(matches!(too_long, Err(Error::Invalid { .. })), "beyond 12 hours: {too_long:?}");
    change(&*it, &queue, lease.receipt, VISIBILITY_MAX_MS - 1).await?.map_err(failed)?;
    it.clock().advance_ms(VISIBILITY_MAX_MS - 2);
    expect_nothing(&*it, &queue, "within the 12 hours").await?;
    it.clock().advance_ms(1);
    receive_one(&*it, &queue).await.map(drop)
}

async fn a_foreign_receipt_is_refused<F: Fixture>(it: Arc<F>) -> Verdict {
    let ours = queue(&*it, "ours", Settings::standard()).await?;
    let theirs = queue(&*it, "theirs", Settings::standard()).await?;
    send(&*it, &ours, text("ours")).await?;
    send(&*it, &theirs, text("theirs")).await?;
    let lease = receive_one(&*it, &theirs).await?;
    let foreign = delete(&*it, &ours, lease.receipt).await?;
    ensure!(matches!(foreign, Err(Error::ReceiptInvalid)), "a foreign delete: {foreign:?}");
    let foreign = change(&*it, &ours, lease.receipt, 0).await?;
    ensure!(matches!(foreign, Err(Error::ReceiptInvalid)), "a foreign move: {foreign:?}");
    delete(&*it, &theirs, lease.receipt).await?.map_err(failed)?;
    receive_one(&*it, &ours).await.map(drop)
}

async fn a_delay_hides_a_new_message<F: Fixture>(it: Arc<F>) -> Verdict {
    let settings = Settings { delay_ms: seconds(10), ..Settings::standard() };
    let queue = queue(&*it, "delay", settings).await?;
    send(&*it, &queue, text("queue's")).await?;
    send(&*it, &queue, NewMessage { delay_ms: Some(0), ..text("none") }).await?;
    send(&*it, &queue, NewMessage { delay_ms: Some(seconds(20)), ..text("own") }).await?;
    for (after_ms, expected) in [(0, "none"), (seconds(10), "queue's"), (seconds(10), "own")] {
        if after_ms > 0 {
            it.clock().advance_ms(after_ms - 1);
            expect_nothing(&*it, &queue, "a millisecond before a delay ended").await?;
            it.clock().advance_ms(1);
        }
        let lease = receive_one(&*it, &queue).await?;
        let body = &lease.content.body;
        ensure!(body == expected, "{body:?} was delivered instead of {expected:?}");
        ensure!(lease.receives == 1, "its first receive counts as {}", lease.receives);
        delete(&*it, &queue, lease.receipt).await?.map_err(failed)?;
    }
    Ok(())
}

async fn retention_ends<F: Fixture>(it: Arc<F>) -> Verdict {
    let settings = Settings { retention_ms: seconds(60), ..Settings::standard() };
    let queue = queue(&*it, "retention", settings).await?;
    send_all(&*it, &queue, &["ready", "leased"]).await?;
    it.clock().advance_ms(seconds(59));
    receive_one(&*it, &queue).await?;
    send(&*it, &queue, text("younger")).await?;
    it.clock().advance_ms(seconds(1));
    let younger = receive(&*it, &queue, 10).await?;
    ensure!(bodies(&younger) == ["younger"], "past the retention: {:?}", bodies(&younger));
    let left = counts(&*it, &queue).await?;
    let only_younger = left.ready == 0 && left.in_flight == 1;
    ensure!(only_younger, "a lease does not prolong the retention, but there is {left:?}");
    it.clock().advance_ms(seconds(60));
    expect_nothing(&*it, &queue, "past everybody's retention").await?;
    let left = counts(&*it, &queue).await?;
    ensure!(left == Counts::default(), "past everybody's retention there is {left:?}");
    Ok(())
}
