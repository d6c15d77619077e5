//! The leanest client there is: prepared requests on kept connections, and of the answer only what
//! is needed. On one processor a general HTTP client would be slower than the server it measures.

use std::collections::HashMap;
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
    idle: Mutex<Vec<TcpStream>>,
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
        let prepared = prepared.map(|(action, input)| request(self.address, action, &input).into());
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
        match action {
            Action::Send => drop(self.exchange(&send).await?),
            Action::SendBatch => drop(self.exchange(&batch).await?),
            Action::Cycle => {
                self.exchange(&batch).await?;
                let received: Value = serde_json::from_slice(&self.exchange(&receive).await?)?;
                let messages = received["Messages"].as_array().context("messages")?;
                anyhow::ensure!(messages.len() == 10, "{} of ten came", messages.len());
                let entries: Vec<_> = messages
                    .iter()
                    .enumerate()
                    .map(|(n, it)| json!({ "Id": n.to_string(), "ReceiptHandle": it["ReceiptHandle"] }))
                    .collect();
                let input = json!({ "QueueUrl": *lock(&self.queue_url), "Entries": entries });
                let deleted = self.call("DeleteMessageBatch", &input).await?;
                let done = deleted["Successful"].as_array().map_or(0, Vec::len);
                anyhow::ensure!(done == 10, "{done} of ten were deleted");
            }
        }
        Ok("done")
    }

    async fn call(&self, action: &str, input: &Value) -> anyhow::Result<Value> {
        let body = self.exchange(&request(self.address, action, input)).await?;
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? })
    }

    /// Sends a request and returns the answer's body, unless its status is not 200.
    async fn exchange(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let idle = lock(&self.idle).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(1_024);
        let body = loop {
            let read = stream.read_buf(&mut answer).await?;
            anyhow::ensure!(read > 0, "the connection was closed");
            if let Some(body) = whole(&answer)? {
                break body;
            }
        };
        anyhow::ensure!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        lock(&self.idle).push(stream);
        Ok(body)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn request(address: SocketAddr, action: &str, input: &Value) -> Vec<u8> {
    let body = input.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nx-amz-target: AmazonSQS.{action}\r\n\
         content-type: application/x-amz-json-1.0\r\nauthorization: AWS4-HMAC-SHA256 \
         Credential=x/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The body, once all of it is there.
fn whole(answer: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (std::str::from_utf8(&answer[..end])?, &answer[end + 4..]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let length = length.context("an answer without its length")??;
    Ok((body.len() >= length).then(|| body[..length].to_vec()))
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
    let receive = request(wire.address, "ReceiveMessage", &input);
    while let Ok(body) = wire.exchange(&receive).await {
        let received: Value = serde_json::from_slice(&body).unwrap_or_default();
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
