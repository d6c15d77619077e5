//! A phone that does not read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_service::bus::local::Local;
use chat_service::client::Device;
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{ClientId, ConversationId, NodeSettings};
use service::Clock;

use super::{Server, connect, enter, frame, hear, percentile};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "slow-phone",
        asks: "One phone in a busy group stops reading. What do the others notice, and what does \
            the server keep for it?",
        explanation: "What waits for a connection is bounded in bytes. Beyond the bound the server \
            keeps a number, how far the log has moved, and reads from the log when the phone reads \
            again. A phone that takes nothing for too long is closed with a code that says come \
            back; it resumes at its cursor. Publishing never waits for a reader, so the others \
            notice nothing.",
        run: |stage| Box::pin(run(stage)),
    }
}

const TEXT_BYTES: usize = 8_000;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let settings = NodeSettings { slow_ms: 500, ..NodeSettings::default() };
    let server = Server::start_with(store, bus, settings, Clock::system()).await?;
    let api = server.api();
    let alice = enter(&api, "alice", "laptop").await?;
    let (bob, cy) = (enter(&api, "bob", "phone").await?, enter(&api, "cy", "phone").await?);
    let group = api.group(&alice, "busy", &["bob", "cy"]).await?;
    stage.scene("Alice writes, Cy reads, Bob's phone stops reading; 500 ms count as too slow");

    let mut laptop = Device::new(alice, 2_048);
    let mut writing = connect(&server.base, &mut laptop, Resume::Newest).await?;
    let mut cys = Device::new(cy, 2_048);
    let mut reading = connect(&server.base, &mut cys, Resume::Newest).await?;
    hear(&mut reading, &mut cys, |frame| *frame == ServerFrame::CaughtUp).await?;
    let count = stage.pick(600, 3_000);
    stage.load(format!("{count} messages of {TEXT_BYTES} bytes, first without Bob, then with"));
    let mut without = round_trips(&mut writing, &mut reading, &mut cys, group, count).await?;

    let mut bobs = Device::new(bob, 2_048);
    let mut stalled = connect(&server.base, &mut bobs, Resume::Newest).await?;
    hear(&mut stalled, &mut bobs, |frame| *frame == ServerFrame::CaughtUp).await?;
    stage.fault("slow-network", "Bob's phone reads nothing any more");
    let mut with = round_trips(&mut writing, &mut reading, &mut cys, group, count).await?;
    let (before, after) = (percentile(&mut without, 99.0), percentile(&mut with, 99.0));
    stage.observe("Cy's p99 without and with the stalled phone", format!("{before:?}, {after:?}"));
    let most = before * 2 + Duration::from_millis(5);
    stage.expect("Cy notices nothing (p99 within 2x + 5 ms)", after <= most, format!("{after:?}"));

    tokio::time::sleep(Duration::from_millis(1_000)).await; // longer than counts as too slow
    stage.heal("slow-network");
    let ended = loop {
        match stalled.next().await {
            Ok(frame) => drop(bobs.hear(frame)),
            Err(ended) => break ended,
        }
    };
    let last = cys.cursor(group);
    let missing = last.0 - bobs.cursor(group).0;
    stage.expect("Bob was closed, and may come back", ended.may_reconnect(), &ended);
    stage.expect(
        "he was not sent everything into a full pipe",
        missing > 0,
        format!("{missing} missing"),
    );
    let mut again = connect(&server.base, &mut bobs, Resume::Missed).await?;
    let from = bobs.cursor(group).0 + 1;
    let pushed = hear(&mut again, &mut bobs, |frame| *frame == ServerFrame::CaughtUp).await?;
    let complete = pushed.iter().copied().eq(from..=last.0);
    stage.expect(
        "he resumes without a loss or a repeat",
        complete,
        format!("{} pushed", pushed.len()),
    );
    stage
        .because("a mailbox holds 64 KiB; what does not fit is a number, and the log has the rest");
    Ok(())
}

/// How long each message takes from Alice's hand to Cy's eye.
async fn round_trips(
    writing: &mut chat_service::client::Socket,
    reading: &mut chat_service::client::Socket,
    cys: &mut Device,
    conversation: ConversationId,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let text: Arc<str> = "x".repeat(TEXT_BYTES).into();
    let mut times = Vec::new();
    for _ in 0..count {
        let (client_id, text) = (ClientId::fresh(), Arc::clone(&text));
        let started = Instant::now();
        writing.send(&ClientFrame::Send { client_id, conversation, text }).await?;
        hear(reading, cys, |frame| {
            matches!(frame, ServerFrame::Message(message) if message.client_id == client_id)
        })
        .await?;
        times.push(started.elapsed());
        while !matches!(frame(writing).await?, ServerFrame::Sent { .. }) {}
    }
    Ok(times)
}
