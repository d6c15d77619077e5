//! What every bus promises.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, eventually, promise};

use super::scene::user;
use crate::bus::{Bus, Event, Signal};
use crate::chat::Error;
use crate::ids::{ConversationId, Seq};

/// How long a promise waits for what was published.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the suite reaches the bus under test.
pub trait BusFixture: Send + Sync + 'static {
    /// The answer.
    type Bus: Bus;

    /// As many servers as asked for on one bus.
    fn servers(&self, count: usize) -> impl Future<Output = Vec<Arc<Self::Bus>>> + Send;

    /// Breaks the bus for a moment, so that what is published meanwhile may be lost. A bus that
    /// cannot break does nothing.
    fn disturb(&self) -> impl Future<Output = ()> + Send;
}

/// What every bus promises.
pub fn bus_promises<F: BusFixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            every_server_hears_every_event,
            "What one server publishes, all of them hear, itself included."
        ),
        promise!(
            F,
            one_publishers_events_stay_in_order,
            "Events about one conversation arrive in the order of publishing."
        ),
        promise!(
            F,
            what_is_published_together_stays_in_order,
            "Events that are published together arrive in their order, all of them."
        ),
        promise!(
            F,
            events_arrive_as_they_were,
            "An event is the same on the other side, whatever it holds."
        ),
        promise!(
            F,
            a_slow_listener_makes_nobody_wait,
            "A listener that takes its time delays no publisher for long."
        )
        .on_many_threads(),
        promise!(
            F,
            what_may_be_lost_is_announced,
            "After a break every listener hears the events, or that there is a gap."
        ),
    ]
}

/// What one server heard.
type Heard = Arc<Mutex<Vec<Signal>>>;

async fn listen<B: Bus>(bus: &B) -> Result<Heard, Broken> {
    let heard: Heard = Arc::default();
    let writing = Arc::clone(&heard);
    bus.attach(Arc::new(move |signal| writing.lock().push(signal))).await.map_err(failed)?;
    Ok(heard)
}

fn failed(error: Error) -> Broken {
    Broken::because(format!("the bus failed: {error}"))
}

fn moved(conversation: ConversationId, seq: u64) -> Event {
    Event::Moved { conversation, last_seq: Seq(seq), members_version: 1 }
}

fn seqs(heard: &Heard, of: ConversationId) -> Vec<u64> {
    let heard = heard.lock();
    let moved = heard.iter().filter_map(|signal| match signal {
        Signal::Event(Event::Moved { conversation, last_seq, .. }) if *conversation == of => {
            Some(last_seq.0)
        }
        _ => None,
    });
    moved.collect()
}

async fn hears(heard: &Heard, of: ConversationId, expected: &[u64]) -> Verdict {
    let count = || seqs(heard, of).len() >= expected.len();
    drop(eventually("everything is heard", PATIENCE, || async { count() }).await);
    let actual = seqs(heard, of);
    ensure!(actual == expected, "published {expected:?}, heard {actual:?}");
    Ok(())
}

async fn every_server_hears_every_event<F: BusFixture>(fixture: Arc<F>) -> Verdict {
    let buses = fixture.servers(3).await;
    let mut heard = Vec::new();
    for bus in &buses {
        heard.push(listen(&**bus).await?);
    }
    let id = ConversationId::fresh();
    for (index, bus) in buses.iter().enumerate() {
        bus.publish(moved(id, index as u64)).await.map_err(failed)?;
        for heard in &heard {
            hears(heard, id, &(0..=index as u64).collect::<Vec<_>>()).await?;
        }
    }
    Ok(())
}

