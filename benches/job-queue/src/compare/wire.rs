//! The leanest client there is: prepared requests on kept connections, and of the answer only what
//! is needed. On one processor a general HTTP client would be slower than the server it measures.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use measure::harness::Outcome;

const QUEUE: &str = "compared";

/// What one request of the comparison does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// One message in.
    Send,
    /// Ten in.
    SendBatch,
    /// Ten in, ten received, ten deleted.
    Cycle,
}

impl Action {
    /// How many messages so many of it leave in the queue.
    pub(super) fn left_by(self, calls: u64) -> u64 {
        match self {
            Self::Send => calls,
            Self::SendBatch => 10 * calls,
            Self::Cycle => 0,
        }
    }
}

/// A server's queue, and connections to it.
pub(super) struct Wire {
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
    queue_url: Mutex<String>,
    prepared: Mutex<[Arc<[u8]>; 3]>,
}

impl Wire {
    pub(super) fn new(address: SocketAddr) -> Self {
        let prepared = Mutex::new([(); 3].map(|()| Arc::from([])));
        Self { address, idle: Mutex::default(), queue_url: Mutex::default(), prepared }
    }

    pub(super) async fn create_queue(&self) -> anyhow::Result<()> {
        let created = self.call("CreateQueue", &json!({ "QueueName": QUEUE })).await?;
        let url = created["QueueUrl"].as_str().context("an address")?.to_owned();
        let body = "x".repeat(100);
        let entries: Vec<_> =
            (0..10).map(|n| json!({ "Id": n.to_string(), "MessageBody": body })).collect();
        let prepared = [
            ("SendMessage", json!({ "QueueUrl": url, "MessageBody": body })),
            ("SendMessageBatch", json!({ "QueueUrl": url, "Entries": entries })),
            ("ReceiveMessage", json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 })),
        ];
        let prepared = prepared.map(|(action, input)| {
            let mut request = Vec::new();
            write_request(&mut request, self.address, action, input.to_string().as_bytes());
            request.into()
        });
        *lock(&self.prepared) = prepared;
        *lock(&self.queue_url) = url;
        Ok(())
    }

    /// Messages in the queue, as it says.
    pub(super) async fn depth(&self) -> anyhow::Result<u64> {
        let input = json!({ "QueueUrl": *lock(&self.queue_url), "AttributeNames": ["All"] });
        let answer = self.call("GetQueueAttributes", &input).await?;
        let count = |name: &str| {
            answer["Attributes"][name].as_str().and_then(|text| text.parse::<u64>().ok())
        };
        let visible = count("ApproximateNumberOfMessages").context("a count")?;
        Ok(visible + count("ApproximateNumberOfMessagesNotVisible").unwrap_or(0))
    }

    pub(super) async fn act(&self, action: Action) -> anyhow::Result<&'static str> {
        let [send, batch, receive] = lock(&self.prepared).clone();
        let mut connection = self.connection().await?;
        match action {
            Action::Send => connection.exchange(&send).await?,
            Action::SendBatch => connection.exchange(&batch).await?,
            Action::Cycle => {
                connection.exchange(&batch).await?;
                connection.exchange(&receive).await?;
                let delete = self.delete_what_came(connection.answer())?;
                connection.exchange(&delete).await?;
                let answer = connection.answer();
                let (done, failed) =
                    (texts_of(answer, b"Id\":\"").len(), texts_of(answer, b"Code\":\"").len());
                anyhow::ensure!(done == 10 && failed == 0, "{done} of ten, {failed} failed");
            }
        }
        lock(&self.idle).push(connection);
        Ok("done")
    }

    /// The request that deletes the ten messages of a receive's answer.
    fn delete_what_came(&self, received: &[u8]) -> anyhow::Result<Vec<u8>> {
        let handles = texts_of(received, b"ReceiptHandle\":\"");
        anyhow::ensure!(handles.len() == 10, "{} of ten came", handles.len());
        let mut input = Vec::with_capacity(1_024);
        input.extend(br#"{"QueueUrl":""#);
        input.extend(lock(&self.queue_url).as_bytes());
        input.extend(br#"","Entries":["#);
        for (n, handle) in (b'0'..).zip(handles) {
            input.extend(if n == b'0' { &br#"{"Id":""#[..] } else { br#",{"Id":""# });
            input.push(n);
            input.extend(br#"","ReceiptHandle":""#);
            input.extend(handle);
            input.extend(br#""}"#);
        }
        input.extend(b"]}");
        let mut request = Vec::with_capacity(input.len() + 512);
        write_request(&mut request, self.address, "DeleteMessageBatch", &input);
        Ok(request)
    }

    async fn call(&self, action: &str, input: &Value) -> anyhow::Result<Value> {
        let mut request = Vec::new();
        write_request(&mut request, self.address, action, input.to_string().as_bytes());
        let mut connection = self.connection().await?;
        connection.exchange(&request).await?;
        let answer = connection.answer();
        let answer = match answer.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(answer)?,
        };
        lock(&self.idle).push(connection);
        Ok(answer)
    }

    async fn connection(&self) -> anyhow::Result<Connection> {
        let idle = lock(&self.idle).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, received: Vec::with_capacity(8_192), body_at: 0 })
    }
}

/// A kept connection; one request at a time.
struct Connection {
    stream: TcpStream,
    /// The last answer, and where its body begins.
    received: Vec<u8>,
    body_at: usize,
}

impl Connection {
    /// Sends a request and waits for all of the answer; an error unless its status is 200.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let mut end = None;
        while end.is_none_or(|end| self.received.len() < end) {
            let read = self.stream.read_buf(&mut self.received).await?;
            anyhow::ensure!(read > 0, "the connection was closed");
            if end.is_none() {
                end = self.end_of_answer()?;
            }
        }
        let is_ok = self.received.starts_with(b"HTTP/1.1 200");
        anyhow::ensure!(is_ok, "{}", String::from_utf8_lossy(&self.received));
        Ok(())
    }

    fn answer(&self) -> &[u8] {
        &self.received[self.body_at..]
    }

    /// Where the answer ends, once its head is there.
    fn end_of_answer(&mut self) -> anyhow::Result<Option<usize>> {
        let Some(head) = self.received.windows(4).position(|it| it == b"\r\n\r\n") else {
            return Ok(None);
        };
        self.body_at = head + 4;
        let length = self.received[..head].split(|&byte| byte == b'\n').find_map(|line| {
            const NAME: &[u8] = b"content-length:";
            let value = line.split_at_checked(NAME.len());
            value.filter(|(name, _)| name.eq_ignore_ascii_case(NAME)).map(|(_, value)| value)
        });
        let length = std::str::from_utf8(length.context("an answer without its length")?)?;
        Ok(Some(self.body_at + length.trim().parse::<usize>()?))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_request(request: &mut Vec<u8>, address: SocketAddr, action: &str, body: &[u8]) {
    let head = write!(
        request,
        "POST / HTTP/1.1\r\nhost: {address}\r\nx-amz-target: AmazonSQS.{action}\r\n\
         content-type: application/x-amz-json-1.0\r\nauthorization: AWS4-HMAC-SHA256 \
         Credential=x/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    head.expect("a Vec takes all that is written to it");
    request.extend(body);
}

/// The texts that stand behind a quote and `name`. Reading the whole answer as JSON would take the
/// generator longer than the server took to write it.
fn texts_of<'a>(json: &'a [u8], name: &[u8]) -> Vec<&'a [u8]> {
    let mut texts = Vec::with_capacity(10);
    let mut rest = json;
    while let Some(quote) = rest.iter().position(|&byte| byte == b'"') {
        rest = &rest[quote + 1..];
        if let Some(text) = rest.strip_prefix(name) {
            let end = text.iter().position(|&byte| byte == b'"').unwrap_or(text.len());
            texts.push(&text[..end]);
            rest = &text[end..];
        }
    }
    texts
}

/// Consumers in long polls, and who waits for which message.
pub(super) struct Waiting {
    wire: Arc<Wire>,
    next: AtomicU64,
    expected: Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>,
    _consumers: JoinSet<()>,
}

impl Waiting {
    pub(super) fn start(wire: Wire, count: usize) -> Self {
        let (wire, expected) = (Arc::new(wire), Arc::default());
        let mut consumers = JoinSet::new();
        for _ in 0..count {
            consumers.spawn(consume(Arc::clone(&wire), Arc::clone(&expected)));
        }
        Self { wire, next: AtomicU64::new(0), expected, _consumers: consumers }
    }

    /// Messages sent, and received by somebody.
    pub(super) fn counts(&self) -> (u64, u64) {
        let sent = self.next.load(Ordering::Relaxed);
        (sent, sent - lock(&self.expected).len() as u64)
    }

    /// Sends a message and returns when somebody has it.
    pub(super) async fn one(&self) -> Outcome {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        lock(&self.expected).insert(n, tell);
        let url = lock(&self.wire.queue_url).clone();
        let input = json!({ "QueueUrl": url, "MessageBody": n.to_string() });
        self.wire.call("SendMessage", &input).await.map_err(|_| "not sent")?;
        told.await.map(|()| "received").map_err(|_| "not received")
    }
}

async fn consume(wire: Arc<Wire>, expected: Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>) {
    let url = lock(&wire.queue_url).clone();
    let input = json!({ "QueueUrl": url, "WaitTimeSeconds": 20 });
    while let Ok(received) = wire.call("ReceiveMessage", &input).await {
        let body = received["Messages"][0]["Body"].as_str().and_then(|text| text.parse().ok());
        let Some(n) = body else { continue };
        if let Some(tell) = lock(&expected).remove(&n) {
            let _: Result<(), ()> = tell.send(());
        }
        let handle = &received["Messages"][0]["ReceiptHandle"];
        let input = json!({ "QueueUrl": url, "ReceiptHandle": handle });
        if wire.call("DeleteMessage", &input).await.is_err() {
            return;
        }
    }
}
