//! `chat-service crowd`: a server of its own with many people connected, and what one of them
//! costs; then one message to a large group of them.
//!
//! The server is a process of its own, so that what it weighs is not mixed with its clients.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chat_service::client::{Api, Device, Ended, Socket, words};
use chat_service::protocol::{ClientFrame, Resume, ServerFrame};
use chat_service::{ClientId, ConversationId};
use futures::{StreamExt, stream};
use tokio::net::TcpSocket;
use tokio::sync::Notify;

/// How many connect at once.
const AT_ONCE: usize = 64;
/// Source addresses, so that ports do not run out: one has some 28,000.
const SOURCES: usize = 4;
/// Files a process may have open: more than any crowd here needs.
const OPEN_FILES: u32 = 200_000;
/// Files besides the connections: the log, the listener, the REST connections.
const OTHER_FILES: usize = 300;
const RAISED: &str = "CHAT_CROWD_RAISED";
const ROUNDS: usize = 7;
const HELLO: &str = "hello everybody";
/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for what connecting took to be given back.
const REST: Duration = Duration::from_secs(3);
const PASSWORD: &str = "correct horse battery";

/// How large the crowd is.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// People who connect and do nothing
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(2..=60_000))]
    connections: u32,
    /// Those of them who are in the group
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=16_000))]
    members: u32,
}

fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// The server, killed when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Server {
    fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", "--log-filter", "error", "--store", "memory:", "--cheap-passwords"])
            .args(["--connects-per-minute", "0", "--listen", &address.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(process))
    }

    /// What the process has in memory.
    fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line.context("VmRSS")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

/// A process cannot raise its own limit without unsafe code; a shell can before it becomes us.
fn with_more_files() -> anyhow::Result<()> {
    if std::env::var_os(RAISED).is_some() {
        return Ok(());
    }
    let raise =
        format!("ulimit -n {OPEN_FILES} || ulimit -n \"$(ulimit -Hn)\"; exec \"$0\" \"$@\"");
    let failed = Command::new("sh")
        .args(["-c", &raise])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(RAISED, "yes")
        .exec();
    Err(failed).context("cannot start a shell to raise the number of open files")
}

fn open_files_max() -> anyhow::Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).context("a limit on files")?;
    Ok(soft.parse().unwrap_or(usize::MAX))
}

/// Runs it; an error when somebody could not connect or did not hear the message.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    with_more_files()?;
    let asked = settings.connections as usize;
    let people = asked.min(open_files_max()?.saturating_sub(OTHER_FILES));
    if people < asked {
        say(&format!("This machine allows no process more files: {people} instead of {asked}."));
    }
    let members = (settings.members as usize).min(people);
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = Server::start(address)?;
    let api = Api::new(&format!("http://{address}"));
    let tokens = accounts(&api, people).await?;
    let group = group(&api, &tokens, members).await?;
    say(&format!("{people} people have an account, {members} of them are in one group."));

    let before = server.resident_bytes()?;
    let started = Instant::now();
    let mut sockets = connected(address, &tokens).await?;
    let took = started.elapsed();
    tokio::time::sleep(REST).await;
    let after = server.resident_bytes()?;
    let each = after.saturating_sub(before) as f64 / people as f64 / 1024.0;
    say(&format!("{people} connected and were welcomed in {:.1} s.", took.as_secs_f64()));
    say(&format!(
        "The server went from {:.1} to {:.1} MiB: {each:.2} KiB for an idle connection (user space).",
        before as f64 / 1048576.0,
        after as f64 / 1048576.0
    ));

    sockets.truncate(members);
    let mut lasts = to_everybody(sockets, group).await?;
    lasts.sort_unstable();
    let median = lasts[lasts.len() / 2].as_secs_f64() * 1e3;
    say(&format!(
        "One message to {members} who are online: the last has it after {median:.1} ms \
         (median of {ROUNDS}; {lasts:.1?})."
    ));
    Ok(())
}

