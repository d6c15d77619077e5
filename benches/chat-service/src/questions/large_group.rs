//! One message to a large group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_service::chat::{Account, MEMBERS_PER_REQUEST_MAX};
use chat_service::client::{Device, Socket};
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{ClientId, DeviceId, Store, UserId};
use futures::StreamExt;

use super::{Server, connect, enter, frame, hear, percentile};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "chat-service",
        name: "large-group",
        asks: "One message to a group of thousands who are all online. What does it cost?",
        explanation: "One append, whatever the size: the message is in the log once, not once per \
            member. Telling costs one lookup and one push per member who is online; the frame is \
            encoded once and shared. Receipts and typing are not told in large groups: everybody \
            to everybody grows with the square.",
        run: |stage| Box::pin(run(stage)),
    }
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    let count = stage.pick(1_000, 5_000);
    let store = Arc::new(Memory::default());
    let server = Server::alone(Arc::clone(&store)).await?;
    let api = server.api();
    let alice = enter(&api, "alice", "laptop").await?;
    let group = api.group(&alice, "everybody", &[]).await?;
    let tokens = chat_service::token::Tokens::new(&store.identity().token_key);
    let mut members = Vec::new();
    for index in 0..count {
        let user = UserId::new(&format!("u{index}"))?;
        let account = Account { user: user.clone(), password_hash: String::new() };
        store.create_account(account).await?;
        store.put_device(user.clone(), DeviceId::new("phone")?, 0).await?;
        members.push(user);
    }
    for some in members.chunks(MEMBERS_PER_REQUEST_MAX) {
        store.add_members(UserId::new("alice")?, group, some.to_vec(), 0).await?;
    }
    stage.scene(format!("{count} members, all connected, clients and server in one process"));
    let sockets = all_connected(&server.base, &tokens, members).await?;
    let mut laptop = Device::new(alice, 64);
    let mut writing = connect(&server.base, &mut laptop, Resume::Newest).await?;
    hear(&mut writing, &mut laptop, |frame| *frame == ServerFrame::CaughtUp).await?;
    let rounds = 5;
    stage.load(format!("Alice writes {rounds} messages, one after the other"));
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(count * rounds);
    for mut socket in sockets {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            while let Ok(frame) = socket.next().await {
                if let ServerFrame::Message(message) = frame {
                    let _gone = arrived.send((message.seq, Instant::now())).await;
                }
            }
        });
    }
    let (mut lasts, mut delivered) = (Vec::new(), 0);
    for _ in 0..rounds {
        let started = Instant::now();
        let (client_id, text) = (ClientId::fresh(), "hello everybody".into());
        writing.send(&ClientFrame::Send { client_id, conversation: group, text }).await?;
        let mut last = started;
        for _ in 0..count {
            let arrival = tokio::time::timeout(Duration::from_secs(20), arrivals.recv()).await?;
            let Some((_, at)) = arrival else { break };
            last = last.max(at);
            delivered += 1;
        }
        lasts.push(last - started);
        while !matches!(frame(&mut writing).await?, ServerFrame::Sent { .. }) {}
    }
    let median = percentile(&mut lasts, 50.0);
    stage.observe("from writing to the last member, median", format!("{median:?}"));
    let rate = count as f64 / median.as_secs_f64();
    stage.observe("deliveries per second", format!("{rate:.0}"));
    stage.expect("every member got every message", delivered == count * rounds, delivered);
    let limit = Duration::from_secs(2);
    stage.expect("the last one within two seconds", median < limit, format!("{median:?}"));
    stage
        .because("one append and one encoding; the rest is a lookup and a socket write per member");
    Ok(())
}

/// Everybody's phone, connected.
async fn all_connected(
    base: &str,
    tokens: &chat_service::token::Tokens,
    members: Vec<UserId>,
) -> anyhow::Result<Vec<Socket>> {
    let connecting = members.into_iter().map(|user| {
        let device = DeviceId::new("phone");
        let (base, tokens) = (base.to_owned(), tokens.clone());
        async move {
            let claims =
                chat_service::token::Claims { user, device: device?, expires_ms: u64::MAX };
            let mut device = Device::new(tokens.sign(&claims), 64);
            let socket = connect(&base, &mut device, Resume::Newest).await?;
            Ok::<_, anyhow::Error>(socket)
        }
    });
    let sockets: Vec<_> = futures::stream::iter(connecting).buffer_unordered(64).collect().await;
    sockets.into_iter().collect()
}
