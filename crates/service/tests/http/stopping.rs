//! Stopping: the order, the deadline, and what must not hold it open.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use futures::StreamExt;
use parking_lot::Mutex;
use service::{Connection, ConnectionLimits, Drained, Limits, Readiness, Shutdown, harden};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::{Server, empty_openapi, get_request, patient};

/// A gate nobody gets through until a permit is added.
fn shut() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// A route that answers only when told to.
fn gated(gate: &Arc<Semaphore>, started: &Arc<Semaphore>) -> Router {
    let (gate, started) = (Arc::clone(gate), Arc::clone(started));
    let handler = async move || {
        started.add_permits(1);
        gate.acquire().await.unwrap().forget();
        "finished"
    };
    harden(Router::new().route("/gated", get(handler)), Limits::default())
}

async fn serving(router: Router, deadline: Duration) -> Server {
    let shutdown = Shutdown::new().with_deadline(deadline);
    Server::start_with(router, shutdown, ConnectionLimits::default()).await
}

#[tokio::test]
async fn an_idle_kept_alive_connection_does_not_hold_it_open() {
    let server = serving(gated(&shut(), &shut()), Duration::from_secs(3600)).await;
    let mut idle = server.connect().await;
    idle.ask(&get_request("/nowhere")).await.problem(404);
    let mut silent = server.connect().await; // never sends a byte
    let mut known = server.connect().await; // the server has seen all three once this is answered
    known.ask(&get_request("/nowhere")).await;

    server.shutdown.begin();
    assert_eq!(server.drained().await, Drained { aborted: 0 });
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
}

#[tokio::test]
async fn a_request_in_flight_completes_while_the_port_is_closed() {
    let (gate, started) = (shut(), shut());
    let server = serving(gated(&gate, &started), Duration::from_secs(3600)).await;
    let address = server.address;
    let mut client = server.connect().await;
    client.send(&get_request("/gated")).await;
    patient(started.acquire()).await.unwrap().forget();

    server.shutdown.begin();
    let refused = async || TcpStream::connect(address).await.is_err();
    crate::support::wait_until("the port is closed", refused).await;
    gate.add_permits(1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "finished"));
    assert_eq!(answer.header("connection"), Some("close"), "the client must not reuse it");
    assert_eq!(server.drained().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_aborted() {
    let started = shut();
    let server = serving(gated(&shut(), &started), Duration::from_millis(50)).await;
    let mut stuck = server.connect().await;
    stuck.send(&get_request("/gated")).await;
    patient(started.acquire()).await.unwrap().forget();
    server.shutdown.begin();
    assert_eq!(server.drained().await, Drained { aborted: 1 });
    assert_eq!(stuck.closed().await, "");
}

#[tokio::test]
async fn hooks_run_after_the_last_request_and_last_registered_first() {
    let (gate, started) = (shut(), shut());
    let events = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let events = Arc::clone(&events);
        async move { events.lock().push(what) }
    };
    let (finished, waiting) = (note("request finished"), Arc::clone(&gate));
    let request = async move {
        waiting.acquire().await.unwrap().forget();
        finished.await;
    };
    let server = serving(gated(&gate, &started), Duration::from_secs(3600)).await;
    server.shutdown.on_drained("checkpoint", note("checkpointed"));
    server.shutdown.on_drained("buffer", note("buffer flushed"));
    let tracked = tokio::spawn(server.shutdown.track(request));
    server.shutdown.begin();
    let closing = server.shutdown.closing();
    patient(closing.cancelled()).await;
    assert!(events.lock().is_empty(), "nothing is flushed while work is in flight");
    gate.add_permits(1);
    server.drained().await;
    assert_eq!(tracked.await.unwrap(), Some(()));
    assert_eq!(*events.lock(), ["request finished", "buffer flushed", "checkpointed"]);
}

/// Says "bye" when the service stops, as a chat must, then waits for the peer's close.
async fn polite(upgrade: WebSocketUpgrade, connection: Connection) -> Response {
    upgrade.on_upgrade(move |mut socket| {
        let closing = connection.closing();
        connection.track(async move {
            let _ = socket.send(Message::text("hello")).await;
            closing.cancelled().await;
            let _ = socket.send(Message::text("bye")).await;
        })
    })
}

/// Never says anything and never ends.
async fn stubborn(upgrade: WebSocketUpgrade, connection: Connection) -> Response {
    upgrade.on_upgrade(move |mut socket| {
        connection.track(async move {
            let _ = socket.send(Message::text("hello")).await;
            std::future::pending().await
        })
    })
}

#[tokio::test]
async fn an_upgraded_connection_is_told_and_waited_for() {
    let router = harden(Router::new().route("/ws", get(polite)), Limits::default());
    let server = serving(router, Duration::from_secs(3600)).await;
    let url = format!("ws://{}/ws", server.address);
    let (mut socket, _) = patient(tokio_tungstenite::connect_async(url)).await.unwrap();
    assert_eq!(patient(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "hello");
    server.shutdown.begin();
    assert_eq!(patient(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "bye");
    assert_eq!(server.drained().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn an_upgraded_connection_that_does_not_end_is_aborted_at_the_deadline() {
    let router = harden(Router::new().route("/ws", get(stubborn)), Limits::default());
    let server = serving(router, Duration::from_millis(50)).await;
    let url = format!("ws://{}/ws", server.address);
    let (mut socket, _) = patient(tokio_tungstenite::connect_async(url)).await.unwrap();
    assert!(patient(socket.next()).await.unwrap().is_ok());
    server.shutdown.begin();
    assert_eq!(server.drained().await, Drained { aborted: 1 });
    assert!(patient(socket.next()).await.is_none_or(|end| end.is_err()), "it was cut off");
}

#[tokio::test]
async fn readiness_is_the_first_thing_to_change() {
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(&shutdown);
    let _unused = service::operations(readiness.clone(), empty_openapi());
    readiness.ask().await.unwrap();
    shutdown.begin();
    assert!(!shutdown.closing().is_cancelled(), "only the accept loop closes");
    assert_eq!(readiness.ask().await.unwrap_err().status(), 503);
}