async fn accounts(api: &Api, people: usize) -> anyhow::Result<Vec<String>> {
    let up = async {
        while api.enter("u0", PASSWORD, "phone").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.context("the server did not come up")?;
    let entering = (0..people).map(|number| {
        let api = api.clone();
        async move { api.enter(&format!("u{number}"), PASSWORD, "phone").await }
    });
    let tokens: Vec<_> = stream::iter(entering).buffered(AT_ONCE).collect().await;
    Ok(tokens.into_iter().collect::<Result<_, _>>()?)
}

/// The first `count` people in one group, of whom the first created it.
async fn group(api: &Api, tokens: &[String], count: usize) -> anyhow::Result<ConversationId> {
    let group = api.group(&tokens[0], "crowd", &[]).await?;
    let names: Vec<String> = (1..count).map(|number| format!("u{number}")).collect();
    for some in names.chunks(chat_service::chat::MEMBERS_PER_REQUEST_MAX) {
        let path = format!("/v1/conversations/{group}/members");
        let body = serde_json::json!({"members": some});
        api.request(hyper::Method::POST, &path, Some(&tokens[0]), &body).await?;
    }
    Ok(group)
}

async fn connected(address: SocketAddr, tokens: &[String]) -> anyhow::Result<Vec<Socket>> {
    let connecting = tokens.iter().enumerate().map(|(number, token)| async move {
        let source = Ipv4Addr::new(127, 0, 0, 1 + (number % SOURCES) as u8);
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(source, 0).into())?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Socket::over(stream, &format!("ws://{address}/v1/socket")).await?;
        socket.send(&Device::new(token.clone(), 64).hello(Resume::Newest)).await?;
        while socket.next().await? != ServerFrame::CaughtUp {}
        Ok::<_, anyhow::Error>(socket)
    });
    let sockets: Vec<_> = stream::iter(connecting).buffered(AT_ONCE).collect().await;
    sockets.into_iter().collect()
}

/// Who heard the message of a round.
struct Arrivals {
    begun: Instant,
    count: AtomicUsize,
    last_ns: AtomicU64,
    all: Notify,
}

/// Hears the messages. Ten thousand phones decode on processors of their own; here the frame is
/// only looked at, so that the readers do not take the server's.
async fn listen(mut socket: Socket, arrivals: Arc<Arrivals>, readers: usize) -> Result<(), Ended> {
    loop {
        let frame = socket.next_text().await?;
        if frame.contains(HELLO) {
            let now_ns = arrivals.begun.elapsed().as_nanos() as u64;
            arrivals.last_ns.fetch_max(now_ns, Ordering::SeqCst);
            if arrivals.count.fetch_add(1, Ordering::SeqCst) + 1 == readers {
                arrivals.all.notify_one();
            }
        }
    }
}

/// Writes a few messages, one after the other; how long each took to the last member.
async fn to_everybody(
    mut sockets: Vec<Socket>,
    group: ConversationId,
) -> anyhow::Result<Vec<Duration>> {
    let mut writing = sockets.remove(0);
    let readers = sockets.len();
    ensure!(readers > 0, "nobody is there to hear it");
    let (count, last_ns, all) = Default::default();
    let arrivals = Arc::new(Arrivals { begun: Instant::now(), count, last_ns, all });
    for socket in sockets {
        tokio::spawn(listen(socket, Arc::clone(&arrivals), readers));
    }
    let mut lasts = Vec::new();
    for round in 0..ROUNDS {
        let text: Arc<str> = words(&format!("{HELLO}, {round}"));
        arrivals.count.store(0, Ordering::SeqCst);
        let (client_id, started) = (ClientId::fresh(), arrivals.begun.elapsed());
        writing.send(&ClientFrame::Send { client_id, conversation: group, text }).await?;
        let all = tokio::time::timeout(PATIENCE, arrivals.all.notified()).await;
        all.context("somebody did not hear it")?;
        lasts.push(Duration::from_nanos(arrivals.last_ns.load(Ordering::SeqCst)) - started);
        while !matches!(writing.next().await?, ServerFrame::Sent { .. }) {}
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(lasts.len() == ROUNDS);
    Ok(lasts)
}
