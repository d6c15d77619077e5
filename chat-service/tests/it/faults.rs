//! What happens between a client and its server: cuts, half-open sockets, stalls, storms.

use std::sync::Arc;
use std::time::Duration;

use chat_service::bus::local::Local;
use chat_service::client::{Device, Socket};
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{ClientId, Seq};
use faultline::{Direction, Fault, Proxy};
use service::Clock;
use testkit::Seed;
use tokio::sync::watch;

use crate::support::{PATIENCE, Person, Server, cast, code, end, judge, next_where, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_half_open_sockets_and_lost_answers_lose_and_repeat_nothing() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let server = Server::memory().await;
    let proxy = Proxy::start_seeded(server.address, rng.u64(..)).await.unwrap();
    let (_keep, base) = watch::channel(format!("http://{}", proxy.addr()));
    let cast = cast(&server.api(), base, 100, 6).await;
    let playing: Vec<_> = cast.parts.into_iter().map(|part| tokio::spawn(part.play())).collect();
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(rng.u64(20..80))).await;
        match round % 4 {
            0 => proxy.cut(),
            // The server has done the work and its answer is lost, in the middle of a frame.
            1 => proxy.set(Fault::Reset { after_bytes: rng.u64(1..2_000) }.on(Direction::Down)),
            2 => proxy.set(Fault::Slice { bytes_max: 7 }),
            _ => proxy.set(Fault::HalfOpen),
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(20..80))).await;
        proxy.clear();
        proxy.heal();
    }
    let mut devices = Vec::new();
    for part in playing {
        devices
            .push(tokio::time::timeout(PATIENCE, part).await.expect("everything arrives").unwrap());
    }
    judge(&server.api(), &cast.token, cast.conversation, devices).await;
}

/// One client stops reading in a busy conversation. The others notice nothing, the server keeps a
/// bounded amount for it, closes it as slow, and it resumes without a loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_client_is_closed_as_slow_and_the_others_do_not_notice() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let slow = chat_service::NodeSettings { slow_ms: 400, ..settings() };
    let server = Server::start_with(store, bus, slow, Clock::system()).await;
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let (bob, cy) =
        (Person::enter(&api, "bob", "phone").await, Person::enter(&api, "cy", "phone").await);
    let group = api.group(&alice.token, "busy", &["bob", "cy"]).await.unwrap();
    let mut writing = alice.connect(&server.base, 2_048).await;
    let mut device = Device::new(bob.token.clone(), 2_048);
    let mut stalled = Socket::connect(&server.base, &device.hello(Resume::Missed)).await.unwrap();
    let mut reading = cy.connect(&server.base, 2_048).await;
    // More than the kernel's buffers of a loopback connection can hold.
    let text: Arc<str> = "x".repeat(15_000).into();
    let total = 900;
    let writer = tokio::spawn(async move {
        for chunk in 0..total / 20 {
            let frames: Vec<_> = (0..20)
                .map(|_| ClientFrame::Send {
                    client_id: ClientId::fresh(),
                    conversation: group,
                    text: Arc::clone(&text),
                })
                .collect();
            writing.send_all(&frames).await.unwrap();
            let mut sent = 0;
            while sent < 20 {
                next_where(&mut writing, |f| matches!(f, ServerFrame::Sent { .. }).then_some(()))
                    .await;
                sent += 1;
            }
            let _ = chunk;
        }
    });
    let last = Seq(total as u64 + 2); // two joined at the beginning
    let mut got = 0;
    next_where(&mut reading, |frame| match frame {
        ServerFrame::Message(message) => {
            got += 1;
            (message.seq == last).then_some(())
        }
        _ => None,
    })
    .await;
    writer.await.unwrap();
    assert_eq!(got, last.0 - 1, "the one who reads has all of it since joining");
    // The stalled one did not read; when it does, it finds what fitted, and the end.
    tokio::time::sleep(Duration::from_millis(900)).await; // longer than slow_ms without reading
    let ended = loop {
        match stalled.next().await {
            Ok(frame) => drop(device.hear(frame)),
            Err(ended) => break ended,
        }
    };
    assert!(ended.may_reconnect(), "{ended}");
    assert!(device.cursor(group) < last, "the stalled client was sent everything: no bound");
    let mut again = Socket::connect(&server.base, &device.hello(Resume::Missed)).await.unwrap();
    while device.cursor(group) < last {
        let frame = crate::support::next(&mut again).await;
        let before = device.cursor(group);
        if let ServerFrame::Message(message) = &frame {
            assert_eq!(message.seq, before.next(), "a gap or a repeat after resuming");
        }
        device.hear(frame);
        again.send_all(&device.due()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reconnects_is_served() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let one = Server::start(Arc::clone(&store), Arc::clone(&bus)).await;
    let api = one.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let mut crowd = Vec::new();
    for index in 0..150 {
        crowd.push(Person::enter(&api, &format!("u{index}"), "phone").await);
    }
    let names: Vec<String> = (0..150).map(|index| format!("u{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let group = api.group(&alice.token, "crowd", &names).await.unwrap();
    let mut sockets = Vec::new();
    for person in &crowd {
        sockets.push(person.connect(&one.base, 1_000).await);
    }
    one.stop().await;
    for socket in &mut sockets {
        assert_eq!(code(&end(socket).await), 4000, "told to come back");
    }
    let two = Server::start(store, bus).await;
    let coming = crowd.iter().map(|person| async {
        let mut socket = person.connect(&two.base, 1_000).await;
        next_where(&mut socket, |f| matches!(f, ServerFrame::CaughtUp).then_some(())).await;
        socket
    });
    let mut sockets = futures::future::join_all(coming).await;
    let mut writing = alice.connect(&two.base, 1_000).await;
    let (client_id, text) = (ClientId::fresh(), "welcome back".into());
    writing.send(&ClientFrame::Send { client_id, conversation: group, text }).await.unwrap();
    for socket in &mut sockets {
        let seq = next_where(socket, |frame| match frame {
            ServerFrame::Message(message) => Some(message.seq),
            _ => None,
        })
        .await;
        assert_eq!(seq, Seq(151), "150 joined before");
    }
}
