//! A phone that was off for a week.

use std::sync::Arc;

use chat_service::NodeSettings;
use chat_service::bus::local::Local;
use chat_service::client::{Device, Heard};
use chat_service::protocol::{Resume, ServerFrame};
use chat_service::store::sqlite::Sqlite;
use service::Clock;

use super::{Server, connect, enter, fill, frame, hear};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "offline-for-a-week",
        asks: "Bob's phone was off for a week, with a message of his own that never got an answer. \
            What happens when it is switched on?",
        explanation: "Nothing was kept for him meanwhile: his device has a cursor, and the log has \
            what follows it. He is pushed that, in order, and then told that he is caught up. His \
            own message goes out again under its client id; ids are remembered as long as messages \
            are, so a retry after a week is still a retry. A store with a two-minute window would \
            now have it twice.",
        run: |stage| Box::pin(run(stage)),
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const MESSAGES: usize = 700;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Arc::new(Sqlite::open(&directory.path().join("chat.db")).await?);
    let clock = Clock::manual(20_000 * DAY_MS);
    let bus = Arc::new(Local::default());
    let started = NodeSettings::default();
    let server = Server::start_with(Arc::clone(&store), bus, started, clock.clone()).await?;
    let api = server.api();
    enter(&api, "alice", "laptop").await?;
    let bob = enter(&api, "bob", "phone").await?;
    let conversation = api.direct(&bob, "alice").await?;
    stage.scene("SQLite on disk, on a clock that the question moves");

    let mut phone = Device::new(bob, 256);
    let mut socket = connect(&server.base, &mut phone, Resume::Missed).await?;
    hear(&mut socket, &mut phone, |frame| *frame == ServerFrame::CaughtUp).await?;
    let last_words = phone.write(conversation, "on my way");
    socket.send(&last_words).await?;
    // The answer comes, but the phone is already off: it never reads it.
    while !matches!(frame(&mut socket).await?, ServerFrame::Sent { .. }) {}
    drop(socket);
    stage.fault("kill-9", "Bob's phone goes off before it reads that its message was taken");

    stage.load(format!("Alice writes {MESSAGES} messages in seven days"));
    let now_ms = clock.now_ms();
    let spread = |index| now_ms + 7 * DAY_MS * index as u64 / MESSAGES as u64;
    fill(&*store, "alice", conversation, MESSAGES, spread).await?;
    clock.advance_ms(7 * DAY_MS);
    stage.heal("kill-9");

    // The token ended long ago; the device logs in again and keeps what it has.
    let mut returned = Device::new(enter(&api, "bob", "phone").await?, 256);
    let mut socket = connect(&server.base, &mut returned, Resume::Missed).await?;
    socket.send(&last_words).await?;
    let (mut answers, mut caught_up) = (Vec::new(), false);
    let mut pushed = Vec::new();
    while !caught_up || answers.is_empty() {
        let next = frame(&mut socket).await?;
        caught_up |= next == ServerFrame::CaughtUp;
        match returned.hear(next) {
            Heard::New(message) | Heard::Again(message) => pushed.push(message.seq.0),
            Heard::Sent { seq, duplicate, .. } => answers.push((seq.0, duplicate)),
            _ => {}
        }
        socket.send_all(&returned.due()).await?;
    }
    stage.expect("the retry finds its first place", answers == [(1, true)], format!("{answers:?}"));
    let complete = pushed.iter().copied().eq(1..=MESSAGES as u64 + 1);
    let observed = format!("{} pushed, {:?} to {:?}", pushed.len(), pushed.first(), pushed.last());
    stage.expect("everything of the week comes, once and in order", complete, observed);
    let all = chat_service::Store::members(&*store, conversation).await?;
    stage.observe("members told of anything while he was away", all.users.len() - 1);
    stage.because("his device is a number in the store, whether it is away for a minute or a year");
    Ok(())
}
