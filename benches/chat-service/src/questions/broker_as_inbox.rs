//! Why the inbox is not read from the broker.

use std::sync::Arc;
use std::time::Instant;

use chat_service::chat::{Account, PageLimit};
use chat_service::store::sqlite::Sqlite;
use chat_service::{ConversationId, Seq, Store, UserId};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, cmd, pipe};

use super::fill;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "broker-as-inbox",
        asks: "The messages go through Kafka anyway. Why not let the user's device read its inbox \
            from there?",
        explanation: "A partition is read in order, from an offset, by one reader for everybody in \
            it. One user's messages are spread over it, so who comes back reads everybody's; the \
            newest first cannot be asked for at all. And the offset is one number: a worker that \
            commits it only when the user has the message stops for everybody behind the first \
            user who is away. A topic per user has neither problem and costs a topic per user, \
            which brokers count in thousands, not in billions. So the broker carries what happened \
            to the servers, each event is materialised into a log per conversation, the offset is \
            committed then, and devices read the log. Measured on Redis Streams, whose streams \
            are read as Kafka's partitions are, because librdkafka takes a C build that this \
            program is spared; the Kafka bus itself is tested by `cargo x test --kafka`.",
        run: |stage| Box::pin(run(stage)),
    }
}

/// Everybody whose key falls into the partition.
const USERS: usize = 1_000;
/// One page of the partition.
const READ_AT_ONCE: usize = 1_000;
const PARTITION: &str = "partition-0";
/// Which of them is Bob.
const BOB: usize = 500;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let each = stage.pick(100, 400);
    let redis = infra::redis().await?;
    let mut broker = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    stage.scene(format!(
        "one partition (a stream in Redis {}) and one SQLite file, {USERS} users with {each} \
         messages of 200 bytes each; Bob is one of them, and away",
        redis.version()
    ));
    fill_partition(&mut broker, each).await?;
    let directory = tempfile::tempdir()?;
    let store = Arc::new(Sqlite::open(&directory.path().join("chat.db")).await?);
    let (bob, conversation) = fill_log(&store, each).await?;

    stage.load(format!("Bob comes back for his {each} messages"));
    let started = Instant::now();
    let (found, read) = scan(&mut broker).await?;
    let scanned = started.elapsed();
    let started = Instant::now();
    let page = store.since(bob.clone(), conversation, Seq(0), PageLimit::messages(each)).await?;
    let looked_up = started.elapsed();
    stage.observe("from the partition", format!("{found} found in {read} read: {scanned:?}"));
    stage.observe("from the log of the conversation", format!("{looked_up:?}"));
    stage.expect(
        "both have all of them",
        found == each && page.messages.len() == each,
        format!("{found}, {}", page.messages.len()),
    );
    let ratio = scanned.as_secs_f64() / looked_up.as_secs_f64();
    stage.expect("the log is at least 20 times faster", ratio >= 20.0, format!("{ratio:.0} times"));

    stage.fault("offline", "Bob is away again; a worker delivers from the partition");
    let held_up = delivered(&mut broker, false).await?;
    let flowing = delivered(&mut broker, true).await?;
    let all = USERS * each;
    stage.observe("delivered when the offset waits for the user", format!("{held_up} of {all}"));
    stage.observe("delivered when it waits for the log only", format!("{flowing} of {all}"));
    stage.expect(
        "one user who is away stops everybody behind",
        held_up < USERS && flowing == all,
        format!("the worker stands at {held_up}"),
    );
    let bytes = stream_per_user(&mut broker).await?;
    stage.observe("memory of a stream for one user with one short message", format!("{bytes} B"));
    stage.because("a broker is a log for servers; an inbox is an index for people");
    Ok(())
}

/// Round robin, as many users' messages arrive.
async fn fill_partition(broker: &mut MultiplexedConnection, each: usize) -> anyhow::Result<()> {
    let text = "x".repeat(200);
    for _ in 0..each {
        let mut some = pipe();
        for user in 0..USERS {
            let fields = [("to", user.to_string()), ("text", text.clone())];
            some.xadd(PARTITION, "*", &fields).ignore();
        }
        some.query_async::<()>(broker).await?;
    }
    Ok(())
}

/// As many messages in everybody's conversation with Alice. Returns Bob and his.
async fn fill_log(store: &Arc<Sqlite>, each: usize) -> anyhow::Result<(UserId, ConversationId)> {
    let alice = UserId::new("alice")?;
    let account = |user: &UserId| Account { user: user.clone(), password_hash: String::new() };
    store.create_account(account(&alice)).await?;
    let mut bobs = None;
    for user in 0..USERS {
        let user_id = UserId::new(&format!("u{user}"))?;
        store.create_account(account(&user_id)).await?;
        let conversation = store.open_direct(alice.clone(), user_id.clone()).await?.conversation;
        fill(&**store, "alice", conversation, each, |_| 0).await?;
        if user == BOB {
            bobs = Some((user_id, conversation));
        }
    }
    bobs.ok_or_else(|| anyhow::anyhow!("Bob is one of them"))
}

/// Reads the partition from where Bob was, which is its beginning; how many were his, of how many.
async fn scan(broker: &mut MultiplexedConnection) -> anyhow::Result<(usize, usize)> {
    let (mut found, mut read) = (0, 0);
    each_entry(broker, |to| {
        found += usize::from(to == BOB);
        read += 1;
        true
    })
    .await?;
    Ok((found, read))
}

/// What a worker delivers before it stands still. `materialises`: it puts each message into a log
/// and goes on; otherwise it waits until the user has it.
async fn delivered(
    broker: &mut MultiplexedConnection,
    materialises: bool,
) -> anyhow::Result<usize> {
    let mut count = 0;
    each_entry(broker, |to| {
        let goes_on = materialises || to != BOB;
        count += usize::from(goes_on);
        goes_on
    })
    .await?;
    Ok(count)
}

/// Calls `each` with the user of every entry in order, until it says false.
async fn each_entry(
    broker: &mut MultiplexedConnection,
    mut each: impl FnMut(usize) -> bool,
) -> anyhow::Result<()> {
    let mut offset = "0".to_owned();
    let options = StreamReadOptions::default().count(READ_AT_ONCE);
    loop {
        let reply: Option<StreamReadReply> =
            broker.xread_options(&[PARTITION], &[&offset], &options).await?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        let before = offset.clone();
        for entry in entries {
            let to: usize = entry.get("to").unwrap_or_default();
            offset = entry.id;
            if !each(to) {
                return Ok(());
            }
        }
        if offset == before {
            return Ok(());
        }
    }
}

/// The other way out: a stream for each user. Returns what one weighs.
async fn stream_per_user(broker: &mut MultiplexedConnection) -> anyhow::Result<usize> {
    let mut some = pipe();
    for user in 0..USERS {
        some.xadd(format!("user-{user}"), "*", &[("text", "x")]).ignore();
    }
    some.query_async::<()>(broker).await?;
    Ok(cmd("MEMORY").arg("USAGE").arg(format!("user-{BOB}")).query_async(broker).await?)
}
