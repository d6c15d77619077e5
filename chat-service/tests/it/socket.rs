//! The protocol, frame by frame: what PROTOCOL.md says happens.

use std::sync::Arc;

use chat_service::bus::local::Local;
use chat_service::client::{Device, Socket};
use chat_service::protocol::{ClientFrame, FRAME_BYTES_MAX, Resume, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{ClientId, ConversationId, Epoch, NodeSettings, Seq};
use service::Clock;

use crate::support::{Person, Server, code, end, next, next_where, settings};

fn send(conversation: ConversationId, text: &str) -> ClientFrame {
    ClientFrame::Send { client_id: ClientId::fresh(), conversation, text: text.into() }
}

fn error(frame: ServerFrame) -> Option<(String, Option<String>)> {
    match frame {
        ServerFrame::Error { code, field, .. } => Some((code.into_owned(), field)),
        _ => None,
    }
}

fn seq(frame: ServerFrame) -> Option<u64> {
    match frame {
        ServerFrame::Message(message) => Some(message.seq.0),
        _ => None,
    }
}

/// Alice and Bob, and `count` messages from Alice.
async fn written(server: &Server, count: usize) -> (Person, Person, ConversationId, Socket) {
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let bob = Person::enter(&api, "bob", "phone").await;
    let conversation = api.direct(&alice.token, "bob").await.unwrap();
    let mut socket = alice.connect(&server.base, 1_000).await;
    for number in 1..=count {
        socket.send(&send(conversation, &format!("{number}"))).await.unwrap();
    }
    for _ in 0..count {
        next_where(&mut socket, |f| matches!(f, ServerFrame::Sent { .. }).then_some(())).await;
    }
    (alice, bob, conversation, socket)
}

#[tokio::test]
async fn a_hello_that_is_none_is_closed_for_good() {
    let server = Server::memory().await;
    let alice = Person::enter(&server.api(), "alice", "laptop").await;
    let hello = |token: &str| format!(r#"{{"type":"hello","token":"{token}","credit":1}}"#);
    let other = Server::memory().await;
    let foreign = Person::enter(&other.api(), "alice", "laptop").await;
    for (text, expected) in [
        ("{}".to_owned(), 4400),
        (r#"{"type":"ping","id":1}"#.to_owned(), 4400),
        (hello("junk"), 4401),
        (hello(&foreign.token), 4401),
        (hello(&alice.token) + " ", 0),
        ("x".repeat(FRAME_BYTES_MAX + 1), 4413),
    ] {
        let mut socket = Socket::connect_silently(&server.base).await.unwrap();
        socket.send_text(&text).await.unwrap();
        if text.ends_with(' ') {
            assert!(matches!(next(&mut socket).await, ServerFrame::Welcome { .. }));
            continue;
        }
        assert_eq!(code(&end(&mut socket).await), expected, "{}", &text[..text.len().min(60)]);
    }
}

#[tokio::test]
async fn a_wrong_frame_is_answered_by_field_and_the_connection_goes_on() {
    let server = Server::memory().await;
    let (_alice, _bob, conversation, mut socket) = written(&server, 1).await;
    let unknown = ConversationId::fresh();
    let id = ClientId::fresh();
    for (text, code, field) in [
        ("nonsense".to_owned(), "invalid", "frame"),
        (r#"{"type":"ack"}"#.to_owned(), "invalid", "conversation"),
        (format!(r#"{{"type":"ack","conversation":"{conversation}","seq":99}}"#), "invalid", "seq"),
        (
            format!(r#"{{"type":"read","conversation":"{conversation}","seq":99}}"#),
            "invalid",
            "seq",
        ),
        (
            format!(r#"{{"type":"ack","conversation":"{unknown}","seq":0}}"#),
            "not-found",
            "conversation",
        ),
        (
            format!(
                r#"{{"type":"send","client_id":"{id}","conversation":"{unknown}","text":"x"}}"#
            ),
            "not-found",
            "conversation",
        ),
        (
            format!(
                r#"{{"type":"send","client_id":"{id}","conversation":"{conversation}","text":""}}"#
            ),
            "invalid",
            "text",
        ),
        (
            format!(r#"{{"type":"history","id":1,"conversation":"{unknown}"}}"#),
            "not-found",
            "conversation",
        ),
        (format!(r#"{{"type":"watch","conversation":"{unknown}"}}"#), "not-found", "conversation"),
    ] {
        socket.send_text(&text).await.unwrap();
        let told = next_where(&mut socket, error).await;
        assert_eq!(told, (code.to_owned(), Some(field.to_owned())), "{text}");
    }
    socket.send(&ClientFrame::Ping { id: 7 }).await.unwrap();
    next_where(&mut socket, |f| (f == ServerFrame::Pong { id: 7 }).then_some(())).await;
    for _ in 0..40 {
        drop(socket.send_text("{").await);
    }
    assert_eq!(code(&end(&mut socket).await), 4429);
}

/// The close frame arrives, although most of what was sent was never read.
#[tokio::test]
async fn a_frame_that_is_too_large_is_closed_with_its_code_not_reset() {
    let server = Server::memory().await;
    for bytes in [FRAME_BYTES_MAX + 1, 8 * FRAME_BYTES_MAX] {
        let (_alice, _bob, _conversation, mut socket) = written(&server, 1).await;
        socket.send_text(&"x".repeat(bytes)).await.unwrap();
        let ended = end(&mut socket).await;
        assert_eq!(code(&ended), 4413, "{bytes}: {ended}");
        assert!(!ended.may_reconnect());
    }
}

#[tokio::test]
async fn what_was_missed_comes_in_order_then_caught_up_then_live() {
    let server = Server::memory().await;
    let (_alice, bob, conversation, mut alices) = written(&server, 600).await;
    let mut socket = bob.connect(&server.base, 1_000).await;
    let mut got = Vec::new();
    next_where(&mut socket, |frame| {
        let is_end = frame == ServerFrame::CaughtUp;
        got.extend(seq(frame));
        is_end.then_some(())
    })
    .await;
    assert_eq!(got, (1..=600).collect::<Vec<_>>());
    alices.send(&send(conversation, "live")).await.unwrap();
    assert_eq!(next_where(&mut socket, seq).await, 601);
    socket.send(&ClientFrame::Ack { conversation, seq: Seq(601) }).await.unwrap();
    let ticks = next_where(&mut alices, |frame| match frame {
        ServerFrame::Receipt(receipt) if receipt.user.as_str() == "bob" => Some(receipt.delivered),
        _ => None,
    });
    assert_eq!(ticks.await, Seq(601));
}

#[tokio::test]
async fn never_more_is_pushed_than_there_is_credit_for() {
    let server = Server::memory().await;
    let (_alice, bob, conversation, mut alices) = written(&server, 50).await;
    let mut socket = bob.connect(&server.base, 3).await;
    for round in 0..5 {
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(next_where(&mut socket, seq).await);
        }
        assert_eq!(got, (round * 3 + 1..=round * 3 + 3).collect::<Vec<_>>());
        // Live messages do not jump the queue either; the pong comes after anything pushed.
        alices.send(&send(conversation, "more")).await.unwrap();
        next_where(&mut alices, |f| matches!(f, ServerFrame::Sent { .. }).then_some(())).await;
        socket.send(&ClientFrame::Ping { id: round }).await.unwrap();
        let pushed = next_where(&mut socket, |frame| match frame {
            ServerFrame::Pong { .. } => Some(None),
            frame => seq(frame).map(Some),
        });
        assert_eq!(pushed.await, None, "pushed without credit");
        socket.send(&ClientFrame::Credit { messages: 3 }).await.unwrap();
    }
}

#[tokio::test]
async fn resuming_at_the_newest_reads_history_backwards_on_demand() {
    let server = Server::memory().await;
    let (_alice, bob, conversation, _alices) = written(&server, 300).await;
    let mut device = Device::new(bob.token.clone(), 100);
    let mut socket = Socket::connect(&server.base, &device.hello(Resume::Newest)).await.unwrap();
    let summary = next_where(&mut socket, |frame| match frame {
        ServerFrame::Conversations { items, complete: true } => items.into_iter().next(),
        _ => None,
    })
    .await;
    assert_eq!((summary.last_seq, summary.unread), (Seq(300), 300));
    assert_eq!(next(&mut socket).await, ServerFrame::CaughtUp, "nothing is pushed");
    let mut before = None;
    let mut all = Vec::new();
    for id in 0.. {
        socket
            .send(&ClientFrame::History { id, conversation, before, limit: Some(100) })
            .await
            .unwrap();
        let (messages, has_more) = next_where(&mut socket, |frame| match frame {
            ServerFrame::Page { id: of, messages, has_more, .. } if of == id => {
                Some((messages, has_more))
            }
            _ => None,
        })
        .await;
        before = messages.first().map(|message| message.seq);
        all.splice(0..0, messages.iter().map(|message| message.seq.0));
        if !has_more {
            break;
        }
    }
    assert_eq!(all, (1..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_of_another_epoch_starts_over() {
    let server = Server::memory().await;
    let (_alice, bob, conversation, _alices) = written(&server, 5).await;
    let cursors = vec![chat_service::protocol::Cursor { conversation, seq: Seq(3) }];
    let hello = |epoch| ClientFrame::Hello {
        token: bob.token.clone(),
        epoch: Some(epoch),
        cursors: cursors.clone(),
        resume: Resume::Missed,
        credit: 100,
    };
    let mut socket = Socket::connect(&server.base, &hello(Epoch(1))).await.unwrap();
    let ServerFrame::Welcome { epoch, reset: true, .. } = next(&mut socket).await else {
        panic!("the other epoch was not noticed")
    };
    assert_eq!(next_where(&mut socket, seq).await, 1, "a cursor of another life was believed");
    let mut socket = Socket::connect(&server.base, &hello(epoch)).await.unwrap();
    assert!(matches!(next(&mut socket).await, ServerFrame::Welcome { reset: false, .. }));
    assert_eq!(next_where(&mut socket, seq).await, 4);
}

#[tokio::test]
async fn a_retry_is_answered_with_its_first_place() {
    let server = Server::memory().await;
    let (_alice, _bob, conversation, mut socket) = written(&server, 2).await;
    let frame = send(conversation, "once");
    let mut told = Vec::new();
    for _ in 0..3 {
        socket.send(&frame).await.unwrap();
        let sent = next_where(&mut socket, |frame| match frame {
            ServerFrame::Sent { seq, duplicate, .. } => Some((seq.0, duplicate)),
            _ => None,
        });
        told.push(sent.await);
    }
    assert_eq!(told, [(3, false), (3, true), (3, true)]);
}

#[tokio::test]
async fn an_expired_token_is_refused_and_a_live_connection_ends_with_its_token() {
    let clock = Clock::manual(1_000_000);
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let server = Server::start_with(store, bus, settings(), clock.clone()).await;
    let alice = Person::enter(&server.api(), "alice", "laptop").await;
    clock.advance_ms(24 * 60 * 60 * 1_000 - 300);
    let mut socket = alice.connect(&server.base, 10).await;
    let ended = end(&mut socket).await;
    assert_eq!(code(&ended), 4002);
    assert!(ended.may_reconnect());
    clock.advance_ms(300);
    let mut device = Device::new(alice.token.clone(), 1);
    let mut socket = Socket::connect(&server.base, &device.hello(Resume::Missed)).await.unwrap();
    assert_eq!(code(&end(&mut socket).await), 4002);
}

#[tokio::test]
async fn who_says_nothing_is_closed_and_who_sends_too_fast_is_told_to_wait() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let settings =
        NodeSettings { silence_ms: 300, sends_per_second: 1, send_burst: 5, ..settings() };
    let server = Server::start_with(store, bus, settings, Clock::system()).await;
    let (_alice, _bob, conversation, mut socket) = written(&server, 5).await;
    socket.send(&send(conversation, "one too many")).await.unwrap();
    assert_eq!(next_where(&mut socket, error).await.0, "rate-limited");
    assert_eq!(code(&end(&mut socket).await), 4003);
}

#[tokio::test]
async fn a_removed_member_hears_it_and_nothing_after_it() {
    let server = Server::memory().await;
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let bob = Person::enter(&api, "bob", "phone").await;
    let group = api.group(&alice.token, "plans", &["bob"]).await.unwrap();
    let mut alices = alice.connect(&server.base, 100).await;
    let mut bobs = bob.connect(&server.base, 100).await;
    next_where(&mut bobs, |f| (f == ServerFrame::CaughtUp).then_some(())).await;
    let path = format!("/v1/conversations/{group}/members/bob");
    api.request(hyper::Method::DELETE, &path, Some(&alice.token), &serde_json::Value::Null)
        .await
        .unwrap();
    next_where(&mut bobs, |f| (f == ServerFrame::Removed { conversation: group }).then_some(()))
        .await;
    alices.send(&send(group, "without bob")).await.unwrap();
    next_where(&mut alices, |f| matches!(f, ServerFrame::Sent { .. }).then_some(())).await;
    bobs.send(&send(group, "still here?")).await.unwrap();
    let told = next_where(&mut bobs, |frame| match frame {
        ServerFrame::Message(message) => panic!("a removed member was pushed {message:?}"),
        frame => error(frame),
    });
    assert_eq!(told.await.0, "not-found");
}

#[tokio::test]
async fn a_new_member_is_pushed_from_the_moment_of_joining() {
    let server = Server::memory().await;
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let bob = Person::enter(&api, "bob", "phone").await;
    let group = api.group(&alice.token, "plans", &[]).await.unwrap();
    let mut alices = alice.connect(&server.base, 100).await;
    let mut bobs = bob.connect(&server.base, 100).await;
    next_where(&mut bobs, |f| (f == ServerFrame::CaughtUp).then_some(())).await;
    alices.send(&send(group, "before bob")).await.unwrap();
    next_where(&mut alices, |f| matches!(f, ServerFrame::Sent { .. }).then_some(())).await;
    let path = format!("/v1/conversations/{group}/members");
    let body = serde_json::json!({"members": ["bob"]});
    api.request(hyper::Method::POST, &path, Some(&alice.token), &body).await.unwrap();
    alices.send(&send(group, "hello bob")).await.unwrap();
    assert_eq!(next_where(&mut bobs, seq).await, 2, "his own joining is the first he sees");
    assert_eq!(next_where(&mut bobs, seq).await, 3);
}
