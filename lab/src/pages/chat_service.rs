//! The page of the chat service: three people side by side on two servers, and switches for what
//! goes wrong between them.

mod gateway;
mod people;

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use chat_service::bus::local::Local;
use chat_service::chat::{APPEND_MAX, Account, NewGroup, NewMessage};
use chat_service::store::sqlite::Sqlite;
use chat_service::{ClientId, ConversationId, Node, NodeSettings, Store, UserId, http};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::{Clock, Connection, Json, Path, Problem, Readiness};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

use self::gateway::{Gateway, Plug};
use self::people::{Network, People, relay};
use super::{Lab, Page};
use crate::console::sse;

/// Who is on the page, and the server each of them is nearest to.
const PEOPLE: [(&str, usize); 3] = [("alice", 0), ("bob", 1), ("carol", 0)];
const SERVERS: [&str; 2] = ["A", "B"];
/// What was said before the page was opened, so that there is history to page through.
const HISTORY: usize = 200;
/// Most messages one click writes.
const BACKLOG_MAX: usize = 10_000;

struct Console {
    store: Arc<Sqlite>,
    bus: Arc<Local>,
    gateways: Vec<Gateway>,
    people: People,
    conversation: ConversationId,
    state: watch::Sender<Value>,
    /// One switch at a time.
    switching: tokio::sync::Mutex<()>,
}

type Shared = State<Arc<Console>>;

/// The service itself, and two more servers of it for the people on the page: one store, one bus.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let directory = tempfile::tempdir().context("a directory for the messages")?;
    let store = Arc::new(Sqlite::open(&directory.path().join("chat.db")).await?);
    let bus = Arc::new(Local::default());
    let conversation = prepare(&store).await?;
    let mut gateways = Vec::new();
    for name in SERVERS {
        gateways.push(Gateway::start(name, Arc::clone(&store), &bus).await?);
    }
    let addresses: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let people = People::start(&PEOPLE, &addresses).await?;
    let (state, _) = watch::channel(Value::Null);
    let switching = tokio::sync::Mutex::default();
    let (kept, bus_of_page) = (Arc::clone(&store), Arc::clone(&bus));
    let console =
        Arc::new(Console { store, bus, gateways, people, conversation, state, switching });
    console.tell();
    let closing = lab.shutdown.closing();
    let settings = NodeSettings::default();
    let plug = Arc::new(Plug::new(&bus_of_page));
    let node = Node::start(kept, plug, Clock::system(), settings, closing).await?;
    let service = http::router(node, Readiness::new(&lab.shutdown));
    let routes = Router::new()
        .route("/lab/events", get(events))
        .route("/lab/people", get(people_of))
        .route("/lab/people/{name}", put(network))
        .route("/lab/people/{name}/socket", get(socket))
        .route("/lab/servers/{name}", put(server))
        .route("/lab/backlog", post(backlog))
        .with_state(console);
    lab.shutdown.on_drained("chat-service", async move { drop(directory) });
    let question = "Messages in order, delivered once to every device, also to those that were \
                    offline.";
    Ok(Page::new("chat-service", "Chat service", question)
        .stored_on("a SQLite file that goes when the lab stops")
        .serving(service.merge(routes)))
}

/// The people, their group, and what they said yesterday.
async fn prepare(store: &Sqlite) -> anyhow::Result<ConversationId> {
    let users: Vec<UserId> =
        PEOPLE.iter().map(|(name, _)| name.parse()).collect::<Result<_, _>>()?;
    for user in &users {
        // No password fits: these people are logged in by the page alone.
        let account = Account { user: user.clone(), password_hash: "none".to_owned() };
        store.create_account(account).await?;
        store.put_device(user.clone(), people::DEVICE.parse()?, 0).await?;
    }
    let conversation = ConversationId::fresh();
    let now_ms = Clock::system().now_ms();
    let group = NewGroup {
        conversation,
        by: users[0].clone(),
        title: "Dinner".to_owned(),
        members: users[1..].to_vec(),
        now_ms,
    };
    store.create_group(group).await?;
    write(store, conversation, HISTORY, |at| users[at % users.len()].clone(), "yesterday").await?;
    let last = store.summaries(users[0].clone(), people::DEVICE.parse()?, None, 1).await?;
    let last = last.items.first().map(|summary| summary.last_seq).unwrap_or_default();
    for user in users {
        store.read(user, conversation, last).await?;
    }
    Ok(conversation)
}

