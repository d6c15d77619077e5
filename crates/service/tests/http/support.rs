//! A small service on a free port, and a client that speaks bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::http::header::{SERVER, USER_AGENT};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use service::{
    ConnectionLimits, Drained, First, Head, Json, Limits, Path, Problem, Query, Readiness, Shutdown,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// No answer in these tests takes this long unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) limits: Vec<Limit>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) rate: u32,
}

#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) limit: u16,
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/policies", post(async |Json(policy): Json<Policy>| Json(policy)))
        .route("/axum-json", post(async |axum::Json(policy): axum::Json<Policy>| Json(policy)))
        .route("/page", get(async |Query(page): Query<Page>| page.limit.to_string()))
        .route("/rows/{table}/{id}", get(row))
        .route("/panic", get(async || -> &'static str { panic!("secret-of-the-database") }))
        .route("/lazy-500", get(async || (StatusCode::INTERNAL_SERVER_ERROR, "secret")))
        .route("/never", get(async || std::future::pending::<()>().await))
        .route("/mine", get(async || Err::<(), _>(out_of_stock())))
        .route("/bytes", post(async |body: axum::body::Bytes| body.len().to_string()))
}

async fn row(Path((table, id)): Path<(String, u64)>) -> String {
    format!("{table} {id}")
}

fn out_of_stock() -> Problem {
    Problem::of(StatusCode::CONFLICT, "urn:problem:out-of-stock", "Out of stock")
        .detail("3 left")
        .field("/quantity", "at most 3")
        .extension("available", 3)
        .retry_after(Duration::from_millis(1500))
}

/// Answers `/hot` beside the router.
struct HotRoute;

impl First for HotRoute {
    const ROUTE: &'static str = "/hot";
    type Fields = [(HeaderName, HeaderValue); 1];

    fn answer(&self, head: &impl Head, _: IpAddr) -> Option<(StatusCode, Self::Fields)> {
        let agent = HeaderValue::from_str(head.text(&USER_AGENT).unwrap_or("nobody")).ok()?;
        (head.path() == "/hot").then_some((StatusCode::FOUND, [(SERVER, agent)]))
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    serving: JoinHandle<Drained>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        Self::start_with(router, Shutdown::new(), ConnectionLimits::default()).await
    }

    pub(crate) async fn start_with(
        router: Router,
        shutdown: Shutdown,
        limits: ConnectionLimits,
    ) -> Self {
        let listener = service::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = service::serve_with(listener, router, shutdown.clone(), limits);
        Self { address, shutdown, serving: tokio::spawn(serving) }
    }

    /// The routes above, and `/hot` answered before there is a request.
    pub(crate) async fn start_first(limits: ConnectionLimits) -> Self {
        let listener = service::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, shutdown) = (service::harden(routes(), Limits::default()), Shutdown::new());
        let serving = service::serve_first(listener, HotRoute, router, shutdown.clone(), limits);
        Self { address, shutdown, serving: tokio::spawn(serving) }
    }

    /// The routes above, hardened, with the operator's endpoints.
    pub(crate) async fn default() -> Self {
        Self::limited(Limits::default()).await
    }

    pub(crate) async fn limited(limits: Limits) -> Self {
        let shutdown = Shutdown::new();
        let operations = service::operations(Readiness::new(&shutdown), empty_openapi());
        let router = service::harden(routes().merge(operations), limits);
        Self::start_with(router, shutdown, ConnectionLimits::default()).await
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<str>) -> Answer {
        self.connect().await.ask(request.as_ref()).await
    }

    /// Waits until `serve` has returned.
    pub(crate) async fn drained(self) -> Drained {
        patient(self.serving).await.unwrap()
    }
}

pub(crate) fn empty_openapi() -> utoipa::openapi::OpenApi {
    utoipa::openapi::OpenApiBuilder::new().build()
}

pub(crate) fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

pub(crate) fn post_json(path: &str, body: &str) -> String {
    post_as(path, "application/json", body)
}

pub(crate) fn post_as(path: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

pub(crate) async fn patient<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("took longer than PATIENCE: it hangs")
}

/// One raw HTTP/1.1 connection.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// Reads one response that has a Content-Length.
    pub(crate) async fn answer(&mut self) -> Answer {
        patient(self.read_answer()).await
    }

    async fn read_answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(
                self.0.read_u8().await.expect("the connection closed inside a response head"),
            );
        }
        let head = String::from_utf8(head).unwrap();
        let mut answer = Answer { status: 0, head, body: String::new() };
        answer.status = answer.head[9..12].parse().unwrap();
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Waits until the server closes; what it still sent is returned.
    pub(crate) async fn closed(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is a close too.
        let _ = patient(self.0.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find_map(|(header, value)| header.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Checks what every problem has, and returns the document.
    pub(crate) fn problem(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        let id = self.header("x-request-id").expect("every response has a request id");
        assert_eq!(problem["instance"], id, "{problem}");
        problem
    }
}

/// Asks until it is so.
pub(crate) async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}
