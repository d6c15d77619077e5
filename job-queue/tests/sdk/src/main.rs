//! `job-queue-sdk PATH`: starts the queue at PATH and uses it through the AWS SDK for Rust, which
//! checks digests, parses errors by their codes and retries by itself. Ends with `passed N`.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

type Failure = Box<dyn std::error::Error>;

/// What was seen to be right.
#[derive(Default)]
struct Passed(usize);

impl Passed {
    fn check(&mut self, holds: bool, what: &str) -> Result<(), Failure> {
        if !holds {
            return Err(format!("not so: {what}").into());
        }
        self.0 += 1;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let program = std::env::args().nth(1).ok_or("say where the queue's binary is")?;
    let (_server, address) = serve(&program).await?;
    let client = client(address);
    let mut passed = Passed::default();
    messages(&client, &mut passed).await?;
    batches(&client, &mut passed).await?;
    fifo_and_dead_letters(&client, &mut passed).await?;
    errors(&client, &mut passed).await?;
    println!("passed {}", passed.0);
    Ok(())
}

async fn serve(program: &str) -> Result<(Child, SocketAddr), Failure> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = Command::new(program)
        .args(["serve", "--store", "memory:", "--listen", &address.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    for _ in 0..2_000 {
        if TcpStream::connect(address).await.is_ok() {
            return Ok((server, address));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("the queue does not listen".into())
}

fn client(address: SocketAddr) -> Client {
    let credentials = Credentials::new("test", "test", None, None, "static");
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(format!("http://{address}"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn create(client: &Client, name: &str) -> Result<String, Failure> {
    let created = client.create_queue().queue_name(name).send().await?;
    Ok(created.queue_url.ok_or("no address")?)
}

/// A message with attributes goes round; the SDK compares the digests of body and attributes.
async fn messages(client: &Client, passed: &mut Passed) -> Result<(), Failure> {
    let url = create(client, "sdk").await?;
    passed.check(url.ends_with("/000000000000/sdk"), "the address names account and queue")?;
    let text = MessageAttributeValue::builder().data_type("String").string_value("ä").build()?;
    let bytes = Blob::new([0_u8, 255, 1]);
    let binary =
        MessageAttributeValue::builder().data_type("Binary.png").binary_value(bytes).build()?;
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body("hello \u{1f600}")
        .message_attributes("text", text)
        .message_attributes("binary", binary)
        .send()
        .await?;
    passed.check(sent.message_id.is_some(), "a send is answered with an id")?;
    passed.check(sent.md5_of_message_attributes.is_some(), "and a digest of the attributes")?;
    let received = client
        .receive_message()
        .queue_url(&url)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .wait_time_seconds(1)
        .send()
        .await?;
    let message = received.messages().first().ok_or("nothing was received")?;
    passed.check(message.body() == Some("hello \u{1f600}"), "the body is the same")?;
    let attributes = message.message_attributes().ok_or("no attributes")?;
    let binary = attributes["binary"].binary_value().map(AsRef::as_ref);
    passed.check(binary == Some(&[0, 255, 1][..]), "bytes are the same")?;
    let count = &MessageSystemAttributeName::ApproximateReceiveCount;
    let count = message.attributes().and_then(|it| it.get(count)).map(String::as_str);
    passed.check(count == Some("1"), "it was received once")?;
    let handle = message.receipt_handle().ok_or("no handle")?;
    let hide = client.change_message_visibility().queue_url(&url).receipt_handle(handle);
    hide.visibility_timeout(60).send().await?;
    client.delete_message().queue_url(&url).receipt_handle(handle).send().await?;
    let attributes = client
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await?;
    let attributes = attributes.attributes.ok_or("no attributes")?;
    let left = |name: &QueueAttributeName| attributes.get(name).map(String::as_str) == Some("0");
    passed.check(left(&QueueAttributeName::ApproximateNumberOfMessages), "nothing is left")?;
    let hidden = &QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
    passed.check(left(hidden), "nothing is in flight")?;
    let arn = attributes.get(&QueueAttributeName::QueueArn).map(String::as_str);
    passed.check(arn == Some("arn:aws:sqs:eu-west-1:000000000000:sdk"), "the region is ours")
}

/// One bad entry does not spoil a batch.
async fn batches(client: &Client, passed: &mut Passed) -> Result<(), Failure> {
    let url = create(client, "batches").await?;
    let entry = |id: &str, body: &str, delay| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body(body)
            .delay_seconds(delay)
            .build()
    };
    let sent = client
        .send_message_batch()
        .queue_url(&url)
        .entries(entry("a", "1", 0)?)
        .entries(entry("b", "2", 901)?)
        .entries(entry("c", "3", 0)?)
        .send()
        .await?;
    passed.check(sent.successful.len() == 2, "two of three are sent")?;
    let failed = sent.failed.first().ok_or("nothing failed")?;
    passed.check(failed.id == "b" && failed.sender_fault, "the third is named")?;
    let received =
        client.receive_message().queue_url(&url).max_number_of_messages(10).send().await?;
    passed.check(received.messages().len() == 2, "two are received")?;
    let mut delete = client.delete_message_batch().queue_url(&url);
    for (n, message) in received.messages().iter().enumerate() {
        let handle = message.receipt_handle().ok_or("no handle")?;
        let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
        delete = delete.entries(entry.receipt_handle(handle).build()?);
    }
    passed.check(delete.send().await?.successful.len() == 2, "and deleted")
}

/// Order and deduplication, and the way of what is received too often.
async fn fifo_and_dead_letters(client: &Client, passed: &mut Passed) -> Result<(), Failure> {
    create_fifo(client, "dead.fifo", HashMap::new()).await?;
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:dead.fifo","maxReceiveCount":1}"#;
    let attributes = HashMap::from([
        (QueueAttributeName::RedrivePolicy, policy.to_owned()),
        (QueueAttributeName::VisibilityTimeout, "0".to_owned()),
    ]);
    let url = create_fifo(client, "work.fifo", attributes).await?;
    let mut numbers = Vec::new();
    for (body, id) in [("1", "a"), ("again", "a"), ("2", "b")] {
        let send = client.send_message().queue_url(&url).message_body(body);
        let sent = send.message_group_id("g").message_deduplication_id(id).send().await?;
        numbers.push(sent.sequence_number.ok_or("no sequence number")?);
    }
    passed.check(numbers[0] == numbers[1], "a duplicate has the original's number")?;
    passed.check(numbers[1] < numbers[2], "numbers grow")?;
    let first = client.receive_message().queue_url(&url).send().await?;
    passed.check(first.messages().first().and_then(|it| it.body()) == Some("1"), "in order")?;
    let second = client.receive_message().queue_url(&url).send().await?;
    passed.check(second.messages().first().and_then(|it| it.body()) == Some("2"), "the next")?;
    let dead = client.get_queue_url().queue_name("dead.fifo").send().await?;
    let dead = dead.queue_url.ok_or("no address")?;
    let letter = client.receive_message().queue_url(&dead).send().await?;
    passed.check(letter.messages().first().and_then(|it| it.body()) == Some("1"), "a dead letter")?;
    let sources = client.list_dead_letter_source_queues().queue_url(&dead).send().await?;
    passed.check(sources.queue_urls == [url], "which knows its source")
}

async fn create_fifo(
    client: &Client,
    name: &str,
    attributes: HashMap<QueueAttributeName, String>,
) -> Result<String, Failure> {
    let mut create = client.create_queue().queue_name(name);
    create = create.attributes(QueueAttributeName::FifoQueue, "true");
    for (name, value) in attributes {
        create = create.attributes(name, value);
    }
    Ok(create.send().await?.queue_url.ok_or("no address")?)
}

/// Errors arrive as the SDK's own types, told apart by their codes.
async fn errors(client: &Client, passed: &mut Passed) -> Result<(), Failure> {
    let missing = client.get_queue_url().queue_name("missing").send().await;
    let missing = missing.err().and_then(|error| error.into_service_error().into());
    let is_missing = missing.is_some_and(
        |error: aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError| {
            error.is_queue_does_not_exist()
        },
    );
    passed.check(is_missing, "QueueDoesNotExist is recognised")?;
    let url = create(client, "errors").await?;
    let delete = client.delete_message().queue_url(&url).receipt_handle("nonsense");
    let error = delete.send().await.err().ok_or("nonsense was accepted")?.into_service_error();
    passed.check(error.is_receipt_handle_is_invalid(), "ReceiptHandleIsInvalid is recognised")?;
    let send = client.send_message().queue_url(&url).message_body("x").delay_seconds(901);
    let error = send.send().await.err().ok_or("901 seconds were accepted")?.into_service_error();
    let message = error.message().unwrap_or_default();
    passed.check(message.contains("DelaySeconds"), "the wrong parameter is named")?;
    client.purge_queue().queue_url(&url).send().await?;
    let error = client.purge_queue().queue_url(&url).send().await.err().ok_or("purged twice")?;
    let error = error.into_service_error();
    passed.check(error.is_purge_queue_in_progress(), "PurgeQueueInProgress is recognised")
}
