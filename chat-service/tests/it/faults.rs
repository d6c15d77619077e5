//! What happens between a client and its server: cuts, half-open sockets, stalls, storms.

use std::sync::Arc;
use std::time::Duration;

use chat_service::Seq;
use chat_service::bus::local::Local;
use chat_service::protocol::ServerFrame;
use chat_service::store::memory::Memory;
use faultline::{Direction, Fault, Proxy};
use service::Clock;
use testkit::Seed;
use tokio::sync::watch;

use crate::support::{Person, Seat, Server, cast, code, judge_group, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_half_open_sockets_and_lost_answers_lose_and_repeat_nothing() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let server = Server::memory().await;
    let proxy = Proxy::start_seeded(server.address, rng.u64(..)).await.unwrap();
    let (_keep, base) = watch::channel(format!("http://{}", proxy.addr()));
    let cast = cast(&server.api(), base, 100, 6).await;
    let api = server.api();
    let each = cast.total() / 10;
    let written: Vec<_> = (0..8).map(|round| cast.written(&api, (round + 1) * each)).collect();
    let faults = async {
        for (round, in_the_middle) in written.into_iter().enumerate() {
            in_the_middle.await;
            match round % 4 {
                0 => proxy.cut(),
                // The server has done the work and its answer is lost, in the middle of a frame.
                1 => proxy.set(Fault::Reset { after_bytes: rng.u64(1..2_000) }.on(Direction::Down)),
                2 => proxy.set(Fault::Slice { bytes_max: 7 }),
                _ => proxy.set(Fault::HalfOpen),
            }
            // A fault has a length.
            tokio::time::sleep(Duration::from_millis(rng.u64(20..80))).await;
            proxy.clear();
            proxy.heal();
        }
    };
    cast.play_through(&api, faults).await;
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
    let mut writing = Seat::take(&server.base, "alice", "laptop", &alice, 2_048).await;
    let mut stalled = Seat::take(&server.base, "bob", "phone", &bob, 2_048).await;
    let mut reading = Seat::take(&server.base, "cy", "phone", &cy, 2_048).await;
    // More than the kernel's buffers of a loopback connection can hold.
    let (text, total) = ("x".repeat(15_000), 900);
    let last = Seq(total + 2); // two joined at the beginning
    let writer = tokio::spawn(async move {
        for number in 1..=total {
            writing.write(group, &text).await;
            if number.is_multiple_of(20) {
                while !writing.witness.device.unsent().is_empty() {
                    writing.hear().await.expect("a connection");
                }
            }
        }
        writing.until(group, last).await;
        writing
    });
    reading.until(group, last).await;
    let writing = writer.await.unwrap();
    // The stalled one did not read; when it does, it finds what fitted, and the end.
    tokio::time::sleep(Duration::from_millis(900)).await; // longer than slow_ms without reading
    let ended = stalled.end().await;
    assert!(ended.may_reconnect(), "{ended}");
    let had = stalled.witness.device.cursor(group);
    assert!(had < last, "the stalled client was sent everything: no bound");
    stalled.again(&server.base).await;
    stalled.until(group, last).await;
    let devices = [writing, stalled, reading].map(|seat| seat.witness.into_history());
    judge_group(&api, &alice.token, group, devices.into(), &["alice", "bob", "cy"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reconnects_is_served() {
    let (store, bus) = (Arc::new(Memory::default()), Arc::new(Local::default()));
    let one = Server::start(Arc::clone(&store), Arc::clone(&bus)).await;
    let api = one.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let names: Vec<String> = (0..150).map(|index| format!("u{index}")).collect();
    let mut crowd = Vec::new();
    for name in &names {
        crowd.push(Person::enter(&api, name, "phone").await);
    }
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let group = api.group(&alice.token, "crowd", &members).await.unwrap();
    let mut seats = Vec::new();
    for (name, person) in names.iter().zip(&crowd) {
        seats.push(Seat::take(&one.base, name, "phone", person, 1_000).await);
    }
    one.stop().await;
    for seat in &mut seats {
        assert_eq!(code(&seat.end().await), 4000, "told to come back");
    }
    let two = Server::start(store, bus).await;
    let coming = seats.into_iter().map(|mut seat| {
        let base = two.base.clone();
        async move {
            seat.again(&base).await;
            while seat.hear().await.expect("a connection") != ServerFrame::CaughtUp {}
            seat
        }
    });
    let mut seats = futures::future::join_all(coming).await;
    let mut writing = Seat::take(&two.base, "alice", "laptop", &alice, 1_000).await;
    writing.write(group, "welcome back").await;
    seats.push(writing);
    for seat in &mut seats {
        seat.until(group, Seq(151)).await; // 150 joined before
    }
    let devices = seats.into_iter().map(|seat| seat.witness.into_history()).collect();
    let everybody: Vec<&str> = members.into_iter().chain(["alice"]).collect();
    judge_group(&two.api(), &alice.token, group, devices, &everybody).await;
}
