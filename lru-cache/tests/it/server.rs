//! The server seen from outside: bytes in, bytes out.

use std::{sync::Arc, time::Duration};

use lru_cache::{
    LruCache, PolicyCache,
    clock::ManualClock,
    policy::S3Fifo,
    resp::{
        frame,
        keyspace::{Capacity, Keyspace},
        server,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

struct Client(TcpStream);

impl Client {
    /// Sends bytes and expects exactly these back.
    async fn expect(&mut self, sent: impl AsRef<[u8]>, expected: &str) {
        self.0.write_all(sent.as_ref()).await.unwrap();
        let mut got = vec![0; expected.len()];
        let whole = tokio::time::timeout(Duration::from_secs(5), self.0.read_exact(&mut got)).await;
        let shown = String::from_utf8_lossy(&got);
        assert!(whole.is_ok_and(|read| read.is_ok()), "expected {expected:?}, got {shown:?}");
        assert_eq!(shown, expected, "to {:?}", String::from_utf8_lossy(sent.as_ref()));
    }

    /// Expects the server to close the connection.
    async fn expect_closed(&mut self) {
        let mut byte = [0];
        assert!(matches!(self.0.read(&mut byte).await, Ok(0) | Err(_)), "still open");
    }
}

async fn start(capacity: Capacity) -> (Client, ManualClock) {
    let clock = ManualClock::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let keyspace = Arc::new(Keyspace::new(capacity, clock.clone(), LruCache::weighted));
    tokio::spawn(server::serve(listener, keyspace, std::future::pending()));
    (Client(TcpStream::connect(address).await.unwrap()), clock)
}

#[tokio::test]
async fn every_command_answers_as_redis_does() {
    let (mut client, clock) = start(Capacity::Entries(100)).await;
    client.expect("PING\r\n", "+PONG\r\n").await;
    client.expect("*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n", "$2\r\nhi\r\n").await;
    client.expect("GET a\r\n", "$-1\r\n").await;
    client.expect("SET a 1\r\n", "+OK\r\n").await;
    client.expect("SET a 2 NX\r\n", "$-1\r\n").await;
    client.expect("GET a\r\n", "$1\r\n1\r\n").await;
    client.expect("SET b 2 EX 10\r\n", "+OK\r\n").await;
    client.expect("TTL b\r\n", ":10\r\n").await;
    client.expect("TTL a\r\n", ":-1\r\n").await;
    client.expect("TTL c\r\n", ":-2\r\n").await;
    client.expect("MGET a c b\r\n", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n").await;
    client.expect("EXISTS a b c a\r\n", ":3\r\n").await;
    clock.advance_ms(9_999);
    client.expect("PTTL b\r\n", ":1\r\n").await;
    clock.advance_ms(1);
    client.expect("GET b\r\n", "$-1\r\n").await;
    client.expect("DBSIZE\r\n", ":1\r\n").await;
    client.expect("SET b 3 PX 5 NX\r\n", "+OK\r\n").await;
    client.expect("DEL a b c\r\n", ":2\r\n").await;
    client.expect("SET a 1\r\nFLUSHALL\r\nDBSIZE\r\n", "+OK\r\n+OK\r\n:0\r\n").await;
    client.expect("COMMAND DOCS\r\n", "*0\r\n").await;
    client.expect("CONFIG GET save\r\n", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n").await;
    client.expect("HELLO 2\r\n", "*12\r\n$6\r\nserver\r\n$9\r\nlru-cache\r\n").await;
}

#[tokio::test]
async fn hello_three_changes_how_nothing_is_written() {
    let (mut client, _) = start(Capacity::Entries(100)).await;
    let hello = "%6\r\n$6\r\nserver\r\n$9\r\nlru-cache\r\n$7\r\nversion\r\n$5\r\n0.0.0\r\n$5\r\nproto\r\n:3\r\n\
                 $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    client.expect("HELLO 3\r\n", hello).await;
    client.expect("GET a\r\n", "_\r\n").await;
}

#[tokio::test]
async fn errors_are_answered_and_only_broken_frames_end_the_connection() {
    let (mut client, _) = start(Capacity::Entries(100)).await;
    client.expect("NOPE a\r\n", "-ERR unknown command 'NOPE'\r\n").await;
    client.expect("GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n").await;
    client.expect("SET a 1 EX nope\r\n", "-ERR value is not an integer or out of range\r\n").await;
    client.expect("GET a\r\n", "$-1\r\n").await;
    client.expect("*1\r\n$nope\r\n", "-ERR Protocol error: invalid bulk length\r\n").await;
    client.expect_closed().await;
}

#[tokio::test]
async fn a_claimed_length_is_not_believed() {
    let (mut client, _) = start(Capacity::Entries(100)).await;
    let claim = format!("*1\r\n${}\r\n", frame::ARGUMENT_BYTES_MAX + 1);
    client.expect(claim, "-ERR Protocol error: invalid bulk length\r\n").await;
    client.expect_closed().await;
}

/// A pipeline of ten thousand requests, written in one go while nobody reads, then read.
#[tokio::test]
async fn a_pipeline_is_answered_in_order() {
    let (client, _) = start(Capacity::Entries(20_000)).await;
    let (mut reader, mut writer) = client.0.into_split();
    let requests: String = (0..10_000).map(|n| format!("SET k{n} {n}\r\nGET k{n}\r\n")).collect();
    let expected: String =
        (0..10_000).map(|n| format!("+OK\r\n${}\r\n{n}\r\n", n.to_string().len())).collect();
    let sending = tokio::spawn(async move { writer.write_all(requests.as_bytes()).await });
    let mut got = vec![0; expected.len()];
    reader.read_exact(&mut got).await.unwrap();
    sending.await.unwrap().unwrap();
    assert!(got == expected.as_bytes(), "a reply is missing, foreign or out of order");
}

#[tokio::test]
async fn memory_is_bounded_by_bytes_and_too_large_is_said() {
    let (mut client, _) = start(Capacity::Bytes(64 << 10)).await;
    let value = "x".repeat(1_000);
    for key in 0..200 {
        client.expect(format!("SET key{key} {value}\r\n"), "+OK\r\n").await;
    }
    // 64 KiB hold 54 entries of 1,000 + 6 + 192 bytes.
    client.expect("DBSIZE\r\n", ":54\r\n").await;
    let huge = "y".repeat(65 << 10);
    let request = format!("*3\r\n$3\r\nSET\r\n$1\r\nh\r\n${}\r\n{huge}\r\n", huge.len());
    client.expect(request, "-OOM the value is larger than a shard of the cache\r\n").await;
    client.expect("GET h\r\n", "$-1\r\n").await;
}

/// Any policy will do behind the same protocol.
#[tokio::test]
async fn another_policy_serves_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let make = |capacity, scale| {
        PolicyCache::<_, _, S3Fifo, _>::with_parts(capacity, scale, Default::default())
    };
    let keyspace = Arc::new(Keyspace::new(Capacity::Entries(2), ManualClock::default(), make));
    tokio::spawn(server::serve(listener, keyspace, std::future::pending()));
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client
        .expect("SET a 1\r\nSET b 2\r\nSET c 3\r\nDBSIZE\r\n", "+OK\r\n+OK\r\n+OK\r\n:2\r\n")
        .await;
}