/// Writes to the log as another server would; the servers of the page find it and tell.
async fn write(
    store: &Sqlite,
    conversation: ConversationId,
    count: usize,
    sender: impl Fn(usize) -> UserId,
    when: &str,
) -> Result<(), chat_service::Error> {
    let now_ms = Clock::system().now_ms();
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(APPEND_MAX) {
        let message = |&at: &usize| NewMessage {
            conversation,
            sender: sender(at),
            client_id: ClientId::fresh(),
            text: format!("{when}, {} of {count}", at + 1).into(),
            now_ms,
        };
        for appended in store.append(some.iter().map(message).collect()).await {
            appended?;
        }
    }
    Ok(())
}

impl Console {
    fn tell(&self) {
        let servers: Vec<Value> = self
            .gateways
            .iter()
            .map(|gateway| json!({"name": gateway.name(), "up": gateway.is_up()}))
            .collect();
        self.state.send_replace(json!({"servers": servers, "people": self.people.networks()}));
    }
}

/// How things stand, now and whenever it changes.
async fn events(State(console): Shared, connection: Connection) -> Response {
    let states = WatchStream::new(console.state.subscribe()).map(|state| ("state", state));
    sse::stream(&connection, states).into_response()
}

/// What the page needs to speak for everybody: tokens as after a login.
#[derive(Serialize)]
struct Cast {
    conversation: ConversationId,
    people: Vec<people::Member>,
}

async fn people_of(State(console): Shared) -> Result<Json<Cast>, Problem> {
    let people = console.people.members(console.store.identity(), Clock::system().now_ms())?;
    Ok(Json(Cast { conversation: console.conversation, people }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkRequest {
    network: Network,
}

async fn network(
    State(console): Shared,
    Path(name): Path<String>,
    Json(asked): Json<NetworkRequest>,
) -> Result<StatusCode, Problem> {
    console.people.person(&name)?.switch(asked.network);
    console.tell();
    Ok(StatusCode::NO_CONTENT)
}

/// A person's line to the servers: a WebSocket that ends here and goes on through their network.
async fn socket(
    State(console): Shared,
    Path(name): Path<String>,
    connection: Connection,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let lines = console.people.person(&name)?.lines();
    let upgrade = upgrade.max_message_size(chat_service::protocol::FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| connection.track(relay(socket, lines))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerRequest {
    up: bool,
}

/// Kills a server in the middle of whatever it does, or starts it again.
async fn server(
    State(console): Shared,
    Path(name): Path<String>,
    Json(asked): Json<ServerRequest>,
) -> Result<StatusCode, Problem> {
    let _one_at_a_time = console.switching.lock().await;
    let gateway = console.gateways.iter().find(|gateway| gateway.name() == name);
    let gateway =
        gateway.ok_or_else(|| Problem::not_found(format!("there is no server {name}")))?;
    match asked.up {
        true => gateway.run(Arc::clone(&console.store), &console.bus).await?,
        false => gateway.kill(),
    }
    console.tell();
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BacklogRequest {
    from: String,
    count: usize,
}

async fn backlog(
    State(console): Shared,
    Json(asked): Json<BacklogRequest>,
) -> Result<StatusCode, Problem> {
    console.people.person(&asked.from)?;
    if !(1..=BACKLOG_MAX).contains(&asked.count) {
        return Err(Problem::invalid("/count", format!("must be 1 to {BACKLOG_MAX}")));
    }
    let sender: UserId = asked.from.parse()?;
    let from = |_| sender.clone();
    write(&console.store, console.conversation, asked.count, from, "while you were away").await?;
    Ok(StatusCode::NO_CONTENT)
}
