//! Poison, and the way back.

use super::*;
use crate::limits::seconds;

pub(super) fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
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
    ]
}

async fn a_message_that_kills_its_worker_becomes_a_dead_letter<F: Fixture>(it: Arc<F>) -> Verdict {
    for settings in [Settings::standard(), Settings::fifo()] {
        let is_fifo = settings.fifo.is_some();
        let (work, dead) = with_dead_letters(&*it, settings, 3).await?;
        let message = if is_fifo { grouped("g", "poison") } else { text("poison") };
        let id = send(&*it, &work, message).await?.id;
        for receive in 1..=3 {
            let lease = receive_one(&*it, &work).await?;
            ensure!(lease.receives == receive, "receive {receive} counts as {}", lease.receives);
            // The worker dies: nothing is said, the lease runs out.
            it.clock().advance_ms(seconds(30));
        }
        expect_nothing(&*it, &work, "after three receives of three allowed").await?;
        let letter = receive_one(&*it, &dead).await?;
        ensure!(letter.id == id, "the dead letter is {}, not {id}", letter.id);
        let source = letter.dead_letter_source;
        ensure!(source.as_ref() == Some(&work), "the dead letter came from {source:?}");
        let left = counts(&*it, &work).await?;
        ensure!(left == Counts::default(), "what was given up is still counted: {left:?}");
    }
    Ok(())
}

async fn a_dead_letter_keeps_its_age<F: Fixture>(it: Arc<F>) -> Verdict {
    let settings = Settings { retention_ms: seconds(100), ..Settings::standard() };
    let (work, dead) = with_dead_letters(&*it, settings, 1).await?;
    send(&*it, &work, text("poison")).await?;
    receive_one(&*it, &work).await?;
    it.clock().advance_ms(seconds(60));
    expect_nothing(&*it, &work, "after one receive of one allowed").await?;
    let oldest = counts(&*it, &dead).await?.oldest_sent_at_ms;
    ensure!(oldest == Some(EPOCH_MS), "the dead letter says it was sent at {oldest:?}");
    it.clock().advance_ms(seconds(40));
    expect_nothing(&*it, &dead, "100 s after the message was sent").await
}

async fn without_its_dead_letter_queue_nothing_is_lost<F: Fixture>(it: Arc<F>) -> Verdict {
    let (work, dead) = with_dead_letters(&*it, Settings::standard(), 1).await?;
    send(&*it, &work, text("poison")).await?;
    it.queues().remove(&dead).await.map_err(failed)?;
    for receive in 1..=3 {
        let lease = receive_one(&*it, &work).await?;
        ensure!(lease.receives == receive, "receive {receive} counts as {}", lease.receives);
        it.clock().advance_ms(seconds(30));
    }
    Ok(())
}

async fn a_redrive_brings_each_message_home<F: Fixture>(it: Arc<F>) -> Verdict {
    let (first, dead) = with_dead_letters(&*it, Settings::standard(), 1).await?;
    let redrive = Some(Redrive { target: dead.clone(), max_receives: 1 });
    let settings = Settings { redrive, ..Settings::standard() };
    let second = queue(&*it, "second", settings.clone()).await?;
    let gone = queue(&*it, "gone", settings).await?;
    for (queue, body) in [(&first, "a"), (&second, "b"), (&gone, "c"), (&first, "d")] {
        send(&*it, queue, text(body)).await?;
    }
    for queue in [&first, &second, &gone] {
        receive(&*it, queue, 10).await?;
    }
    it.clock().advance_ms(seconds(30));
    for queue in [&first, &second, &gone] {
        expect_nothing(&*it, queue, "after one receive of one allowed").await?;
    }
    it.queues().remove(&gone).await.map_err(failed)?;
    // Three have a home; the fourth's is gone, and it must not be lost.
    let mut moved = 0;
    for _ in 0..4 {
        moved += it.queues().transfer(&dead, None, 2).await.map_err(failed)?.moved;
    }
    ensure!(moved == 3, "three of four dead letters have a home, {moved} were moved");
    for (queue, expected) in [(&first, &["a", "d"][..]), (&second, &["b"]), (&dead, &["c"])] {
        let received = receive(&*it, queue, 10).await?;
        let mut bodies = bodies(&received);
        bodies.sort_unstable();
        ensure!(bodies == expected, "in {queue} there is {bodies:?}, not {expected:?}");
        let anew = received.iter().all(|lease| lease.receives == 1);
        ensure!(anew, "the receives of a message moved do not begin anew");
    }
    Ok(())
}
