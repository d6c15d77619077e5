//! A million messages wait. Does receiving become slower?

use std::time::Instant;

use job_queue::clock::Clock;
use job_queue::store::memory::Memory;
use job_queue::{Ask, Content, NewMessage, QueueId, Queues, Settings};

use super::id;
use measure::{Question, Stage};

const SHALLOW: usize = 1_000;

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "depth",
        asks: "A million messages wait. Is a receive slower than with a thousand?",
        explanation: "Nothing in the queue looks at more than it returns: the next message is the \
            front of a lane, and the next lane the front of a list that holds only lanes with \
            something to give. Blocked groups are in no list, so a hundred thousand of them cost \
            nothing. What is left of a difference is the processor's caches.",
        run: |stage| Box::pin(depth(stage)),
    }
}

async fn depth(stage: Stage) -> anyhow::Result<()> {
    let deep = stage.pick(300_000, 1_000_000);
    let cycles = stage.pick(100_000, 400_000);
    stage.scene("the in-memory answer, called directly, one thread");
    stage.load(format!("{cycles} messages: send, receive by 10, delete by 10, at constant depth"));
    for (name, settings, groups) in
        [("standard", Settings::standard(), 0), ("depth.fifo", Settings::fifo(), 1_000)]
    {
        let shallow = rate(&id(name), settings.clone(), SHALLOW, groups, cycles).await?;
        let at_depth = rate(&id(name), settings, deep, groups, cycles).await?;
        let ratio = at_depth / shallow;
        stage.observe(
            format!("{name}: messages a second"),
            format!("{shallow:.0} at {SHALLOW}, {at_depth:.0} at {deep}: {:.0} %", ratio * 100.0),
        );
        // A loose bound for a shared machine: a scan would be hundreds of times slower.
        stage.expect(
            format!("{name}: depth costs cache misses, not a scan"),
            ratio > 0.3,
            format!("{:.0} % of the shallow rate", ratio * 100.0),
        );
    }
    stage.because("every structure is entered at its front or by a key");
    Ok(())
}

/// Messages a second through a queue that holds `depth` all the time.
async fn rate(
    queue: &QueueId,
    settings: Settings,
    depth: usize,
    groups: usize,
    cycles: usize,
) -> anyhow::Result<f64> {
    let store = Memory::new(Clock::system());
    store.create(queue, settings).await?;
    let mut sent = 0;
    let mut message = || {
        sent += 1;
        let mut content = Content::text("x".repeat(100));
        if groups > 0 {
            content.group = Some((sent / 10 % groups).to_string().into());
            content.dedup_id = Some(sent.to_string());
        }
        NewMessage::new(content)
    };
    for _ in 0..depth / 10 {
        store.send(queue, (0..10).map(|_| message()).collect()).await?;
    }
    let began = Instant::now();
    for _ in 0..cycles / 10 {
        store.send(queue, (0..10).map(|_| message()).collect()).await?;
        let received = store.receive(queue, Ask::now(10)).await?;
        anyhow::ensure!(received.len() == 10, "{} of 10 messages came", received.len());
        let receipts = received.iter().map(|it| it.receipt).collect();
        for deleted in store.delete(queue, receipts).await? {
            deleted?;
        }
    }
    Ok(cycles as f64 / began.elapsed().as_secs_f64())
}
