//! Each fault on real sockets, between a client and an echo server. Delays are checked from
//! below only: a busy machine may always be later. The exact arithmetic is checked on invented
//! time, in `lane.rs`.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use faultline::{Direction, Fault, Proxy, ScopedFault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything here takes; reached, something hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long silence is listened to before it counts as silence.
const SILENCE: Duration = Duration::from_millis(100);

/// An echo server that counts what reached it and how its connections ended.
struct Echo {
    addr: std::net::SocketAddr,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    resets: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(addr: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let resets = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (seen_by, resets_by) = (seen.clone(), resets.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, resets) = (seen_by.clone(), resets_by.clone());
                connections.spawn(async move {
                    let mut buffer = vec![0; 4096];
                    loop {
                        match stream.read(&mut buffer).await {
                            Ok(0) => return,
                            Ok(length) => {
                                seen.lock().unwrap().extend_from_slice(&buffer[..length]);
                                if stream.write_all(&buffer[..length]).await.is_err() {
                                    return;
                                }
                            }
                            Err(_) => {
                                resets.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, seen, resets, task }
    }

    fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    fn resets(&self) -> usize {
        self.resets.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn set_up() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr).await.unwrap();
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

/// Sends and awaits the echo.
async fn echo(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let exchange = async {
        stream.write_all(message).await?;
        let mut reply = vec![0; message.len()];
        stream.read_exact(&mut reply).await?;
        Ok(reply)
    };
    timeout(PATIENCE, exchange).await.expect("the echo neither came nor failed")
}

async fn assert_works(stream: &mut TcpStream) {
    assert_eq!(echo(stream, b"hello").await.unwrap(), b"hello");
}

async fn assert_silent(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(SILENCE, stream.read(&mut byte)).await;
    assert!(read.is_err(), "wanted silence, got {read:?}");
}

async fn assert_reset(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(PATIENCE, stream.read(&mut byte)).await.expect("no reset came");
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn without_faults_everything_passes_and_is_counted() {
    let (_echo, proxy) = set_up().await;
    let mut stream = connect(&proxy).await;
    let message = vec![42; 3_000_000];
    let (mut reading, mut writing) = stream.split();
    let mut reply = vec![0; message.len()];
    let (sent, received) =
        tokio::join!(writing.write_all(&message), reading.read_exact(&mut reply));
    sent.unwrap();
    received.unwrap();
    assert_eq!(reply, message);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the end of the stream passes too");
    wait_until("the connection to end", || proxy.stats().connections_open == 0).await;
    let stats = proxy.stats();
    assert_eq!((stats.bytes_up, stats.bytes_down), (3_000_000, 3_000_000));
    assert_eq!((stats.connections, stats.connections_reset), (1, 0));
}

#[tokio::test]
async fn latency_delays_each_direction_it_is_set_on() {
    let (_echo, proxy) = set_up().await;
    let mut stream = connect(&proxy).await;
    let delay = Duration::from_millis(40);
    for (direction, times) in [(Direction::Up, 1), (Direction::Down, 1), (Direction::Both, 2)] {
        proxy.clear();
        proxy.set(Fault::Latency { delay }.on(direction));
        let started = Instant::now();
        assert_works(&mut stream).await;
        assert!(started.elapsed() >= times * delay, "{direction:?}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn under_jitter_every_echo_still_arrives() {
    let echo_server = Echo::start().await;
    let proxy = Proxy::start_seeded(echo_server.addr, 11).await.unwrap();
    assert_eq!(proxy.seed(), 11);
    proxy.set("jitter:20ms".parse::<Fault>().unwrap());
    let mut stream = connect(&proxy).await;
    for _ in 0..5 {
        assert_works(&mut stream).await;
    }
}

#[tokio::test]
async fn bandwidth_holds_a_transfer_to_its_rate() {
    let (_echo, proxy) = set_up().await;
    proxy.set("bandwidth:200KiB/s@down".parse::<ScopedFault>().unwrap());
    let mut stream = connect(&proxy).await;
    let started = Instant::now();
    let message = vec![1; 40 * 1024];
    assert_eq!(echo(&mut stream, &message).await.unwrap(), message);
    // 40 KiB at 200 KiB/s, less the piece that leaves at once.
    assert!(started.elapsed() >= Duration::from_millis(185), "took {:?}", started.elapsed());
}

#[tokio::test]
async fn slices_reach_a_reader_one_by_one() {
    let (_echo, proxy) = set_up().await;
    proxy.set(Fault::Slice { bytes_max: 4 }.on(Direction::Down));
    let mut stream = connect(&proxy).await;
    stream.write_all(&[9; 64]).await.unwrap();
    let (mut total, mut reads) = (0, 0);
    while total < 64 {
        let mut buffer = [0; 64];
        total += timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        reads += 1;
    }
    // At least sixteen pieces were sent; on a busy machine a read may find several of them.
    assert!(reads > 1, "one read got all slices");
}

#[tokio::test]
async fn a_reset_on_the_way_up_keeps_the_request_from_the_server() {
    let (echo_server, proxy) = set_up().await;
    let mut stream = connect(&proxy).await;
    assert_works(&mut stream).await;
    proxy.set(Fault::Reset { after_bytes: 0 }.on(Direction::Up));
    assert!(echo(&mut stream, b"charge").await.is_err());
    wait_until("the server to notice", || echo_server.resets() == 1).await;
    assert_eq!(echo_server.seen(), b"hello");
}

#[tokio::test]
async fn a_reset_on_the_way_down_loses_the_answer_after_the_work_was_done() {
    let (echo_server, proxy) = set_up().await;
    proxy.set(Fault::Reset { after_bytes: 0 }.on(Direction::Down));
    let mut stream = connect(&proxy).await;
    assert!(echo(&mut stream, b"charge").await.is_err());
    assert_eq!(echo_server.seen(), b"charge");
}

#[tokio::test]
async fn a_reset_after_some_bytes_delivers_a_part_of_the_answer() {
    let (_echo, proxy) = set_up().await;
    proxy.set("reset:3B@down".parse::<ScopedFault>().unwrap());
    let mut stream = connect(&proxy).await;
    stream.write_all(b"abcdef").await.unwrap();
    let mut part = [0; 3];
    // The reset may overtake the part in the client's kernel, which is what resets do.
    if timeout(PATIENCE, stream.read_exact(&mut part)).await.unwrap().is_ok() {
        assert_eq!(&part, b"abc");
        assert_reset(&mut stream).await;
    }
    assert_eq!(proxy.stats().bytes_down, 3);
}

#[tokio::test]
async fn a_partition_is_silent_and_delivers_everything_when_it_ends() {
    let (echo_server, proxy) = set_up().await;
    let mut stream = connect(&proxy).await;
    assert_works(&mut stream).await;
    proxy.set(Fault::Partition);
    stream.write_all(b"waits").await.unwrap();
    assert_silent(&mut stream).await;
    assert_eq!(echo_server.seen(), b"hello");
    let mut newcomer = connect(&proxy).await;
    newcomer.write_all(b"too").await.unwrap();
    assert_silent(&mut newcomer).await;

    proxy.clear();
    let mut reply = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(&reply, b"waits");
    timeout(PATIENCE, newcomer.read_exact(&mut reply[..3])).await.unwrap().unwrap();
    assert_eq!(&reply[..3], b"too");
}

#[tokio::test]
async fn a_blackhole_swallows_and_its_connections_are_reset_when_it_ends() {
    let (echo_server, proxy) = set_up().await;
    let mut stream = connect(&proxy).await;
    let mut idle = connect(&proxy).await;
    assert_works(&mut stream).await;
    assert_works(&mut idle).await;
    proxy.set(Fault::Blackhole.on(Direction::Up));
    stream.write_all(b"lost").await.unwrap();
    assert_silent(&mut stream).await;
    proxy.clear();
    assert_reset(&mut stream).await;
    assert_eq!(echo_server.seen(), b"hellohello");
    assert_works(&mut idle).await;
}

#[tokio::test]
async fn a_half_open_connection_hears_nothing_while_new_ones_work() {
    let (echo_server, proxy) = set_up().await;
    let mut old = connect(&proxy).await;
    assert_works(&mut old).await;
    proxy.set(Fault::HalfOpen);
    wait_until("the server to forget the connection", || echo_server.resets() == 1).await;
    old.write_all(b"anybody there?").await.unwrap();
    assert_silent(&mut old).await;
    assert_works(&mut connect(&proxy).await).await;
    proxy.clear();
    assert_reset(&mut old).await;
    assert_eq!(echo_server.seen(), b"hellohello");
}

#[tokio::test]
async fn a_cut_resets_old_and_new_connections_until_it_is_healed() {
    let (echo_server, proxy) = set_up().await;
    let mut old = connect(&proxy).await;
    assert_works(&mut old).await;
    proxy.cut();
    assert_eq!(proxy.faults(), [Fault::Cut.into()]);
    assert_reset(&mut old).await;
    wait_until("the server to notice", || echo_server.resets() == 1).await;
    assert!(echo(&mut connect(&proxy).await, b"no").await.is_err());
    proxy.heal();
    assert_works(&mut connect(&proxy).await).await;
    assert_eq!(echo_server.seen(), b"hellohello");
}

#[tokio::test]
async fn healing_a_cut_leaves_other_faults_alone() {
    let (_echo, proxy) = set_up().await;
    let latency = Fault::Latency { delay: Duration::from_millis(30) };
    proxy.set(latency);
    proxy.cut();
    proxy.heal();
    assert_eq!(proxy.faults(), [latency.into()]);
    proxy.unset("latency:0ms".parse::<Fault>().unwrap());
    assert_eq!(proxy.faults(), []);
}

#[tokio::test]
async fn the_port_stays_while_the_upstream_restarts() {
    let (echo_server, proxy) = set_up().await;
    let addr = echo_server.addr;
    assert_works(&mut connect(&proxy).await).await;
    drop(echo_server);
    wait_until_refused(addr).await;
    assert!(echo(&mut connect(&proxy).await, b"down").await.is_err());
    assert!(proxy.stats().upstream_failures >= 1);
    let _again = Echo::start_at(addr).await;
    assert_works(&mut connect(&proxy).await).await;
}

async fn wait_until_refused(addr: std::net::SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(addr).await.is_ok() {
        assert!(Instant::now() < deadline, "the old server still listens");
    }
}

#[tokio::test]
async fn a_retargeted_proxy_sends_new_connections_elsewhere() {
    let (first, proxy) = set_up().await;
    let second = Echo::start().await;
    let mut old = connect(&proxy).await;
    assert_works(&mut old).await;
    proxy.retarget(format!("redis://{}/0", second.addr)).unwrap();
    assert_eq!(echo(&mut connect(&proxy).await, b"new").await.unwrap(), b"new");
    assert_eq!(echo(&mut old, b"old").await.unwrap(), b"old");
    assert_eq!((first.seen(), second.seen()), (b"helloold".to_vec(), b"new".to_vec()));
    assert!(proxy.retarget("nowhere").is_err());
}

#[tokio::test]
async fn a_url_keeps_everything_but_its_address() {
    let (_echo, proxy) = set_up().await;
    let addr = proxy.addr();
    let through = proxy.url_of("postgres://me:p@ss@db:5432/app?sslmode=disable");
    assert_eq!(through, format!("postgres://me:p@ss@{addr}/app?sslmode=disable"));
    assert_eq!(proxy.url_of("redis://h:1"), format!("redis://{addr}"));
}

#[tokio::test]
async fn a_stalled_reader_does_not_fill_the_proxy() {
    let (_echo, proxy) = set_up().await;
    proxy.set(Fault::Partition.on(Direction::Up));
    proxy.set(Fault::Latency { delay: Duration::from_secs(3600) }.on(Direction::Up));
    let stream = connect(&proxy).await;
    // The kernel's buffers and the lane's take some megabytes; then writing must stop.
    let sent = std::cell::Cell::new(0_usize);
    let flood = async {
        let chunk = vec![0; 64 * 1024];
        loop {
            stream.writable().await.unwrap();
            if let Ok(length) = stream.try_write(&chunk) {
                sent.set(sent.get() + length);
            }
        }
    };
    let mut flood = std::pin::pin!(flood);
    loop {
        let before = sent.get();
        let _ = timeout(SILENCE, &mut flood).await;
        if sent.get() == before {
            break;
        }
        assert!(sent.get() < 64 * 1024 * 1024, "{} bytes went into a stalled proxy", sent.get());
    }
}

#[tokio::test]
async fn a_dropped_proxy_resets_its_connections_and_frees_its_port() {
    let (_echo, proxy) = set_up().await;
    let mut stream = connect(&proxy).await;
    assert_works(&mut stream).await;
    let addr = proxy.addr();
    drop(proxy);
    assert_reset(&mut stream).await;
    wait_until_refused(addr).await;
}
