//! `chat-service chat --as alice`: chat in the terminal, with reconnecting.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use chat_service::ConversationId;
use chat_service::chat::{Content, Message};
use chat_service::client::{Api, Device, Ended, Heard, Socket};
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

/// Messages on their way at once.
const CREDIT: u32 = 256;
/// First and longest pause before connecting again. Jittered: when a server dies, all its clients
/// notice at the same moment.
const PAUSE_MS: u64 = 200;
const PAUSE_MS_MAX: u64 = 5_000;

/// Who chats, where.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Your name; the account is made when there is none
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// Your password
    #[arg(long, env = "CHAT_PASSWORD", default_value = "correct horse battery")]
    password: String,
    /// A name for this terminal
    #[arg(long, default_value = "terminal")]
    device: String,
    /// Who to write to from the start; /to NAME changes it
    #[arg(long = "to", value_name = "USER")]
    to: Option<String>,
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    server: String,
}

struct Terminal {
    api: Api,
    token: String,
    user: String,
    device: Device,
    to: Option<ConversationId>,
    /// What conversations are called here.
    names: HashMap<ConversationId, String>,
    next_history: u64,
}

/// Why a connection was left.
enum Left {
    Quit,
    Ended(Ended),
}

fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// What somebody can do who finds no server.
const ADVICE: &str = "start a server first: cargo run --release -p chat-service -- serve";

pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    service::reach::somebody_answers("server", &settings.server, "http", ADVICE)?;
    let api = Api::new(&settings.server);
    let token = api.enter(&settings.user, &settings.password, &settings.device).await?;
    let to = match &settings.to {
        Some(with) => Some(api.direct(&token, with).await?),
        None => None,
    };
    let device = Device::new(token.clone(), CREDIT);
    let user = settings.user.clone();
    let names = to.into_iter().zip(settings.to).collect();
    let mut terminal = Terminal { api, token, user, device, to, names, next_history: 0 };
    say("/to NAME   /group TITLE NAME...   /history   /typing   /quit");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut pause_ms = PAUSE_MS;
    loop {
        let ended = match terminal.connect(&settings.server).await {
            Ok(mut socket) => {
                pause_ms = PAUSE_MS;
                match terminal.talk(&mut socket, &mut lines).await {
                    Left::Quit => {
                        socket.close().await;
                        return Ok(());
                    }
                    Left::Ended(ended) => ended,
                }
            }
            Err(ended) => ended,
        };
        if !ended.may_reconnect() {
            anyhow::bail!("{ended}");
        }
        say(&format!("({ended}; connecting again)"));
        tokio::time::sleep(Duration::from_millis(fastrand::u64(pause_ms / 2..pause_ms))).await;
        pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
    }
}

impl Terminal {
    async fn connect(&mut self, server: &str) -> Result<Socket, Ended> {
        let mut socket = Socket::connect(server, &self.device.hello(Resume::Missed)).await?;
        socket.send_all(&self.device.unsent()).await?;
        Ok(socket)
    }

    async fn talk(&mut self, socket: &mut Socket, lines: &mut Lines<BufReader<Stdin>>) -> Left {
        let mut heartbeat = tokio::time::interval(Duration::from_secs(20));
        loop {
            let frames = tokio::select! {
                frame = socket.next() => match frame {
                    Ok(frame) => self.hear(frame),
                    Err(ended) => return Left::Ended(ended),
                },
                line = lines.next_line() => match line {
                    Ok(Some(line)) if line.trim() != "/quit" => self.type_in(line.trim()).await,
                    _ => return Left::Quit,
                },
                _ = heartbeat.tick() => vec![ClientFrame::Ping { id: 0 }],
            };
            if let Err(ended) = socket.send_all(&frames).await {
                return Left::Ended(ended);
            }
        }
    }

