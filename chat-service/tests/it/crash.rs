//! SIGKILL of a real server process under load: what was acknowledged is there, once, in order.

use std::sync::Arc;
use std::time::Duration;

use chat_service::bus::local::Local;
use chat_service::client::Api;
use chat_service::history::DeviceHistory;
use chat_service::store::postgres::{Postgres, SCHEMA};
use testkit::Seed;
use testkit::crash::{Program, free_address};
use tokio::sync::watch;

use crate::support::{Server, arrived, cast, judge};

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
    let devices = arrived(playing).await;
    let again = connections(&devices);
    assert!(again > KILLS, "the kills came when nobody was connected");
    let logged = judge(&api, &cast.token, cast.conversation, devices).await;
    assert_eq!(logged, 3 * MESSAGES);
}

/// The database is killed, backends and all, and recovers from its log; the servers stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_nothing_it_acknowledged() {
    let seed = Seed::from_env_or_fresh();
    let mut rng = seed.rng();
    let options = infra::PostgresOptions { profile: infra::Profile::Durable, ..Default::default() };
    let postgres = infra::postgres_with(options).await.expect("a Postgres of its own");
    let database = postgres.database("chat_kill", SCHEMA).await.unwrap();
    let bus = Arc::new(Local::default());
    let mut servers = Vec::new();
    for _ in 0..2 {
        let store = Arc::new(Postgres::connect(database.url()).await.unwrap());
        servers.push(Server::start(store, Arc::clone(&bus)).await);
    }
    let (_one, at_one) = watch::channel(servers[0].base.clone());
    let (_two, at_two) = watch::channel(servers[1].base.clone());
    let api = servers[0].api();
    let mut cast = cast(&api, at_one, MESSAGES, 8).await;
    cast.parts[2].base = at_two; // Bob is on the other server
    let total = cast.total();
    let first = rng.u64(total / 8..total / 2);
    let killed = [first, rng.u64(first..total * 3 / 4)].map(|count| cast.written(&api, count));
    let killing = async {
        for in_the_middle in killed {
            in_the_middle.await;
            postgres.kill9().await.unwrap();
            postgres.restart().await.unwrap();
        }
    };
    cast.play_through(&api, killing).await;
}

fn connections(devices: &[DeviceHistory]) -> usize {
    let events = devices.iter().flat_map(|device| &device.events);
    events.filter(|e| matches!(e, chat_service::history::Event::Connected { .. })).count()
}
