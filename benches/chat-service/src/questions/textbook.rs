//! The answer most candidates give, next to this one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_service::chat::{Account, PageLimit};
use chat_service::store::sqlite::Sqlite;
use chat_service::store::textbook::{Letter, Textbook};
use chat_service::{Seq, Store, UserId};

use super::{fill, percentile};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "textbook",
        asks: "A history table indexed by (sender, receiver, timestamp), and a queue of \
            undelivered messages. What is wrong with that?",
        explanation: "A conversation has two directions, so its newest page is two ranges of that \
            index, and a database that is given an OR reads and sorts both. Timestamps collide, so \
            a page that ends within a millisecond loses the rest of it. Nothing names a message \
            before the server has it, so a retry after a lost answer is a second message. And the \
            queue is a second store that has to agree with the first. A log per conversation with \
            a sequence and the sender's own id has none of these.",
        run: |stage| Box::pin(run(stage)),
    }
}

const PAGE: usize = 100;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let count = stage.pick(100_000, 500_000);
    let directory = tempfile::tempdir()?;
    let textbook = Textbook::open(&directory.path().join("textbook.db"))?;
    let log = Arc::new(Sqlite::open(&directory.path().join("log.db")).await?);
    stage.scene(format!("both in SQLite, {count} messages between two people, two in each ms"));
    let letter = |index: usize| Letter {
        sender: if index.is_multiple_of(2) { "alice" } else { "bob" }.to_owned(),
        receiver: if index.is_multiple_of(2) { "bob" } else { "alice" }.to_owned(),
        at_ms: index as u64 / 2,
        text: "x".repeat(200),
    };
    for from in (0..count).step_by(5_000) {
        textbook.send((from..from + 5_000).map(letter).collect()).await?;
    }
    let (alice, bob) = (UserId::new("alice")?, UserId::new("bob")?);
    for user in [&alice, &bob] {
        let (user, password_hash) = (user.clone(), String::new());
        log.create_account(Account { user, password_hash }).await?;
    }
    let conversation = log.open_direct(alice.clone(), bob.clone()).await?.conversation;
    fill(&*log, "alice", conversation, count, |index| index as u64 / 2).await?;

    stage.load(format!("the newest {PAGE}, {} times each, in turns", stage.pick(15, 60)));
    let (mut by_pair, mut by_seq) = (Vec::new(), Vec::new());
    for _ in 0..stage.pick(15, 60) {
        let started = Instant::now();
        anyhow::ensure!(textbook.newest("alice", "bob", PAGE).await?.len() == PAGE);
        by_pair.push(started.elapsed());
        let started = Instant::now();
        let limit = PageLimit::messages(PAGE);
        anyhow::ensure!(
            log.before(bob.clone(), conversation, None, limit).await?.messages.len() == PAGE
        );
        by_seq.push(started.elapsed());
    }
    let (pair, seq) = (percentile(&mut by_pair, 50.0), percentile(&mut by_seq, 50.0));
    let ratio = pair.as_secs_f64() / seq.as_secs_f64();
    stage.observe("newest page by (sender, receiver, timestamp), p50", format!("{pair:?}"));
    stage.observe("newest page by (conversation, seq), p50", format!("{seq:?}"));
    stage.expect(
        "the sequence index is at least 20 times faster",
        ratio >= 20.0,
        format!("{ratio:.0} times"),
    );

    skipped(&stage, &textbook, &log, &bob, conversation).await?;
    repeated(&stage, &textbook, &log, alice, conversation).await?;
    stage.observe("rows in the queue of undelivered messages", textbook.waiting("bob").await?);
    stage.because("one log, one place per message, one name per message given by its sender");
    Ok(())
}

/// Pages of an odd size end in the middle of a millisecond.
async fn skipped(
    stage: &Stage,
    textbook: &Textbook,
    log: &Sqlite,
    reader: &UserId,
    conversation: chat_service::ConversationId,
) -> anyhow::Result<()> {
    let (size, pages) = (7, 50);
    let (mut after, mut by_time) = (None, 0);
    while by_time < size * pages {
        let page = textbook.since("alice", "bob", after, size).await?;
        by_time += page.len();
        after = page.last().map(|row| row.at_ms);
    }
    // Two messages in each millisecond: everything up to and including the last one seen.
    let passed = (after.unwrap_or_default() as usize + 1) * 2;
    let (mut cursor, mut by_place) = (Seq(0), 0);
    for _ in 0..pages {
        let limit = PageLimit::messages(size);
        let page = log.since(reader.clone(), conversation, cursor, limit).await?;
        by_place += page.messages.len();
        cursor = page.messages.last().map_or(cursor, |message| message.seq);
    }
    let lost = passed.saturating_sub(by_time);
    stage.expect("paging by timestamp skips messages", lost > 0, format!("{lost} of {passed}"));
    let none = cursor.0 as usize == by_place;
    stage.expect("paging by sequence skips none", none, format!("{by_place} of {cursor}"));
    Ok(())
}

/// The answer is lost, the sender tries again.
async fn repeated(
    stage: &Stage,
    textbook: &Textbook,
    log: &Sqlite,
    alice: UserId,
    conversation: chat_service::ConversationId,
) -> anyhow::Result<()> {
    let now_ms = Duration::from_secs(1_000_000).as_millis() as u64;
    let (sender, receiver, text) = ("alice", "bob", "once".to_owned());
    let (sender, receiver) = (sender.to_owned(), receiver.to_owned());
    let letter = Letter { sender, receiver, at_ms: now_ms, text };
    for _ in 0..3 {
        textbook.send(vec![letter.clone()]).await?;
    }
    let newest = textbook.newest("alice", "bob", 10).await?;
    let copies = newest.iter().filter(|row| row.text == "once").count();
    stage.expect("without a client id three attempts are three messages", copies == 3, copies);
    let client_id = chat_service::ClientId::fresh();
    let mut places = Vec::new();
    for _ in 0..3 {
        let (sender, text) = (alice.clone(), Arc::from("once"));
        let message =
            chat_service::chat::NewMessage { conversation, sender, client_id, text, now_ms };
        for appended in log.append(vec![message]).await {
            places.push(appended?.seq);
        }
    }
    places.dedup();
    stage.expect("with one they are one", places.len() == 1, format!("{places:?}"));
    Ok(())
}
