//! 100,000 unread messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_service::ConversationId;
use chat_service::client::Device;
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::store::sqlite::Sqlite;

use super::{Server, connect, enter, fill, frame, hear, percentile};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "100k-unread",
        asks: "A user comes back to 100,000 unread messages. What do they wait for?",
        explanation: "For one page. The list of conversations carries the number of unread messages \
            (a subtraction) and the newest one; opening a conversation reads its newest hundred \
            from a clustered index; older pages are read when somebody scrolls. None of it depends \
            on how much is unread. A device that does want everything gives credit as it takes \
            messages, so the server never has more than a page of it in memory.",
        run: |stage| Box::pin(run(stage)),
    }
}

const UNREAD: usize = 100_000;
const FEW: usize = 1_000;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Arc::new(Sqlite::open(&directory.path().join("chat.db")).await?);
    let server = Server::alone(Arc::clone(&store)).await?;
    let api = server.api();
    let alice = enter(&api, "alice", "laptop").await?;
    let (bob, carol) = (enter(&api, "bob", "phone").await?, enter(&api, "carol", "phone").await?);
    let many = api.direct(&alice, "bob").await?;
    let few = api.direct(&alice, "carol").await?;
    stage.scene(format!(
        "SQLite on disk; Bob has {UNREAD} unread messages of 200 bytes, Carol has {FEW}"
    ));
    fill(&*store, "alice", many, UNREAD, |index| index as u64).await?;
    fill(&*store, "alice", few, FEW, |index| index as u64).await?;

    let rounds = stage.pick(60, 400);
    stage.load(format!("each connects {rounds} times, takes turns, and opens the conversation"));
    let (mut with_many, mut with_few) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        with_many.push(first_page(&server.base, &bob, many, UNREAD).await?);
        with_few.push(first_page(&server.base, &carol, few, FEW).await?);
    }
    let (p50, p99) = (percentile(&mut with_many, 50.0), percentile(&mut with_many, 99.0));
    let small = percentile(&mut with_few, 50.0);
    let ratio = p50.as_secs_f64() / small.as_secs_f64();
    stage.observe("connect, list and newest 100 of 100,000: p50, p99", format!("{p50:?}, {p99:?}"));
    stage.observe("the same with 1,000 unread: p50", format!("{small:?}"));
    stage.expect(
        "the first page takes at most 5 ms",
        p50 <= Duration::from_millis(5),
        format!("{p50:?}"),
    );
    stage.expect(
        "it does not depend on how much is unread (within 1.5)",
        ratio <= 1.5,
        format!("100 times as much takes {ratio:.2} times as long"),
    );

    let mut device = Device::new(bob, 2_048);
    let mut socket = connect(&server.base, &mut device, Resume::Missed).await?;
    let started = Instant::now();
    let pushed = hear(&mut socket, &mut device, |f| *f == ServerFrame::CaughtUp).await?;
    let took = started.elapsed();
    let complete = pushed.iter().copied().eq(1..=UNREAD as u64);
    stage.observe("reading all of it, with acknowledgements", format!("{took:?}"));
    stage.expect("all 100,000 come, in order, each once", complete, format!("{}", pushed.len()));
    stage.expect(
        "all of it takes at most 1.5 s",
        took <= Duration::from_millis(1_500),
        format!("{took:?}, {:.0} messages/s", UNREAD as f64 / took.as_secs_f64()),
    );
    stage.because("list, first page and every further page are ranges of one clustered index");
    Ok(())
}

/// From the first byte to the newest hundred on the screen.
async fn first_page(
    base: &str,
    token: &str,
    conversation: ConversationId,
    last: usize,
) -> anyhow::Result<Duration> {
    let mut device = Device::new(token.to_owned(), 100);
    let started = Instant::now();
    let mut socket = connect(base, &mut device, Resume::Newest).await?;
    let ask = ClientFrame::History { id: 1, conversation, before: None, limit: Some(100) };
    socket.send(&ask).await?;
    loop {
        if let ServerFrame::Page { messages, has_more, .. } = frame(&mut socket).await? {
            let took = started.elapsed();
            let newest = messages.last().map(|message| message.seq.0);
            anyhow::ensure!(newest == Some(last as u64) && messages.len() == 100 && has_more);
            socket.close().await;
            return Ok(took);
        }
    }
}
