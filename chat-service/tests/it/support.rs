//! Servers in this process, and people who keep writing whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat_service::bus::Bus;
use chat_service::bus::local::Local;
use chat_service::client::{Api, Device, Ended, Heard, Socket, Witness, text_of};
use chat_service::history::{DeviceHistory, Event, History, Logged, check};
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::store::memory::Memory;
use chat_service::{ConversationId, Node, NodeSettings, Seq, Store, http};
use service::{Clock, Readiness, Shutdown};
use tokio::sync::watch;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) fn settings() -> NodeSettings {
    NodeSettings {
        sends_per_second: 1_000_000,
        send_burst: 1_000_000,
        connects_per_minute: 0,
        cheap_passwords: true,
        ..NodeSettings::default()
    }
}

/// A server on a free port of this process.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) shutdown: Shutdown,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<S: Store, B: Bus>(store: Arc<S>, bus: Arc<B>) -> Self {
        Self::start_with(store, bus, settings(), Clock::system()).await
    }

    pub(crate) async fn memory() -> Self {
        Self::start(Arc::new(Memory::default()), Arc::new(Local::default())).await
    }

    pub(crate) async fn start_with<S: Store, B: Bus>(
        store: Arc<S>,
        bus: Arc<B>,
        settings: NodeSettings,
        clock: Clock,
    ) -> Self {
        let shutdown = Shutdown::new().with_deadline(Duration::from_secs(3));
        let node = Node::start(store, bus, clock, settings, shutdown.closing()).await.unwrap();
        let router = http::router(node, Readiness::new(&shutdown));
        let router = service::harden(router, service::Limits::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = shutdown.clone();
        let serving = tokio::spawn(async move {
            service::serve(listener, router, stopping).await;
        });
        Self { base: format!("http://{address}"), address, shutdown, serving }
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(&self.base)
    }

    /// Stops as on SIGTERM.
    pub(crate) async fn stop(self) {
        self.shutdown.begin();
        self.serving.await.unwrap();
    }
}

/// A logged-in person.
pub(crate) struct Person {
    pub(crate) token: String,
}

impl Person {
    pub(crate) async fn enter(api: &Api, user: &str, device: &str) -> Self {
        Self { token: api.enter(user, PASSWORD, device).await.unwrap() }
    }

    /// Connects and is welcomed.
    pub(crate) async fn connect(&self, base: &str, credit: u32) -> Socket {
        let mut device = Device::new(self.token.clone(), credit);
        let mut socket = Socket::connect(base, &device.hello(Resume::Missed)).await.unwrap();
        assert!(matches!(next(&mut socket).await, ServerFrame::Welcome { .. }));
        socket
    }
}

/// A person with a connection, whose history is written down.
pub(crate) struct Seat {
    pub(crate) witness: Witness,
    pub(crate) socket: Socket,
}

impl Seat {
    pub(crate) async fn take(
        base: &str,
        user: &str,
        device: &str,
        person: &Person,
        credit: u32,
    ) -> Self {
        let mut witness = Witness::new(user, device, Device::new(person.token.clone(), credit));
        let (hello, _) = witness.begin(Resume::Missed);
        Self { witness, socket: Socket::connect(base, &hello).await.unwrap() }
    }

    /// Connects again, as after a break: what is not known to be sent is sent again.
    pub(crate) async fn again(&mut self, base: &str) {
        let (hello, unsent) = self.witness.begin(Resume::Missed);
        self.socket = Socket::connect(base, &hello).await.unwrap();
        self.socket.send_all(&unsent).await.unwrap();
    }

    /// Takes a frame in, and acknowledges.
    pub(crate) async fn hear(&mut self) -> Result<ServerFrame, Ended> {
        let hearing = tokio::time::timeout(PATIENCE, self.socket.next());
        let frame = hearing.await.expect("a frame")?;
        self.witness.hear(frame.clone());
        // Who was closed may still have frames to read.
        drop(self.socket.send_all(&self.witness.due()).await);
        Ok(frame)
    }

    /// Hears until the device has everything up to `seq`.
    pub(crate) async fn until(&mut self, group: ConversationId, seq: Seq) {
        while self.witness.device.cursor(group) < seq {
            self.hear().await.expect("a connection");
        }
    }

    /// Hears until the connection ends.
    pub(crate) async fn end(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.hear().await {
                return ended;
            }
        }
    }

    pub(crate) async fn write(&mut self, group: ConversationId, text: &str) {
        let frame = self.witness.write(group, text);
        self.socket.send(&frame).await.unwrap();
    }
}

