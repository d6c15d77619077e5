//! `CL.THROTTLE` over a real socket, with a real client of Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rate_limiter::Store;
use rate_limiter::registry::Registry;
use rate_limiter::resp;
use rate_limiter::store::coalesced::CoalescedStore;
use rate_limiter::store::memory::Memory;
use rate_limiter::store::redis::RedisStore;
use rate_limiter::{AlgorithmName, Policy};
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn serve<S: Store>(store: S) -> SocketAddr {
    let registry = Arc::new(Registry::new(store, 1));
    registry
        .put(Policy::single("api", AlgorithmName::TokenBucket, 3, 60_000, None).unwrap())
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(resp::serve(listener, registry));
    address
}

async fn client(address: SocketAddr) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn ask(connection: &mut MultiplexedConnection, line: &str) -> redis::RedisResult<[i64; 5]> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>()).query_async(connection).await
}

#[tokio::test]
async fn a_client_of_redis_cell_is_answered_as_redis_cell_answers() {
    let mut client = client(serve(Memory::default()).await).await;
    // From redis-cell's own README: 15 burst, 30 per minute.
    assert_eq!(
        ask(&mut client, "CL.THROTTLE user123 15 30 60 1").await.unwrap(),
        [0, 16, 15, -1, 2]
    );
    assert_eq!(
        ask(&mut client, "CL.THROTTLE user123 15 30 60 15").await.unwrap(),
        [0, 16, 0, -1, 32]
    );
    let limited = ask(&mut client, "CL.THROTTLE user123 15 30 60").await.unwrap();
    assert_eq!(limited, [1, 16, 0, 2, 32]);
    assert_eq!(
        ask(&mut client, "CL.THROTTLE user123 15 30 60 17").await.unwrap()[..4],
        [1, 16, 0, -1]
    );
    assert_eq!(ask(&mut client, "CL.THROTTLE other 15 30 60 0").await.unwrap(), [0, 16, 16, -1, 0]);
    assert_eq!(ask(&mut client, "RL.CHECK api user 3").await.unwrap()[..4], [0, 3, 0, -1]);
    assert_eq!(ask(&mut client, "RL.CHECK api user").await.unwrap()[0], 1);
}

#[tokio::test]
async fn what_is_wrong_is_an_error_reply_and_the_connection_goes_on() {
    let mut client = client(serve(Memory::default()).await).await;
    for (line, said) in [
        ("CL.THROTTLE user", "wrong number of arguments"),
        ("CL.THROTTLE user 1 2000000000 1", "limits/0/rate"),
        ("CL.THROTTLE user 1 1 4294967295", "limits/0/per_ms"),
        ("RL.CHECK nowhere user", "there is no policy"),
        ("FLUSHALL", "unknown command"),
    ] {
        let error = ask(&mut client, line).await.unwrap_err().to_string();
        assert!(error.contains(said), "{line}: {error}");
    }
    assert_eq!(ask(&mut client, "RL.CHECK api user").await.unwrap()[0], 0);
    for burst in 0..resp::RULES_MAX {
        ask(&mut client, &format!("CL.THROTTLE user {burst} 1 1")).await.unwrap();
    }
    let error = ask(&mut client, "CL.THROTTLE user 1 2 1").await.unwrap_err().to_string();
    assert!(error.contains("different limits"), "{error}");
}

#[tokio::test]
async fn a_pipeline_in_pieces_is_answered_in_order_and_rubbish_ends_the_connection() {
    let mut socket = TcpStream::connect(serve(Memory::default()).await).await.unwrap();
    let pipeline =
        b"RL.CHECK api a\r\nPING\r\n*3\r\n$8\r\nRL.CHECK\r\n$3\r\napi\r\n$1\r\na\r\n*x\r\n";
    for byte in pipeline {
        socket.write_all(&[*byte]).await.unwrap();
    }
    let mut replies = String::new();
    let ended = socket.read_to_string(&mut replies);
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap();
    let expected = "*5\r\n:0\r\n:3\r\n:2\r\n:-1\r\n:20\r\n+PONG\r\n*5\r\n:0\r\n:3\r\n:1\r\n:-1\r\n:40\r\n-ERR Protocol error: invalid multibulk length\r\n";
    assert_eq!(replies, expected);
}

#[tokio::test]
async fn a_pipeline_behind_a_redis_shares_calls_and_admits_the_limit() {
    let redis = infra::redis().await.unwrap();
    let store = RedisStore::connect(redis.url(), Duration::from_secs(5)).unwrap();
    let mut client = client(serve(CoalescedStore::new(store)).await).await;
    let mut pipeline = redis::pipe();
    for _ in 0..40 {
        pipeline.cmd("CL.THROTTLE").arg(&["user", "15", "30", "60"][..]);
    }
    let replies: Vec<[i64; 5]> = pipeline.query_async(&mut client).await.unwrap();
    let limited: Vec<_> = replies.iter().map(|reply| reply[0]).collect();
    assert_eq!(limited, [vec![0; 16], vec![1; 24]].concat());
}
