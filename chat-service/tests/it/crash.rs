//! SIGKILL of a real server process under load: what was acknowledged is there, once, in order.

use std::time::Duration;

use chat_service::client::Api;
use testkit::Seed;
use testkit::crash::{Program, free_address};
use tokio::sync::watch;

use crate::support::{PATIENCE, cast, judge};

const MESSAGES: usize = 120;
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_it_acknowledged() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let directory = tempfile::tempdir().unwrap();
    let (address, store) = (free_address(), directory.path().join("chat.db"));
    let mut server = Program::new(env!("CARGO_BIN_EXE_chat-service"))
        .args(["serve", "--log-filter", "warn", "--cheap-passwords"])
        .args(["--sends-per-second", "1000000", "--connects-per-minute", "0"])
        .args(["--listen", &address.to_string(), "--store", &format!("sqlite:{}", store.display())])
        .start();
    server.wait_http_ok(address, "/readyz").await;
    let base = format!("http://{address}");
    let (_keep, base_seen) = watch::channel(base.clone());
    let api = Api::new(&base);
    let cast = cast(&api, base_seen, MESSAGES, 8).await;
    let playing: Vec<_> = cast.parts.into_iter().map(|part| tokio::spawn(part.play())).collect();
    for _ in 0..KILLS {
        server.kill9_within(Duration::from_millis(400), &mut rng).await;
        server.restart();
        server.wait_http_ok(address, "/readyz").await;
    }
    let mut devices = Vec::new();
    for part in playing {
        devices
            .push(tokio::time::timeout(PATIENCE, part).await.expect("everything arrives").unwrap());
    }
    let again = connections(&devices);
    assert!(again > KILLS, "the kills came when nobody was connected");
    let logged = judge(&api, &cast.token, cast.conversation, devices).await;
    assert_eq!(logged, 3 * MESSAGES);
}

fn connections(devices: &[chat_service::history::DeviceHistory]) -> usize {
    let events = devices.iter().flat_map(|device| &device.events);
    events.filter(|e| matches!(e, chat_service::history::Event::Connected { .. })).count()
}
