//! The route that is answered before there is a request: its connections are bounded like all
//! others, and everything else still finds its way.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Version};
use hyper_util::client::legacy::Client as PooledClient;
use hyper_util::rt::TokioExecutor;
use service::{ConnectionLimits, Drained};
use tokio::io::AsyncWriteExt;

use crate::support::{Server, get_request, patient, wait_until};

async fn patient_server() -> Server {
    Server::start_first(ConnectionLimits::default()).await
}

async fn impatient() -> Server {
    let limits = ConnectionLimits { head_time: Duration::from_millis(50), ..Default::default() };
    Server::start_first(limits).await
}

#[tokio::test]
async fn a_connection_goes_on_with_whatever_it_asks_for() {
    let server = patient_server().await;
    let mut client = server.connect().await;
    for path in ["/hot", "/hot", "/", "/hot", "/nowhere", "/hot"] {
        let answer = client.ask(&get_request(path)).await;
        let expected = [("/hot", 302), ("/", 200), ("/nowhere", 404)];
        let status = expected.iter().find(|(known, _)| *known == path).unwrap().1;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.header("x-request-id").is_some() && answer.header("date").is_some());
        if path == "/hot" {
            assert_eq!(answer.header("server"), Some("nobody"));
        }
    }
    let page = client.ask(&crate::support::post_as("/bytes", "text/plain", "four")).await;
    assert_eq!(page.body, "4");
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_cut_off() {
    let server = impatient().await;
    for beginning in ["", "PRI * HT", "GET /hot HTTP/1.1\r\nx-slow: ", "GET / HTTP/1.1\r\nx: "] {
        let mut slow = server.connect().await;
        slow.send(beginning).await;
        assert_eq!(slow.closed().await, "", "{beginning:?} got an answer");
    }
    let mut idle = server.connect().await;
    assert_eq!(idle.ask(&get_request("/hot")).await.status, 302);
    assert_eq!(idle.closed().await, "");
    let mut slower = server.connect().await;
    assert_eq!(slower.ask(&get_request("/hot")).await.status, 302);
    slower.send("GET /hot HT").await;
    assert_eq!(slower.closed().await, "", "half a second head got an answer");
}

#[tokio::test]
async fn stopping_closes_what_is_idle_and_answers_what_has_begun() {
    let server = patient_server().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.ask(&get_request("/hot")).await.status, 302);
    let mut silent = server.connect().await;
    let (begin, end) = ("GET /hot HTTP/1.1\r\nhost", ": test\r\n\r\n");
    let mut begun = server.connect().await;
    begun.send(begin).await;
    let mut known = server.connect().await; // the server has seen all four once this is answered
    assert_eq!(known.ask(&get_request("/hot")).await.status, 302);
    server.shutdown.begin();
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
    let address = server.address;
    let refused = async || tokio::net::TcpStream::connect(address).await.is_err();
    wait_until("the port is closed", refused).await;
    begun.send(end).await;
    let answer = begun.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (302, Some("close")));
    assert_eq!(server.drained().await, Drained { aborted: 0 });
}

/// More than all buffers of the kernel between two sockets.
const TAKEN_BYTES_MAX: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_not_answered_without_end() {
    let server = patient_server().await;
    let mut deaf = server.connect().await;
    let many = get_request("/hot").repeat(1_000);
    let mut taken = 0;
    while taken < TAKEN_BYTES_MAX {
        let sending = deaf.0.write(many.as_bytes());
        let Ok(sent) = tokio::time::timeout(Duration::from_millis(300), sending).await else {
            break;
        };
        taken += sent.unwrap();
    }
    assert!(taken < TAKEN_BYTES_MAX, "the service reads on and on");
    assert_eq!(server.connect().await.ask(&get_request("/hot")).await.status, 302);
}

#[tokio::test]
async fn the_hot_route_speaks_http_2_as_well() {
    let server = patient_server().await;
    let client: PooledClient<_, Body> =
        PooledClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri = format!("http://{}/hot", server.address);
    let response = client.request(Request::get(uri).body(Body::empty()).unwrap());
    let response = patient(response).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 302));
    server.shutdown.begin();
    assert_eq!(server.drained().await, Drained { aborted: 0 });
}
