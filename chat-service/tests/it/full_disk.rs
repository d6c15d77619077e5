//! A disk that is really full: what cannot be kept is refused, what was acknowledged is there, and
//! nothing has to be restarted.

use chat_service::client::{Api, Device, Ended, Heard, Socket};
use chat_service::protocol::{Resume, ServerFrame};
use chat_service::{ConversationId, client::ApiError};
use testkit::crash::{Program, free_address};

use crate::support::{PASSWORD, PATIENCE, read_log};

const DISK_BYTES: u64 = 4 << 20;
/// More messages than the disk has room for.
const MESSAGES_MAX: usize = 4_000;

/// Alice, who writes to Bob.
struct Writer {
    device: Device,
    socket: Socket,
    to: ConversationId,
    acknowledged: Vec<String>,
    written: usize,
}

impl Writer {
    /// Writes one message; `Err` has the words of the refusal.
    async fn write(&mut self) -> Result<(), String> {
        self.written += 1;
        let text = text(self.written);
        let frame = self.device.write(self.to, &text);
        self.socket.send(&frame).await.expect("a connection");
        self.answer().await?;
        self.acknowledged.push(text);
        Ok(())
    }

    /// What becomes of the one message that is on its way.
    async fn answer(&mut self) -> Result<(), String> {
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a word");
            match heard {
                Ok(ServerFrame::Error { code, detail, .. }) => {
                    return Err(format!("{code}: {detail}"));
                }
                Ok(frame) => {
                    if let Heard::Sent { .. } = self.device.hear(frame) {
                        return Ok(());
                    }
                }
                Err(Ended::Closed { code, reason }) => return Err(format!("{code}: {reason}")),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// On a new connection, what was not acknowledged goes out again under the client id that it
    /// had.
    async fn come_back(&mut self, base: &str) {
        self.socket = Socket::connect(base, &self.device.hello(Resume::Missed)).await.unwrap();
        let unsent = self.device.unsent();
        assert_eq!(unsent.len(), 1);
        self.socket.send_all(&unsent).await.unwrap();
        self.answer().await.expect("there is room again");
        self.acknowledged.push(text(self.written));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let disk = match infra::SmallDisk::new(DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT RUN: {why}"),
    };
    let address = free_address();
    let (nsenter, inside) = disk.enter();
    let store = format!("sqlite:{}", disk.path().join("chat.db").display());
    let mut server = Program::new(nsenter)
        .args(inside)
        .args([env!("CARGO_BIN_EXE_chat-service"), "serve", "--cheap-passwords"])
        .args(["--sends-per-second", "1000000", "--connects-per-minute", "0"])
        .args(["--listen", &address.to_string(), "--store", &store])
        .start();
    server.wait_http_ok(address, "/readyz").await;
    let (base, api) = (format!("http://{address}"), Api::new(&format!("http://{address}")));
    let token = api.enter("alice", PASSWORD, "laptop").await.unwrap();
    api.enter("bob", PASSWORD, "phone").await.unwrap();
    let to = api.direct(&token, "bob").await.unwrap();
    let mut device = Device::new(token.clone(), 64);
    let socket = Socket::connect(&base, &device.hello(Resume::Missed)).await.unwrap();
    let mut alice = Writer { device, socket, to, acknowledged: vec![], written: 0 };
    alice.write().await.expect("there is room at first");

    disk.fill().unwrap();
    let mut refused = None;
    while refused.is_none() && alice.written < MESSAGES_MAX {
        refused = alice.write().await.err();
    }
    let refused = refused.expect("a full disk cannot keep so many messages");
    // A refusal, or the end of a connection on which a message of unknown fate would be overtaken.
    assert!(["unavailable: try again", "4004: try later"].contains(&&*refused), "{refused}");
    let line = server.wait_line("nothing can be written").await;
    assert!(line.contains("disk is full") && line.contains("free some space"), "{line}");
    let mut strangers = 0..100;
    let refusal = loop {
        let name = format!("stranger-{}", strangers.next().expect("no room for so many"));
        if let Err(error) = api.enter(&name, PASSWORD, "phone").await {
            break error;
        }
    };
    let ApiError::Refused { status: 503, detail } = &refusal else { panic!("{refusal}") };
    assert!(detail.contains("ask again") && !detail.contains("disk"), "{detail}");
    // Reading needs no room.
    assert_eq!(texts(&api, &token, to).await, alice.acknowledged);

    disk.make_room().unwrap();
    alice.come_back(&base).await;
    alice.write().await.expect("and the next");
    server.wait_line("writes work again").await;
    server.kill9();
    server.restart();
    server.wait_http_ok(address, "/readyz").await;
    assert_eq!(texts(&api, &token, to).await, alice.acknowledged, "exactly what was acknowledged");
}

/// A message of a kilobyte.
fn text(number: usize) -> String {
    format!("{number:05} {}", "x".repeat(1_000))
}

async fn texts(api: &Api, token: &str, conversation: ConversationId) -> Vec<String> {
    let log = read_log(api, token, conversation).await;
    log.into_iter().map(|message| message.text).collect()
}
