//! Long polls, and many consumers at once. The clock stands still, so only what wakes a consumer
//! can make it answer.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::limits::seconds;

pub(super) fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
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
    ]
}

/// Far above what any answer takes, for consumers that nobody wakes.
const PATIENCE: Duration = Duration::from_secs(4);

/// A consumer that waits; it is in line when this returns, or as good as.
async fn waiting<F: Fixture>(
    it: &Arc<F>,
    queue: &QueueId,
    wait_ms: u64,
) -> tokio::task::JoinHandle<Result<Vec<Delivery>, Error>> {
    let (it, queue) = (Arc::clone(it), queue.clone());
    let task = tokio::spawn(async move {
        let ask = Ask { wait_ms: Some(wait_ms), ..Ask::now(1) };
        it.queues().receive(&queue, ask).await
    });
    // The promise holds whether or not it is in line already; this makes it likely that it is.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    task
}

async fn served(
    what: &str,
    task: tokio::task::JoinHandle<Result<Vec<Delivery>, Error>>,
) -> Result<Vec<Delivery>, Broken> {
    match timeout(PATIENCE, task).await {
        Ok(Ok(received)) => received.map_err(failed),
        Ok(Err(panic)) => Err(Broken::because(format!("{what}: the consumer panicked: {panic}"))),
        Err(_) => Err(Broken::because(format!("{what}: the waiting consumer was not woken"))),
    }
}

async fn a_long_poll_wakes<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "wake", Settings::standard()).await?;
    let consumer = waiting(&it, &queue, seconds(20)).await;
    send(&*it, &queue, text("job")).await?;
    let lease = served("after a send", consumer).await?;
    ensure!(bodies(&lease) == ["job"], "after a send came {:?}", bodies(&lease));

    let consumer = waiting(&it, &queue, seconds(40)).await;
    it.clock().advance_ms(seconds(30));
    let again = served("when a lease ends", consumer).await?;
    ensure!(bodies(&again) == ["job"], "when a lease ended came {:?}", bodies(&again));

    let consumer = waiting(&it, &queue, seconds(20)).await;
    change(&*it, &queue, again[0].receipt, 0).await?.map_err(failed)?;
    let again = served("when a lease is given back", consumer).await?;
    delete(&*it, &queue, again.first().map_or(lease[0].receipt, |it| it.receipt)).await?.ok();

    send(&*it, &queue, NewMessage { delay_ms: Some(seconds(10)), ..text("late") }).await?;
    let consumer = waiting(&it, &queue, seconds(20)).await;
    it.clock().advance_ms(seconds(10));
    let late = served("when a delay ends", consumer).await?;
    ensure!(bodies(&late) == ["late"], "when a delay ended came {:?}", bodies(&late));
    Ok(())
}

async fn waiting_ends_on_time<F: Fixture>(it: Arc<F>) -> Verdict {
    let settings = Settings { wait_ms: seconds(5), ..Settings::standard() };
    let queue_id = queue(&*it, "patience", settings).await?;
    let (other, id) = (Arc::clone(&it), queue_id.clone());
    let consumer = tokio::spawn(async move {
        other.queues().receive(&id, Ask { wait_ms: None, ..Ask::now(1) }).await
    });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    ensure!(!consumer.is_finished(), "a long poll of an empty queue answered at once");
    it.clock().advance_ms(seconds(5));
    // Should it have begun only now, its five seconds are still ahead.
    let consumer = async {
        let mut consumer = consumer;
        loop {
            match timeout(Duration::from_millis(50), &mut consumer).await {
                Ok(answer) => return answer,
                Err(_) => it.clock().advance_ms(seconds(5)),
            }
        }
    };
    let answer = timeout(PATIENCE, consumer).await;
    let empty = matches!(&answer, Ok(Ok(Ok(received))) if received.is_empty());
    ensure!(empty, "a long poll of an empty queue ended with {answer:?}");
    Ok(())
}

async fn each_message_wakes_a_consumer<F: Fixture>(it: Arc<F>) -> Verdict {
    let queue = queue(&*it, "line", Settings::standard()).await?;
    let mut consumers = Vec::new();
    for _ in 0..8 {
        consumers.push(waiting(&it, &queue, seconds(20)).await);
    }
    let batch = (0..8).map(|n| text(&n.to_string())).collect();
    it.queues().send(&queue, batch).await.map_err(failed)?;
    let mut seen = BTreeSet::new();
    for consumer in consumers {
        for lease in served("after eight sends", consumer).await? {
            seen.insert(lease.id);
        }
    }
    ensure!(seen.len() == 8, "eight consumers waited for eight messages, {} came", seen.len());
    Ok(())
}

async fn consumers_never_share_a_lease<F: Fixture>(it: Arc<F>) -> Verdict {
    const MESSAGES: usize = 200;
    let queue = queue(&*it, "crowd", Settings::standard()).await?;
    let producer = {
        let (it, queue) = (Arc::clone(&it), queue.clone());
        tokio::spawn(async move {
            for n in 0..MESSAGES {
                send(&*it, &queue, text(&n.to_string())).await?;
            }
            Ok::<_, Broken>(())
        })
    };
    let consumers = (0..8).map(|_| {
        let (it, queue) = (Arc::clone(&it), queue.clone());
        tokio::spawn(async move {
            let (mut seen, mut empty) = (Vec::new(), 0);
            while empty < 200 {
                let received = receive(&*it, &queue, 5).await?;
                empty = if received.is_empty() { empty + 1 } else { 0 };
                for (n, lease) in received.iter().enumerate() {
                    seen.push(lease.id);
                    if n % 2 == 0 {
                        delete(&*it, &queue, lease.receipt).await?.map_err(failed)?;
                    }
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, Broken>(seen)
        })
    });
    let consumers: Vec<_> = consumers.collect();
    producer.await.map_err(|panic| Broken::because(panic.to_string()))??;
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.await.map_err(|panic| Broken::because(panic.to_string()))??);
    }
    all.extend(receive(&*it, &queue, 10).await?.iter().map(|lease| lease.id));
    while let received = receive(&*it, &queue, 10).await?
        && !received.is_empty()
    {
        all.extend(received.iter().map(|lease| lease.id));
    }
    let distinct: BTreeSet<_> = all.iter().collect();
    ensure!(
        all.len() == distinct.len(),
        "{} deliveries of {} messages within one lease",
        all.len(),
        distinct.len()
    );
    ensure!(distinct.len() == MESSAGES, "{MESSAGES} were sent, {} were delivered", distinct.len());
    Ok(())
}
