//! What a chat service promises that speaks the protocol of `chat-service/PROTOCOL.md`.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::wire::Wire;

/// A frame that takes longer breaks the promise it was awaited for.
const FRAME_TIME_MAX: Duration = Duration::from_secs(5);
/// More frames than this before the awaited one: something is wrong.
const FRAMES_MAX: usize = 1_000;

/// In the order in which an interviewer would probe.
pub(super) fn promises() -> Vec<Promise<Wire>> {
    promises! { Wire;
        a_message_reaches_who_is_online => "What one sends the other gets, with its sequence.",
        who_was_offline_gets_everything_in_order => "Ten messages to somebody offline arrive once, 1 to 10, then caught_up.",
        a_repeat_is_one_message => "The same client id again is answered with the first place, as a duplicate.",
        what_was_acknowledged_does_not_come_again => "A device that acknowledged 3 of 5 gets 4 and 5.",
        devices_have_cursors_of_their_own => "What the phone acknowledged, the laptop still gets.",
        credit_is_a_promise => "No more messages are pushed than credit was given for.",
        history_pages_backwards => "Pages of older messages hold every one, once and in order.",
        strangers_see_nothing => "Who is not in a conversation is answered as if it did not exist.",
        unread_is_what_others_wrote => "Unread counts the other's messages after the read mark.",
        nonsense_is_answered => "A bad frame is an error frame that names the field; a bad token closes with 4401.",
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One person at the service.
struct Person {
    token: String,
}

impl Person {
    async fn enter(wire: &Wire, who: &str, device: &str) -> Result<Self, Broken> {
        let account = json!({"user": wire.name(who), "password": "correct horse battery"});
        let made = wire.post("/v1/register", account.clone()).await?;
        ensure!([200, 201, 409].contains(&made.status), "register: {made}");
        let mut login = account;
        login["device"] = json!(device);
        let answer = wire.post("/v1/login", login).await?.is(200)?.json()?;
        let token = answer["token"].as_str();
        let token = token.ok_or_else(|| Broken::because(format!("no token in {answer}")))?;
        Ok(Self { token: token.to_owned() })
    }

    async fn talk(&self, wire: &Wire, path: &str, body: &Value) -> Result<Value, Broken> {
        let bearer = format!("Bearer {}", self.token);
        let method = if body.is_null() { "GET" } else { "POST" };
        let method = method.parse().expect("both are methods");
        let answer = wire.send(method, path, &[("authorization", &bearer)], body).await?;
        ensure!((200..300).contains(&answer.status), "{answer}");
        answer.json()
    }

    /// The conversation with somebody.
    async fn with(&self, wire: &Wire, whom: &str) -> Result<Value, Broken> {
        let answer =
            self.talk(wire, "/v1/conversations", &json!({"with": wire.name(whom)})).await?;
        Ok(answer["conversation"].clone())
    }

    /// A connection that takes `credit` messages of what was missed.
    async fn connect(&self, wire: &Wire, credit: u32) -> Result<Line, Broken> {
        let mut line = Line::open(wire).await?;
        let hello = json!({"type": "hello", "token": self.token, "credit": credit,
            "resume": "missed"});
        line.say(&hello).await?;
        line.until("welcome").await?;
        Ok(line)
    }
}

/// A WebSocket and everything heard on it.
struct Line(Socket);

impl Line {
    async fn open(wire: &Wire) -> Result<Self, Broken> {
        let url = format!("{}/v1/socket", wire.base()).replacen("http", "ws", 1);
        let opened = connect_async(&url).await;
        let (socket, _) =
            opened.map_err(|error| Broken::because(format!("no WebSocket at {url}: {error}")))?;
        Ok(Self(socket))
    }

    async fn say(&mut self, frame: &Value) -> Verdict {
        let said = self.0.send(Message::text(frame.to_string())).await;
        said.map_err(|error| Broken::because(format!("{frame} could not be sent: {error}")))
    }

    /// The next frame, or the close code as `{"type": "closed", "code": ..}`.
    async fn hear(&mut self) -> Result<Value, Broken> {
        loop {
            let heard = tokio::time::timeout(FRAME_TIME_MAX, self.0.next()).await;
            let heard = heard.map_err(|_| Broken::because("nothing was heard for 5 s"))?;
            match heard {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map_err(|error| Broken::because(format!("{text}: {error}")));
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(0, |frame| u16::from(frame.code));
                    return Ok(json!({"type": "closed", "code": code}));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Broken::because(format!("broken: {error}"))),
                None => return Ok(json!({"type": "closed", "code": 0})),
            }
        }
    }

    /// The next frame of this type; what comes before it is passed over.
    async fn until(&mut self, kind: &str) -> Result<Value, Broken> {
        let mut passed = Vec::new();
        for _ in 0..FRAMES_MAX {
            let frame = self.hear().await.map_err(|broken| {
                Broken::because(format!("waiting for `{kind}`: {}", broken.what()))
                    .with_history(&passed)
            })?;
            if frame["type"] == kind {
                return Ok(frame);
            }
            let over = frame["type"] == "closed";
            passed.push(frame.to_string());
            if over {
                break;
            }
        }
        Err(Broken::because(format!("`{kind}` never came")).with_history(passed))
    }

    /// Sends a text and waits for its place.
    async fn write(&mut self, id: &str, conversation: &Value, text: &str) -> Result<Value, Broken> {
        let frame = json!({"type": "send", "client_id": id, "conversation": conversation,
            "text": text});
        self.say(&frame).await?;
        self.until("sent").await
    }

    /// Everything pushed until `caught_up`, as (sequence, text).
    async fn missed(&mut self) -> Result<Vec<(u64, String)>, Broken> {
        let mut got = Vec::new();
        loop {
            let frame = self.hear().await?;
            match frame["type"].as_str() {
                Some("message") => got.push(place_and_text(&frame)),
                Some("caught_up") => return Ok(got),
                Some("closed") => {
                    return Err(Broken::because(format!("closed before caught_up: {frame}")));
                }
                _ => {}
            }
        }
    }
}

fn place_and_text(message: &Value) -> (u64, String) {
    let text = message["text"].as_str().unwrap_or_default();
    (message["seq"].as_u64().unwrap_or(0), text.to_owned())
}

/// A client id: a UUID that is random enough.
fn client_id() -> String {
    let (high, low) = (fastrand::u64(..), fastrand::u64(..));
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    format!("{a:08x}-{b:04x}-4{c:03x}-8{:03x}-{:012x}", low >> 52, low & 0xffff_ffff_ffff)
}

/// Ann has written `count` messages to Bob, who was offline.
async fn letters(wire: &Wire, count: u64) -> Result<(Person, Person, Value), Broken> {
    let ann = Person::enter(wire, "ann", "phone").await?;
    let bob = Person::enter(wire, "bob", "phone").await?;
    let conversation = ann.with(wire, "bob").await?;
    let mut line = ann.connect(wire, 100).await?;
    for number in 1..=count {
        let sent = line.write(&client_id(), &conversation, &format!("letter {number}")).await?;
        ensure!(sent["seq"] == number, "message {number} got the place {}", sent["seq"]);
    }
    Ok((ann, bob, conversation))
}

fn letter(number: u64) -> (u64, String) {
    (number, format!("letter {number}"))
}

async fn a_message_reaches_who_is_online(wire: Arc<Wire>) -> Verdict {
    let (ann, bob, conversation) = letters(&wire, 0).await?;
    let mut at_bob = bob.connect(&wire, 100).await?;
    at_bob.until("caught_up").await?;
    let mut at_ann = ann.connect(&wire, 100).await?;
    let sent = at_ann.write(&client_id(), &conversation, "hello").await?;
    let got = at_bob.until("message").await?;
    ensure!(got["text"] == "hello" && got["seq"] == sent["seq"], "{sent} was told, {got} came");
    Ok(())
}

async fn who_was_offline_gets_everything_in_order(wire: Arc<Wire>) -> Verdict {
    let (_, bob, _) = letters(&wire, 10).await?;
    let got = bob.connect(&wire, 100).await?.missed().await?;
    let wanted: Vec<_> = (1..=10).map(letter).collect();
    ensure!(got == wanted, "ten letters were written, {got:?} came");
    Ok(())
}

async fn a_repeat_is_one_message(wire: Arc<Wire>) -> Verdict {
    let (ann, bob, conversation) = letters(&wire, 0).await?;
    let id = client_id();
    let first = ann.connect(&wire, 100).await?.write(&id, &conversation, "once").await?;
    let again = ann.connect(&wire, 100).await?.write(&id, &conversation, "once").await?;
    ensure!(again["seq"] == first["seq"], "one client id, two places: {first}, {again}");
    ensure!(again["duplicate"] == true, "the repeat is not told to be one: {again}");
    let got = bob.connect(&wire, 100).await?.missed().await?;
    ensure!(got == [(1, "once".to_owned())], "one message was sent twice, {got:?} came");
    Ok(())
}

/// Connects until what was acknowledged has been noted: it is on its way when the line is closed.
async fn acknowledged(line: &mut Line, conversation: &Value, seq: u64) -> Verdict {
    line.say(&json!({"type": "ack", "conversation": conversation, "seq": seq})).await?;
    line.say(&json!({"type": "ping", "id": 1})).await?;
    line.until("pong").await?;
    Ok(())
}

async fn what_was_acknowledged_does_not_come_again(wire: Arc<Wire>) -> Verdict {
    let (_, bob, conversation) = letters(&wire, 5).await?;
    let mut line = bob.connect(&wire, 100).await?;
    line.missed().await?;
    acknowledged(&mut line, &conversation, 3).await?;
    drop(line);
    let mut got = Vec::new();
    for _ in 0..20 {
        got = bob.connect(&wire, 100).await?.missed().await?;
        if got.len() <= 2 {
            break;
        }
    }
    ensure!(got == [letter(4), letter(5)], "3 of 5 were acknowledged, then {got:?} came");
    Ok(())
}

async fn devices_have_cursors_of_their_own(wire: Arc<Wire>) -> Verdict {
    let (_, phone, conversation) = letters(&wire, 3).await?;
    let mut line = phone.connect(&wire, 100).await?;
    line.missed().await?;
    acknowledged(&mut line, &conversation, 3).await?;
    let laptop = Person::enter(&wire, "bob", "laptop").await?;
    let got = laptop.connect(&wire, 100).await?.missed().await?;
    ensure!(got.len() == 3, "the laptop has none of 3 letters and got {got:?}");
    Ok(())
}

async fn credit_is_a_promise(wire: Arc<Wire>) -> Verdict {
    let (_, bob, _) = letters(&wire, 5).await?;
    let mut line = bob.connect(&wire, 2).await?;
    let mut pushed = 0;
    line.say(&json!({"type": "ping", "id": 7})).await?;
    // A second ping after the first pong: whatever was pushed early has been heard by then.
    for id in [7, 8] {
        loop {
            let frame = line.hear().await?;
            pushed += u32::from(frame["type"] == "message");
            if frame["type"] == "pong" && frame["id"] == id {
                break;
            }
        }
        line.say(&json!({"type": "ping", "id": 8})).await?;
    }
    ensure!(pushed <= 2, "credit was given for 2 messages, {pushed} came");
    line.say(&json!({"type": "credit", "messages": 10})).await?;
    let rest = line.missed().await?.len() as u32;
    ensure!(pushed + rest == 5, "5 letters were written, {pushed} + {rest} came");
    Ok(())
}

async fn history_pages_backwards(wire: Arc<Wire>) -> Verdict {
    let (_, bob, conversation) = letters(&wire, 7).await?;
    let id = conversation.as_str().unwrap_or_default().to_owned();
    let mut seen = Vec::new();
    let mut before = String::new();
    for _ in 0..10 {
        let path = format!("/v1/conversations/{id}/messages?limit=3{before}");
        let page = bob.talk(&wire, &path, &Value::Null).await?;
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        let places: Vec<u64> = messages.iter().filter_map(|one| one["seq"].as_u64()).collect();
        let Some(first) = places.first().copied() else { break };
        before = format!("&before={first}");
        seen.splice(0..0, places);
        if page["has_more"] == false {
            break;
        }
    }
    ensure!(seen == [1, 2, 3, 4, 5, 6, 7], "seven letters, read in pages of 3: {seen:?}");
    Ok(())
}

async fn strangers_see_nothing(wire: Arc<Wire>) -> Verdict {
    let (_, _, conversation) = letters(&wire, 1).await?;
    let eve = Person::enter(&wire, "eve", "phone").await?;
    let id = conversation.as_str().unwrap_or_default();
    let bearer = format!("Bearer {}", eve.token);
    let path = format!("/v1/conversations/{id}/messages");
    let get = axum::http::Method::GET;
    wire.send(get, &path, &[("authorization", &bearer)], &Value::Null).await?.is(404)?;
    let mut line = eve.connect(&wire, 100).await?;
    let frame = json!({"type": "send", "client_id": client_id(), "conversation": conversation,
        "text": "let me in"});
    line.say(&frame).await?;
    let answer = line.until("error").await?;
    ensure!(answer["code"] == "not-found", "a stranger was answered {answer}");
    wire.get(&path).await?.is(401)?;
    Ok(())
}

async fn unread_is_what_others_wrote(wire: Arc<Wire>) -> Verdict {
    let (_, bob, conversation) = letters(&wire, 5).await?;
    let mut line = bob.connect(&wire, 100).await?;
    line.say(&json!({"type": "read", "conversation": conversation, "seq": 2})).await?;
    line.write(&client_id(), &conversation, "my own").await?;
    let mut unread = Value::Null;
    for _ in 0..20 {
        let list = bob.talk(&wire, "/v1/conversations", &Value::Null).await?;
        let text = list.to_string();
        let items = list.as_object().and_then(|body| body.values().find_map(Value::as_array));
        let item = items.and_then(|items| items.first()).cloned();
        unread =
            item.ok_or_else(|| Broken::because(format!("no item in {text}")))?["unread"].clone();
        if unread == 3 {
            break;
        }
    }
    ensure!(unread == 3, "5 letters, 2 read, one of one's own: unread is {unread}");
    Ok(())
}

async fn nonsense_is_answered(wire: Arc<Wire>) -> Verdict {
    let (ann, _, conversation) = letters(&wire, 0).await?;
    let mut line = ann.connect(&wire, 100).await?;
    let empty = json!({"type": "send", "client_id": client_id(), "conversation": conversation,
        "text": ""});
    line.say(&empty).await?;
    let answer = line.until("error").await?;
    ensure!(answer["code"] == "invalid" && answer["field"] == "text", "an empty text: {answer}");
    line.say(&json!({"type": "no-such-type"})).await?;
    line.until("error").await?;
    line.say(&json!({"type": "ping", "id": 1})).await?;
    line.until("pong").await?;
    let mut stranger = Line::open(&wire).await?;
    stranger.say(&json!({"type": "hello", "token": "nonsense", "credit": 1})).await?;
    let closed = stranger.until("closed").await?;
    ensure!(closed["code"] == 4401, "a bad token closes with 4401, not {closed}");
    let short = json!({"user": wire.name("short"), "password": ""});
    let answer = wire.post("/v1/register", short).await?;
    ensure!((400..500).contains(&answer.status), "an empty password: {answer}");
    answer.names("password")
}