    async fn type_in(&mut self, line: &str) -> Vec<ClientFrame> {
        let mut words = line.split_whitespace();
        match (words.next(), self.to) {
            (None, _) => vec![],
            (Some("/to"), _) => {
                let name = words.next().unwrap_or_default();
                let opened = self.api.direct(&self.token, name).await;
                self.opened(opened, name)
            }
            (Some("/group"), _) => {
                let title = words.next().unwrap_or_default();
                let members: Vec<&str> = words.collect();
                let opened = self.api.group(&self.token, title, &members).await;
                self.opened(opened, title)
            }
            (Some(_), None) => {
                say("(to whom? /to NAME)");
                vec![]
            }
            (Some("/history"), Some(conversation)) => {
                self.next_history += 1;
                let id = self.next_history;
                vec![ClientFrame::History { id, conversation, before: None, limit: Some(20) }]
            }
            (Some("/typing"), Some(conversation)) => vec![ClientFrame::Typing { conversation }],
            (Some(_), Some(conversation)) => vec![self.device.write(conversation, line)],
        }
    }

    fn opened(
        &mut self,
        opened: Result<ConversationId, chat_service::client::ApiError>,
        name: &str,
    ) -> Vec<ClientFrame> {
        match opened {
            Ok(conversation) => {
                self.to = Some(conversation);
                self.names.insert(conversation, name.to_owned());
                say(&format!("(to {name})"));
            }
            Err(error) => say(&format!("({error})")),
        }
        vec![]
    }

    fn hear(&mut self, frame: ServerFrame) -> Vec<ClientFrame> {
        match self.device.hear(frame) {
            Heard::New(message) => {
                self.show(&message);
                // Whoever writes to this terminal is who it answers.
                self.to.get_or_insert(message.conversation);
                let mut due = self.device.due();
                let (conversation, seq) = (message.conversation, message.seq);
                due.push(ClientFrame::Read { conversation, seq });
                return due;
            }
            Heard::Sent { seq, duplicate, .. } => {
                say(&format!(
                    "  ✓ {seq}{}",
                    if duplicate { " (it was there already)" } else { "" }
                ));
            }
            Heard::Reset => say("(the server's store is new; starting over)"),
            Heard::Again(_) => {}
            Heard::Other(frame) => self.show_other(frame),
        }
        self.device.due()
    }

    fn show_other(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Receipt(receipt) if receipt.user.as_str() != self.user => {
                let (user, delivered, read) = (receipt.user, receipt.delivered, receipt.read);
                say(&format!("  ✓✓ {user} has everything up to {delivered} and read up to {read}"));
            }
            ServerFrame::Conversations { items, .. } => {
                for item in items {
                    let with = item.with.as_ref().map(ToString::to_string);
                    let name = with.or(item.title).unwrap_or_default();
                    if item.unread > 0 {
                        say(&format!("({} unread from {name})", item.unread));
                    }
                    self.names.insert(item.conversation, name);
                }
            }
            ServerFrame::Page { messages, .. } => messages.iter().for_each(|m| self.show(m)),
            ServerFrame::Typing { user, .. } => say(&format!("({user} is typing)")),
            ServerFrame::Error { code, detail, client_id, .. } => {
                say(&format!("(refused: {code}: {detail})"));
                if let Some(client_id) = client_id {
                    self.device.give_up(client_id);
                }
            }
            _ => {}
        }
    }

    fn show(&self, message: &Message) {
        let Message { seq, sender, content, conversation, .. } = message;
        // What is not of the conversation one writes to says where it belongs.
        let elsewhere = self.to.is_some_and(|to| to != *conversation);
        let name = self.names.get(conversation).map_or("elsewhere", String::as_str);
        let place = if elsewhere { format!("[{name}] ") } else { String::new() };
        match content {
            Content::Text(text) => say(&format!("{seq:>4} {place}{sender}: {text}")),
            Content::Joined(user) => say(&format!("{seq:>4} {place}({sender} added {user})")),
            Content::Left(user) => say(&format!("{seq:>4} {place}({user} left)")),
        }
    }
}
