//! A disk that is really full: what cannot be kept is refused, what was acknowledged is there, and
//! nothing has to be restarted.

use std::collections::BTreeSet;

use job_queue::client::{Client, Error};
use job_queue::http::Stats;
use serde_json::{Value, json};
use testkit::crash::{Child, Program, free_address};

const QUEUE: &str = "jobs";
const DISK_BYTES: u64 = 4 << 20;
/// More messages than the disk has room for.
const MESSAGES_MAX: usize = 4_000;

/// What one client was told.
struct Sender {
    client: Client,
    acknowledged: BTreeSet<String>,
    sent: usize,
}

impl Sender {
    async fn send(&mut self) -> Result<(), Error> {
        self.sent += 1;
        let body = format!("{:05} {}", self.sent, "x".repeat(1_000));
        let message = json!({ "QueueUrl": format!("/{QUEUE}"), "MessageBody": body });
        self.client.call::<Value>("SendMessage", &message).await?;
        self.acknowledged.insert(body);
        Ok(())
    }

    /// Sends until it is refused.
    async fn send_until_refused(&mut self) -> Error {
        for _ in 0..MESSAGES_MAX {
            if let Err(error) = self.send().await {
                return error;
            }
        }
        panic!("{MESSAGES_MAX} messages fit on a full disk")
    }

    async fn ready(&self) -> u64 {
        let stats: Vec<Stats> = self.client.get("/stats").await.expect("the server answers");
        stats[0].ready as u64
    }

    /// Everything in the queue, taken out of it.
    async fn drain(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let ask = json!({ "QueueUrl": format!("/{QUEUE}"), "MaxNumberOfMessages": 10 });
            let got: Value = self.client.call("ReceiveMessage", &ask).await.expect("messages");
            let messages = got["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return bodies;
            }
            bodies.extend(messages.iter().map(|it| it["Body"].as_str().unwrap().to_owned()));
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let disk = match infra::SmallDisk::new(DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT RUN: {why}"),
    };
    let address = free_address();
    let (nsenter, inside) = disk.enter();
    let store = format!("sqlite:{}", disk.path().join("queue.db").display());
    let mut server: Child = Program::new(nsenter)
        .args(inside)
        .args([env!("CARGO_BIN_EXE_job-queue"), "serve", "--listen", &address.to_string()])
        .args(["--store", &store])
        .start();
    server.wait_ready(address).await;
    let client = Client::new(&format!("http://{address}"), "us-east-1").expect("a URL");
    let queue = json!({ "QueueName": QUEUE });
    client.call::<Value>("CreateQueue", &queue).await.expect("a queue");
    let mut sender = Sender { client, acknowledged: BTreeSet::new(), sent: 0 };
    sender.send().await.expect("there is room at first");

    disk.fill().expect("to the last byte");
    let refusal = sender.send_until_refused().await;
    let Error::Refused { code, message, .. } = &refusal else { panic!("{refusal}") };
    assert_eq!(code, "ServiceUnavailable");
    assert!(message.contains("Try again") && !message.contains("disk"), "{message}");
    let line = server.wait_line("nothing can be written").await;
    assert!(line.contains("disk is full") && line.contains("free some space"), "{line}");
    for _ in 0..3 {
        sender.send().await.expect_err("it is still full");
    }
    // It answers what needs no room, and counts nothing that it refused.
    assert_eq!(sender.ready().await, sender.acknowledged.len() as u64);

    disk.make_room().expect("it was full");
    sender.send().await.expect("without a restart");
    server.wait_line("writes work again").await;
    server.kill9();
    server.restart();
    server.wait_ready(address).await;
    let found = sender.drain().await;
    let expected: Vec<String> = sender.acknowledged.iter().cloned().collect();
    let as_set: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!((as_set.len(), found.len()), (expected.len(), expected.len()));
    assert_eq!(as_set, sender.acknowledged, "exactly what was acknowledged");
}
