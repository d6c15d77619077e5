//! Order, duplicates, and taking turns.

use super::*;
use crate::limits::{DEDUP_WINDOW_MS, seconds};
use crate::settings::{Fifo, Scope};

pub(super) fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
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
    ]
}

async fn fifo_keeps_order_within_a_group<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "order.fifo", Settings::fifo()).await?;
    for n in 0..6 {
        for group in ["a", "b"] {
            send(&*it, &queue, grouped(group, &n.to_string())).await?;
        }
    }
    // A first batch that nobody finishes: it comes back, before everything behind it.
    let lost = receive(&*it, &queue, 3).await?;
    ensure!(!lost.is_empty(), "nothing was delivered from twelve messages");
    it.clock().advance_ms(seconds(30));
    let mut order = std::collections::BTreeMap::<String, Vec<usize>>::new();
    for _ in 0..12 {
        for lease in receive(&*it, &queue, 2).await? {
            let group = lease.content.group.as_deref().unwrap_or_default().to_owned();
            let n = lease.content.body.parse().unwrap_or(usize::MAX);
            order.entry(group).or_default().push(n);
            delete(&*it, &queue, lease.receipt).await?.map_err(failed)?;
        }
    }
    for group in ["a", "b"] {
        let found = order.get(group).cloned().unwrap_or_default();
        ensure!(found == [0, 1, 2, 3, 4, 5], "group {group} was delivered as {found:?}");
    }
    Ok(())
}

async fn a_group_has_one_batch_in_flight<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "batch.fifo", Settings::fifo()).await?;
    for n in 0..4 {
        send(&*it, &queue, grouped("g", &n.to_string())).await?;
    }
    let batch = receive(&*it, &queue, 2).await?;
    ensure!(bodies(&batch) == ["0", "1"], "the first batch is {:?}", bodies(&batch));
    expect_nothing(&*it, &queue, "with two of the group in flight").await?;
    delete(&*it, &queue, batch[0].receipt).await?.map_err(failed)?;
    expect_nothing(&*it, &queue, "with one of the group in flight").await?;
    change(&*it, &queue, batch[1].receipt, 0).await?.map_err(failed)?;
    let batch = receive(&*it, &queue, 10).await?;
    ensure!(bodies(&batch) == ["1", "2", "3"], "then comes {:?}", bodies(&batch));
    Ok(())
}

async fn groups_do_not_block_each_other<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "groups.fifo", Settings::fifo()).await?;
    for group in 0..50 {
        for n in 0..2 {
            send(&*it, &queue, grouped(&group.to_string(), &n.to_string())).await?;
        }
    }
    let mut leased = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let lease = receive_one(&*it, &queue).await?;
        let group = lease.content.group.clone().unwrap_or_default();
        ensure!(lease.content.body == "0", "group {group} begins with {}", lease.content.body);
        ensure!(leased.insert(group.clone()), "group {group} was delivered while blocked");
    }
    expect_nothing(&*it, &queue, "with all fifty groups blocked").await?;
    send(&*it, &queue, grouped("new", "0")).await?;
    let lease = receive_one(&*it, &queue).await?;
    ensure!(lease.content.group.as_deref() == Some("new"), "{:?} came", lease.content.group);
    Ok(())
}

async fn a_duplicate_is_accepted_once<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "twice.fifo", Settings::fifo()).await?;
    let original = send(&*it, &queue, grouped("g", "job")).await?;
    let duplicate = send(&*it, &queue, grouped("g", "job")).await?;
    ensure!(duplicate == original, "the duplicate is answered {duplicate:?}, not {original:?}");
    let lease = receive(&*it, &queue, 10).await?;
    ensure!(lease.len() == 1, "one message sent twice is delivered as {}", lease.len());
    delete(&*it, &queue, lease[0].receipt).await?.map_err(failed)?;
    it.clock().advance_ms(DEDUP_WINDOW_MS - 1);
    send(&*it, &queue, grouped("g", "job")).await?;
    expect_nothing(&*it, &queue, "as a duplicate of a deleted message").await?;
    it.clock().advance_ms(1);
    let new = send(&*it, &queue, grouped("g", "job")).await?;
    ensure!(new.id != original.id, "after five minutes it is still a duplicate");
    receive_one(&*it, &queue).await.map(drop)
}