/// The next frame, soon.
pub(crate) async fn next(socket: &mut Socket) -> ServerFrame {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").expect("a connection")
}

/// The first frame that is the one; the others are passed over.
pub(crate) async fn next_where<T>(
    socket: &mut Socket,
    mut the_one: impl FnMut(ServerFrame) -> Option<T>,
) -> T {
    loop {
        if let Some(found) = the_one(next(socket).await) {
            return found;
        }
    }
}

/// How the connection ends.
pub(crate) async fn end(socket: &mut Socket) -> Ended {
    let ending = async {
        loop {
            if let Err(ended) = socket.next().await {
                return ended;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("the connection ends")
}

pub(crate) fn code(ended: &Ended) -> u16 {
    match ended {
        Ended::Closed { code, .. } => *code,
        _ => 0,
    }
}

/// What a person in a history test does: writes `messages` to the group, and stays until `total`
/// messages have arrived.
pub(crate) struct Part {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) token: String,
    pub(crate) group: ConversationId,
    pub(crate) messages: usize,
    pub(crate) total: u64,
    /// Where the server is; changes when it moves.
    pub(crate) base: watch::Receiver<String>,
    pub(crate) pause: Duration,
}

/// Most messages on their way to the server at once.
const UNSENT_MAX: usize = 16;
/// How long a connection may stay mute although it answers pings, before the client takes another.
const MUTE_MAX: Duration = Duration::from_millis(1_500);

impl Part {
    /// Plays it: connects, writes, acknowledges, reads, reconnects; until everything is there.
    pub(crate) async fn play(mut self) -> DeviceHistory {
        let device = Device::new(self.token.clone(), 64);
        let mut witness = Witness::new(&self.user, &self.device, device);
        let mut written = 0;
        while !self.is_done(&witness, written) {
            // An error is a reason to connect again: that is what clients do.
            if self.connection(&mut witness, &mut written).await.is_err() {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(5..40))).await;
            }
        }
        witness.into_history()
    }

    fn is_done(&self, witness: &Witness, written: usize) -> bool {
        let all_sent = written == self.messages && witness.device.unsent().is_empty();
        all_sent && witness.device.cursor(self.group) >= Seq(self.total)
    }

    async fn connection(
        &mut self,
        witness: &mut Witness,
        written: &mut usize,
    ) -> Result<(), Ended> {
        let base = self.base.borrow_and_update().clone();
        let (hello, unsent) = witness.begin(Resume::Missed);
        let connecting = tokio::time::timeout(MUTE_MAX, Socket::connect(&base, &hello));
        let mut socket = connecting.await.map_err(|_| Ended::Broken("no answer".to_owned()))??;
        socket.send_all(&unsent).await?;
        let mut writing = tokio::time::interval(self.pause);
        let mut mute = 0;
        while !self.is_done(witness, *written) {
            let mut frames = Vec::new();
            tokio::select! {
                frame = socket.next() => {
                    mute = 0;
                    let heard = witness.hear(frame?);
                    frames.extend(witness.due());
                    if let Heard::New(message) = heard
                        && message.seq.0.is_multiple_of(7)
                    {
                        frames.push(witness.read(message.conversation, message.seq));
                    }
                }
                _ = writing.tick(), if *written < self.messages
                    && witness.device.unsent().len() < UNSENT_MAX => {
                    let text = format!("{} {} {written}", self.user, self.device);
                    frames.push(witness.write(self.group, &text));
                    *written += 1;
                }
                // A half-open connection says nothing for ever: ask, then leave.
                () = tokio::time::sleep(MUTE_MAX / 3) => {
                    mute += 1;
                    if mute > 3 {
                        return Err(Ended::Broken("mute".to_owned()));
                    }
                    frames.push(ClientFrame::Ping { id: 1 });
                }
                _ = self.base.changed() => return Err(Ended::Broken("moved".to_owned())),
            }
            let sending = tokio::time::timeout(MUTE_MAX, socket.send_all(&frames));
            sending.await.map_err(|_| Ended::Broken("stuck".to_owned()))??;
        }
        socket.close().await;
        Ok(())
    }
}

/// The whole log, read over REST when everything is over.
pub(crate) async fn read_log(api: &Api, token: &str, group: ConversationId) -> Vec<Logged> {
    let mut log: Vec<Logged> = Vec::new();
    let mut before = None;
    loop {
        let page = api.history(token, group, before, 200).await.unwrap();
        let Some(first) = page.first() else { return log };
        before = Some(first.seq);
        let logged = page.iter().map(|message| Logged {
            seq: message.seq.0,
            sender: message.sender.to_string(),
            client_id: message.client_id.to_string(),
            text: text_of(message),
        });
        log.splice(0..0, logged);
    }
}

