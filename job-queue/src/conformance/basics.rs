//! Sending, receiving, counting, looking, and queues themselves.

use std::collections::BTreeSet;

use super::*;
use crate::limits::{PURGE_INTERVAL_MS, seconds};
use crate::message::{Attribute, AttributeValue, Position};
use crate::queue::Created;

pub(super) fn promises<F: Fixture>() -> Vec<Promise<F>> {
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
    ]
}

async fn what_is_sent_is_delivered<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "all", Settings::standard()).await?;
    let mut content = Content::text("body with ümläuts and \u{1f600}");
    let value = AttributeValue::Bytes(vec![0, 255, 1]);
    let attribute = Attribute { data_type: "Binary.x".to_owned(), value };
    content.attributes.insert("a".to_owned(), attribute);
    content.trace_header = Some("trace".to_owned());
    let rich = NewMessage::new(content.clone());
    let rich_id = send(&*it, &queue, rich).await?.id;
    for n in 0..57 {
        send(&*it, &queue, text(&n.to_string())).await?;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        for delivery in receive(&*it, &queue, 7).await? {
            ensure!(delivery.receives == 1, "a first delivery says {}", delivery.receives);
            if delivery.id == rich_id {
                ensure!(*delivery.content == content, "content changed: {:?}", delivery.content);
            }
            ensure!(seen.insert(delivery.id), "{} was delivered twice", delivery.content.body);
        }
    }
    ensure!(seen.len() == 58, "58 messages were sent, {} were delivered", seen.len());
    Ok(())
}

async fn a_batch_is_answered_entry_by_entry<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "batch.fifo", Settings::fifo()).await?;
    let bad = NewMessage::new(Content::text("no group"));
    let batch = vec![grouped("g", "first"), bad, grouped("g", "third")];
    let ids: Vec<_> = batch.iter().map(|message| message.id).collect();
    let sent = it.queues().send(&queue, batch).await.map_err(failed)?;
    ensure!(sent.len() == 3, "three were sent, {} answered", sent.len());
    ensure!(sent[0].as_ref().is_ok_and(|it| it.id == ids[0]), "the first: {:?}", sent[0]);
    ensure!(matches!(sent[1], Err(Error::Invalid { .. })), "the bad one: {:?}", sent[1]);
    ensure!(sent[2].as_ref().is_ok_and(|it| it.id == ids[2]), "the third: {:?}", sent[2]);
    let received = receive(&*it, &queue, 10).await?;
    ensure!(bodies(&received) == ["first", "third"], "delivered {:?}", bodies(&received));
    let receipts =
        vec![received[0].receipt, Receipt { queue_number: u64::MAX >> 1, ..received[0].receipt }];
    let deleted = it.queues().delete(&queue, receipts).await.map_err(failed)?;
    ensure!(deleted.len() == 2 && deleted[0].is_ok(), "a good and a bad delete: {deleted:?}");
    ensure!(matches!(deleted[1], Err(Error::ReceiptInvalid)), "a bad delete: {:?}", deleted[1]);
    Ok(())
}

async fn counts_are_exact<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "counts", Settings::standard()).await?;
    send_all(&*it, &queue, &["1", "2", "3", "4"]).await?;
    send(&*it, &queue, NewMessage { delay_ms: Some(seconds(5)), ..text("late") }).await?;
    let first = receive_one(&*it, &queue).await?;
    receive_one(&*it, &queue).await?;
    delete(&*it, &queue, first.receipt).await?.map_err(failed)?;
    let expect = |at: &str, counts: Counts, expected: [usize; 3]| -> Verdict {
        let found = [counts.ready, counts.in_flight, counts.delayed];
        ensure!(
            found == expected,
            "{at}: [ready, in flight, delayed] are {found:?}, not {expected:?}"
        );
        Ok(())
    };
    let found = counts(&*it, &queue).await?;
    expect("after five sends, two receives, one delete", found, [2, 1, 1])?;
    let oldest = found.oldest_sent_at_ms;
    ensure!(oldest == Some(EPOCH_MS), "the oldest was sent at {oldest:?}, not {EPOCH_MS}");
    it.clock().advance_ms(seconds(5));
    expect("after the delay", counts(&*it, &queue).await?, [3, 1, 0])?;
    it.clock().advance_ms(seconds(25));
    expect("after the lease", counts(&*it, &queue).await?, [4, 0, 0])
}

async fn looking_leases_nothing<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "looking", Settings::standard()).await?;
    for body in ["1", "2", "3"] {
        send(&*it, &queue, text(body)).await?;
        it.clock().advance_ms(10);
    }
    receive_one(&*it, &queue).await?;
    let before = counts(&*it, &queue).await?;
    let mut seen = Vec::new();
    let mut after = Position::default();
    loop {
        let page = it.queues().peek(&queue, after, 2).await.map_err(failed)?;
        let Some(last) = page.last() else { break };
        ensure!(page.len() <= 2, "a page of two holds {}", page.len());
        after = last.position;
        seen.extend(page.iter().map(|it| (it.content.body.clone(), it.receives)));
    }
    let bodies: Vec<_> = seen.iter().map(|(body, _)| body.as_str()).collect();
    ensure!(bodies == ["1", "2", "3"], "in order of age: {bodies:?}");
    let leased = seen.iter().filter(|(_, receives)| *receives == 1).count();
    ensure!(leased == 1, "one of three was received, {leased} look so");
    let now = counts(&*it, &queue).await?;
    ensure!(now == before, "looking changed {before:?} into {now:?}");
    Ok(())
}

