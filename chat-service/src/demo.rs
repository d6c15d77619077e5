//! `chat-service demo`: the question itself, with a real server process that is really killed.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use chat_service::client::{Api, Device, Ended, Heard, Socket};
use chat_service::protocol::{Resume, ServerFrame};
use chat_service::{ConversationId, Seq};

/// Messages Alice writes while Bob is away, half of them before the kill.
const MESSAGES: usize = 20;
const PASSWORD: &str = "correct horse battery";
/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints a line; a pipe that was closed is no failure of the demonstration.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// The server, as a process of its own.
struct Server {
    process: Child,
    base: String,
}

impl Server {
    fn start(port: u16, file: &Path) -> anyhow::Result<Self> {
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", "--log-filter", "error", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--store")
            .arg(format!("sqlite:{}", file.display()))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { process, base: format!("http://127.0.0.1:{port}") })
    }

    fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.kill()?; // SIGKILL: nothing is flushed, nobody says goodbye
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.kill9());
    }
}

/// Connects, again and again until the server is there, and sends what is not known to be sent.
async fn connect(base: &str, device: &mut Device) -> anyhow::Result<Socket> {
    let trying = async {
        loop {
            match Socket::connect(base, &device.hello(Resume::Missed)).await {
                Ok(mut socket) => {
                    socket.send_all(&device.unsent()).await?;
                    return Ok::<_, Ended>(socket);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    Ok(tokio::time::timeout(PATIENCE, trying).await.context("the server did not come up")??)
}

/// Hears frames until `done` says so, and acknowledges.
async fn hear_until(
    socket: &mut Socket,
    device: &mut Device,
    mut done: impl FnMut(&Heard) -> bool,
) -> anyhow::Result<()> {
    let hearing = async {
        loop {
            let heard = device.hear(socket.next().await?);
            let is_done = done(&heard);
            let due = device.due();
            socket.send_all(&due).await?;
            if is_done {
                return Ok::<_, Ended>(());
            }
        }
    };
    Ok(tokio::time::timeout(PATIENCE, hearing).await.context("nothing was heard for long")??)
}

/// Runs it; an error when what was promised did not happen.
pub(crate) async fn run() -> anyhow::Result<()> {
    let (_directory, file) = crate::scratch()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Server::start(port, &file)?;
    let api = Api::new(&server.base);
    say("The server runs as a process of its own, on a SQLite file.");

    let alice = enter(&api, "alice", "laptop").await?;
    let bob = enter(&api, "bob", "phone").await?;
    let conversation = api.direct(&alice, "bob").await?;
    say("Alice and Bob have accounts and a conversation. Bob's phone is off.\n");

    let laptop_token = alice.clone();
    let mut laptop = Device::new(alice, 256);
    let mut socket = connect(&server.base, &mut laptop).await?;
    let half = MESSAGES / 2;
    write(&mut socket, &mut laptop, conversation, 1..=half).await?;
    let mut sent = Vec::new();
    collect(&mut socket, &mut laptop, &mut sent, half).await?;
    say(&format!("Alice writes 1 to {half}; each is answered when it is on disk: {sent:?}"));

    // The other half is on its way when the server dies: nobody knows which of them it has.
    write(&mut socket, &mut laptop, conversation, half + 1..=half + 5).await?;
    taken(&api, laptop_token.as_str(), conversation, half + 1).await?;
    write(&mut socket, &mut laptop, conversation, half + 6..=MESSAGES).await?;
    server.kill9()?;
    drop(socket);
    let unknown = laptop.unsent().len();
    say(&format!(
        "Alice writes {} to {MESSAGES}, and the server is killed with SIGKILL at that moment.",
        half + 1
    ));
    say(&format!("  Of {unknown} messages Alice's laptop does not know whether they were taken."));

    server = Server::start(port, &file)?;
    let mut socket = connect(&server.base, &mut laptop).await?;
    let mut duplicates = 0;
    hear_until(&mut socket, &mut laptop, |heard| {
        if let Heard::Sent { seq, duplicate, .. } = heard {
            duplicates += usize::from(*duplicate);
            sent.push(seq.0);
        }
        sent.len() == MESSAGES
    })
    .await?;
    say(&format!(
        "The server is started again. The laptop sends those {unknown} once more, under the same ids:"
    ));
    say(&format!(
        "  {duplicates} had been taken and kept their place, {} are new.\n",
        unknown - duplicates
    ));

    // The phone stays connected: its acknowledgements are what Alice's ticks wait for.
    let _phone = bob_catches_up(&server.base, bob).await?;
    hear_until(&mut socket, &mut laptop, |heard| {
        matches!(heard, Heard::Other(ServerFrame::Receipt(receipt))
            if receipt.user.as_str() == "bob" && receipt.delivered == Seq(MESSAGES as u64))
    })
    .await?;
    say(&format!("\nAlice sees two ticks on all of them: delivered up to {MESSAGES}."));
    say("Everything arrived, once, and in order.");
    Ok(())
}

/// Bob's phone comes back: everything once, in its place. Returns its connection.
async fn bob_catches_up(base: &str, bob: String) -> anyhow::Result<Socket> {
    let mut phone = Device::new(bob, 256);
    let mut theirs = connect(base, &mut phone).await?;
    let mut received = Vec::new();
    hear_until(&mut theirs, &mut phone, |heard| {
        if let Heard::New(message) = heard {
            received.push((message.seq, format!("{:?}", message.content)));
        }
        matches!(heard, Heard::Other(ServerFrame::CaughtUp))
    })
    .await?;
    say("Bob's phone is switched on. It receives:");
    for (seq, text) in &received {
        say(&format!("  {:>3}  {text}", seq.0));
    }
    let places: Vec<u64> = received.iter().map(|(seq, _)| seq.0).collect();
    ensure!(places == (1..=MESSAGES as u64).collect::<Vec<_>>(), "places {places:?}");
    for (at, (_, text)) in received.iter().enumerate() {
        ensure!(text.contains(&format!("message {} ", at + 1)), "place {} holds {text}", at + 1);
    }
    Ok(theirs)
}

async fn enter(api: &Api, user: &str, device: &str) -> anyhow::Result<String> {
    let trying = async {
        loop {
            match api.enter(user, PASSWORD, device).await {
                Ok(token) => return token,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.context("the server did not come up")
}

/// Waits until the log has so many messages, without reading the answers that say so.
async fn taken(
    api: &Api,
    token: &str,
    conversation: ConversationId,
    count: usize,
) -> anyhow::Result<()> {
    let looking = async {
        while api.history(token, conversation, None, MESSAGES).await?.len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(PATIENCE, looking).await.context("nothing was taken")?
}

async fn write(
    socket: &mut Socket,
    device: &mut Device,
    conversation: ConversationId,
    numbers: std::ops::RangeInclusive<usize>,
) -> anyhow::Result<()> {
    let text = |number| format!("message {number} of {MESSAGES}");
    let frames: Vec<_> = numbers.map(|number| device.write(conversation, &text(number))).collect();
    Ok(socket.send_all(&frames).await?)
}

async fn collect(
    socket: &mut Socket,
    device: &mut Device,
    sent: &mut Vec<u64>,
    count: usize,
) -> anyhow::Result<()> {
    hear_until(socket, device, |heard| {
        if let Heard::Sent { seq, .. } = heard {
            sent.push(seq.0);
        }
        sent.len() == count
    })
    .await
}