/// Two people, one of them with two devices, and their conversation.
pub(crate) struct Cast {
    pub(crate) conversation: ConversationId,
    pub(crate) parts: Vec<Part>,
    pub(crate) token: String,
}

pub(crate) async fn cast(
    api: &Api,
    base: watch::Receiver<String>,
    messages: usize,
    pause_ms: u64,
) -> Cast {
    let mut parts = Vec::new();
    let devices = [("alice", "laptop"), ("alice", "phone"), ("bob", "phone")];
    let mut tokens = Vec::new();
    for (user, device) in devices {
        tokens.push(Person::enter(api, user, device).await.token);
    }
    let conversation = api.direct(&tokens[0], "bob").await.unwrap();
    for ((user, device), token) in devices.into_iter().zip(&tokens) {
        parts.push(Part {
            user: user.to_owned(),
            device: device.to_owned(),
            token: token.clone(),
            group: conversation,
            messages,
            total: (devices.len() * messages) as u64,
            base: base.clone(),
            pause: Duration::from_millis(pause_ms),
        });
    }
    Cast { conversation, parts, token: tokens.remove(0) }
}

impl Cast {
    /// How many messages there are when everybody has written theirs.
    pub(crate) fn total(&self) -> u64 {
        self.parts[0].total
    }

    /// Everybody plays their part while `disturbance` happens; what they saw in the end is judged.
    pub(crate) async fn play_through(self, api: &Api, disturbance: impl Future<Output = ()>) {
        let total = self.total();
        let Self { conversation, parts, token } = self;
        let playing: Vec<_> = parts.into_iter().map(|part| tokio::spawn(part.play())).collect();
        disturbance.await;
        let devices = arrived(playing).await;
        assert_eq!(judge(api, &token, conversation, devices).await as u64, total);
    }

    /// Waits until the log holds `count` messages: somebody is in the middle of writing the next.
    pub(crate) fn written(&self, api: &Api, count: u64) -> impl Future<Output = ()> + use<> {
        let (api, token, conversation) = (api.clone(), self.token.clone(), self.conversation);
        async move {
            let is_there = || async {
                let newest = api.history(&token, conversation, None, 1).await;
                newest.is_ok_and(|page| page.last().is_some_and(|last| last.seq.0 >= count))
            };
            testkit::wait_until("people are in the middle of writing", PATIENCE, is_there).await;
        }
    }
}

/// What everybody saw, when everything has arrived.
pub(crate) async fn arrived(
    playing: Vec<tokio::task::JoinHandle<DeviceHistory>>,
) -> Vec<DeviceHistory> {
    let mut devices = Vec::new();
    for part in playing {
        let played = tokio::time::timeout(PATIENCE, part).await;
        devices.push(played.expect("everything arrives").unwrap());
    }
    devices
}

/// Judges what the parts saw.
pub(crate) async fn judge(
    api: &Api,
    cast_token: &str,
    conversation: ConversationId,
    devices: Vec<DeviceHistory>,
) -> usize {
    judge_group(api, cast_token, conversation, devices, &["alice", "bob"]).await
}

/// The same for a group. What its admin changed over REST is in the log, too.
pub(crate) async fn judge_group(
    api: &Api,
    token: &str,
    conversation: ConversationId,
    mut devices: Vec<DeviceHistory>,
    members: &[&str],
) -> usize {
    let log = read_log(api, token, conversation).await;
    let messages = log.len();
    let joins = log.iter().filter(|logged| logged.text.starts_with("joined "));
    let joins = joins.map(|logged| Event::Sending {
        conversation: conversation.to_string(),
        client_id: logged.client_id.clone(),
        text: logged.text.clone(),
    });
    let admin = log.first().map(|logged| logged.sender.clone());
    if let Some(device) = devices.iter_mut().find(|device| Some(&device.user) == admin.as_ref()) {
        device.events.splice(0..0, joins);
    }
    let members = members.iter().map(|member| (*member).to_owned()).collect();
    let history = History {
        devices,
        logs: BTreeMap::from([(conversation.to_string(), log)]),
        members: BTreeMap::from([(conversation.to_string(), members)]),
    };
    let anomalies = check(&history);
    assert!(anomalies.is_empty(), "{} anomalies:\n{}", anomalies.len(), listed(&anomalies));
    messages
}

fn listed(anomalies: &[chat_service::history::Anomaly]) -> String {
    anomalies.iter().take(20).map(|anomaly| format!("{anomaly}\n")).collect()
}