async fn one_publishers_events_stay_in_order<F: BusFixture>(fixture: Arc<F>) -> Verdict {
    let buses = fixture.servers(2).await;
    let heard = listen(&*buses[1]).await?;
    let ids = [ConversationId::fresh(), ConversationId::fresh()];
    for seq in 0..200 {
        for id in ids {
            buses[0].publish(moved(id, seq)).await.map_err(failed)?;
        }
    }
    for id in ids {
        hears(&heard, id, &(0..200).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn what_is_published_together_stays_in_order<F: BusFixture>(fixture: Arc<F>) -> Verdict {
    let buses = fixture.servers(2).await;
    let heard = listen(&*buses[1]).await?;
    let ids = [ConversationId::fresh(), ConversationId::fresh()];
    for batch in [0..1, 1..100, 100..300] {
        let events = batch.flat_map(|seq| ids.map(|id| moved(id, seq))).collect();
        buses[0].publish_all(events).await.map_err(failed)?;
    }
    for id in ids {
        hears(&heard, id, &(0..300).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn events_arrive_as_they_were<F: BusFixture>(fixture: Arc<F>) -> Verdict {
    let buses = fixture.servers(2).await;
    let heard = listen(&*buses[1]).await?;
    let message = crate::chat::Message {
        conversation: ConversationId::fresh(),
        seq: Seq(1 << 52),
        sender: user("ann"),
        client_id: crate::ids::ClientId::fresh(),
        at_ms: 1 << 52,
        content: crate::chat::Content::Text("\u{0}\"\\ é \u{1F600} \r\n".repeat(600).into()),
    };
    let conversation = message.conversation;
    let events = [
        Event::Message { message: Arc::new(message), members_version: 7, origin: None },
        Event::Typing { conversation, user: user("ann") },
        Event::Presence { user: user("bob"), online: false },
        Event::Roll { users: vec![user("ann"), user("bob")] },
    ];
    for event in &events {
        buses[0].publish(event.clone()).await.map_err(failed)?;
        let arrived = || heard.lock().contains(&Signal::Event(event.clone()));
        eventually("the event arrives unchanged", PATIENCE, || async { arrived() }).await?;
    }
    Ok(())
}

async fn a_slow_listener_makes_nobody_wait<F: BusFixture>(fixture: Arc<F>) -> Verdict {
    let buses = fixture.servers(2).await;
    let heard = listen(&*buses[0]).await?;
    // A listener never blocks; but it may be fed faster than it can be woken.
    let id = ConversationId::fresh();
    let publishing = (0..1_000).map(|seq| buses[0].publish(moved(id, seq)));
    let all = tokio::time::timeout(PATIENCE, futures::future::join_all(publishing)).await;
    for outcome in all.map_err(|_| Broken::because("1,000 events were not published in time"))? {
        outcome.map_err(failed)?;
    }
    let count = || seqs(&heard, id).len() >= 1_000;
    drop(eventually("all 1,000 are heard", PATIENCE, || async { count() }).await);
    let mut actual = seqs(&heard, id);
    actual.sort_unstable(); // they were published at once: in no order
    let missing: Vec<u64> = (0..1_000).filter(|seq| !actual.contains(seq)).collect();
    let count = actual.len();
    ensure!(
        missing.is_empty() && count == 1_000,
        "1,000 events were published, {count} were heard; missing are {missing:?}"
    );
    Ok(())
}

async fn what_may_be_lost_is_announced<F: BusFixture>(fixture: Arc<F>) -> Verdict {
    let buses = fixture.servers(2).await;
    let heard = [listen(&*buses[0]).await?, listen(&*buses[1]).await?];
    let id = ConversationId::fresh();
    buses[0].publish(moved(id, 0)).await.map_err(failed)?;
    for heard in &heard {
        hears(heard, id, &[0]).await?;
    }
    fixture.disturb().await;
    // Some of these fail, which their publisher is told; those that did not are heard, or missed
    // with an announcement.
    let mut told = Vec::new();
    for seq in 1..20 {
        if buses[0].publish(moved(id, seq)).await.is_ok() {
            told.push(seq);
        }
    }
    let mut last = 100;
    let working = eventually("publishing works again", PATIENCE, || {
        last += 1;
        let publishing = buses[0].publish(moved(id, last));
        async move { publishing.await.is_ok() }
    });
    working.await?;
    for heard in &heard {
        let settled = || {
            seqs(heard, id).last().is_some_and(|seq| *seq > 100)
                || heard.lock().contains(&Signal::Gap)
        };
        eventually("listening works again", PATIENCE, || async { settled() }).await?;
        let missed = || {
            let got = seqs(heard, id);
            told.iter().any(|seq| !got.contains(seq))
        };
        let announced = || !missed() || heard.lock().contains(&Signal::Gap);
        eventually("a loss is announced", PATIENCE, || async { announced() }).await?;
    }
    Ok(())
}