async fn duplicates_are_scoped<F: Fixture>(it: Arc<F>) -> Verdict {
    let same = |group: &str| {
        let mut content = Content::text(group);
        (content.group, content.dedup_id) = (Some(group.into()), Some("same".to_owned()));
        NewMessage::new(content)
    };
    for (called, scope, expected) in
        [("q.fifo", Scope::Queue, 1), ("g.fifo", Scope::MessageGroup, 2)]
    {
        let fifo = Some(Fifo { dedup_scope: scope, ..Fifo::default() });
        let queue = queue(&*it, called, Settings { fifo, ..Settings::fifo() }).await?;
        for group in ["a", "b", "a"] {
            send(&*it, &queue, same(group)).await?;
        }
        let received = receive(&*it, &queue, 10).await?;
        let found = received.len();
        ensure!(found == expected, "scope {scope:?}: {found} messages, not {expected}");
    }
    Ok(())
}

async fn an_expired_fifo_receipt_is_refused<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "expired.fifo", Settings::fifo()).await?;
    send(&*it, &queue, grouped("g", "job")).await?;
    let lease = receive_one(&*it, &queue).await?;
    it.clock().advance_ms(seconds(30));
    let deleted = delete(&*it, &queue, lease.receipt).await?;
    ensure!(matches!(deleted, Err(Error::Expired)), "an expired delete answers {deleted:?}");
    receive_one(&*it, &queue).await.map(drop)
}

async fn a_repeated_attempt_gets_the_same_messages<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "attempt.fifo", Settings::fifo()).await?;
    for n in 0..4 {
        send(&*it, &queue, grouped("g", &n.to_string())).await?;
    }
    let ask = Ask { attempt: Some("try".into()), ..Ask::now(2) };
    let first = it.queues().receive(&queue, ask.clone()).await.map_err(failed)?;
    it.clock().advance_ms(seconds(20));
    let again = it.queues().receive(&queue, ask.clone()).await.map_err(failed)?;
    let receipts = |leases: &[Delivery]| leases.iter().map(|it| it.receipt).collect::<Vec<_>>();
    ensure!(bodies(&first) == ["0", "1"], "the first attempt got {:?}", bodies(&first));
    ensure!(receipts(&first) == receipts(&again), "the second got {:?}", bodies(&again));
    it.clock().advance_ms(seconds(29));
    expect_nothing(&*it, &queue, "within the renewed lease").await?;
    for lease in &again {
        delete(&*it, &queue, lease.receipt).await?.map_err(failed)?;
    }
    let next = it.queues().receive(&queue, ask).await.map_err(failed)?;
    ensure!(bodies(&next) == ["2", "3"], "once they are deleted it got {:?}", bodies(&next));
    Ok(())
}

async fn tenants_take_turns<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "fair", Settings::standard()).await?;
    let of = |tenant: &str, body: &str| {
        NewMessage::new(Content { group: Some(tenant.into()), ..Content::text(body) })
    };
    for n in 0..100 {
        send(&*it, &queue, of("noisy", &n.to_string())).await?;
    }
    send(&*it, &queue, of("quiet", "urgent")).await?;
    let first = receive(&*it, &queue, 3).await?;
    let served = bodies(&first).contains(&"urgent");
    ensure!(served, "behind a hundred of another tenant's: {:?}", bodies(&first));
    // Unlike on a FIFO queue, a tenant may have many in flight.
    let rest = receive(&*it, &queue, 10).await?;
    ensure!(rest.len() == 10, "of 98 ready messages ten were asked for, {} came", rest.len());
    Ok(())
}