async fn queues_are_kept_apart<F: Fixture>(it: Arc<F>) -> Verdict {
    let here = queue(&*it, "same", Settings::standard()).await?;
    let other = queue(&*it, "same-2", Settings::standard()).await?;
    let there = QueueId::new("us-west-2", "same");
    it.queues().create(&there, Settings::standard()).await.map_err(failed)?;
    send(&*it, &here, text("here")).await?;
    expect_nothing(&*it, &other, "to a queue nothing was sent to").await?;
    expect_nothing(&*it, &there, "to the queue of the same name in another region").await?;
    let listed = it.queues().list(REGION, None, 10).await.map_err(failed)?;
    let listed: Vec<_> = listed.iter().map(|(id, _)| &*id.name).collect();
    ensure!(listed == ["same", "same-2"], "the region lists {listed:?}");
    let rest = it.queues().list(REGION, Some("same"), 10).await.map_err(failed)?;
    ensure!(rest.len() == 1 && rest[0].0 == other, "after `same` comes {rest:?}");
    let missing = it.queues().send(&name("missing"), vec![text("x")]).await;
    ensure!(matches!(missing, Err(Error::NoSuchQueue)), "a missing queue answers {missing:?}");
    Ok(())
}

async fn a_queue_made_anew_is_empty<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue_id = queue(&*it, "anew", Settings::standard()).await?;
    send_all(&*it, &queue_id, &["ready", "leased"]).await?;
    let old = receive_one(&*it, &queue_id).await?;
    let again = it.queues().create(&queue_id, Settings::standard()).await.map_err(failed)?;
    ensure!(matches!(again, Created::Existing(_)), "creating it twice: {again:?}");
    it.queues().remove(&queue_id).await.map_err(failed)?;
    let gone = it.queues().receive(&queue_id, Ask::now(1)).await;
    ensure!(matches!(gone, Err(Error::NoSuchQueue)), "a deleted queue answers {gone:?}");
    queue(&*it, "anew", Settings::standard()).await?;
    expect_nothing(&*it, &queue_id, "by the new queue").await?;
    send(&*it, &queue_id, text("new")).await?;
    let deleted = delete(&*it, &queue_id, old.receipt).await?;
    ensure!(matches!(deleted, Err(Error::ReceiptInvalid)), "an old receipt answers {deleted:?}");
    let new = receive_one(&*it, &queue_id).await?;
    ensure!(new.content.body == "new", "the new queue delivered {:?}", new.content.body);
    Ok(())
}

async fn a_purge_empties_the_queue<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "purge", Settings::standard()).await?;
    send_all(&*it, &queue, &["1", "2"]).await?;
    send(&*it, &queue, NewMessage { delay_ms: Some(seconds(1)), ..text("late") }).await?;
    let leased = receive_one(&*it, &queue).await?;
    it.queues().purge(&queue).await.map_err(failed)?;
    let left = counts(&*it, &queue).await?;
    ensure!(left == Counts::default(), "after a purge there is {left:?}");
    delete(&*it, &queue, leased.receipt).await?.map_err(failed)?;
    let again = it.queues().purge(&queue).await;
    ensure!(matches!(again, Err(Error::PurgedRecently)), "a second purge answers {again:?}");
    it.clock().advance_ms(PURGE_INTERVAL_MS);
    expect_nothing(&*it, &queue, "a minute after the purge").await?;
    send(&*it, &queue, text("new")).await?;
    receive_one(&*it, &queue).await?;
    it.queues().purge(&queue).await.map_err(failed)
}

async fn settings_change_all_or_nothing<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "settings", Settings::standard()).await?;
    let change = |settings: &mut Settings| {
        settings.delay_ms = seconds(7);
        Err(Error::invalid("DelaySeconds", "is refused by the test"))
    };
    let refused = it.queues().configure(&queue, change).await;
    ensure!(matches!(refused, Err(Error::Invalid { .. })), "a refusal answers {refused:?}");
    let delay_ms = it.queues().settings(&queue).await.map_err(failed)?.delay_ms;
    ensure!(delay_ms == 0, "a refused change left a delay of {delay_ms} ms");
    let itself = queue.clone();
    let redrive = it.queues().configure(&queue, move |settings| {
        settings.redrive = Some(Redrive { target: itself, max_receives: 1 });
        Ok(())
    });
    let redrive = redrive.await;
    ensure!(matches!(redrive, Err(Error::Invalid { .. })), "its own dead letters: {redrive:?}");
    it.queues()
        .configure(&queue, |settings| {
            settings.delay_ms = seconds(7);
            Ok(())
        })
        .await
        .map_err(failed)?;
    let delay_ms = it.queues().settings(&queue).await.map_err(failed)?.delay_ms;
    ensure!(delay_ms == seconds(7), "a change to 7 s left a delay of {delay_ms} ms");
    Ok(())
}
