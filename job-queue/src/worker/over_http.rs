//! Jobs from an SQS endpoint.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::source::{Depth, Incoming, Outgoing, Source, SourceError};
use crate::client::{Client, Error};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    message_id: String,
    receipt_handle: String,
    body: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    message_attributes: BTreeMap<String, Value>,
}

/// What became of a batch. Every entry is in one of the two lists.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Deleted {
    successful: Vec<Entry>,
    failed: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    id: String,
    code: String,
    message: String,
}

impl Deleted {
    fn outcome(&self, id: &str) -> Result<(), SourceError> {
        if self.successful.iter().any(|entry| entry.id == id) {
            return Ok(());
        }
        match self.failed.iter().find(|entry| entry.id == id) {
            Some(Entry { code, message, .. }) => Err(refused(code, message.clone())),
            None => Err(SourceError::Unavailable("the answer lacks an entry".to_owned())),
        }
    }
}

/// What a worker does about an error of this name.
fn refused(code: &str, text: String) -> SourceError {
    match code {
        "MessageNotInflight" => SourceError::LeaseLost(text),
        "InvalidParameterValueException" | "InvalidParameterValue"
            if text.contains("ReceiptHandle") =>
        {
            SourceError::LeaseLost(text)
        }
        "ServiceUnavailable" | "OverLimit" => SourceError::Unavailable(text),
        _ => SourceError::Refused(text),
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Refused { code, .. } => refused(&code, text),
            Error::NoAnswer { .. } => Self::Unavailable(text),
            Error::Endpoint(_) => Self::Refused(text),
        }
    }
}

impl Source for Client {
    async fn send(&self, queue: &str, message: Outgoing) -> Result<String, SourceError> {
        let attributes = message
            .attributes
            .into_iter()
            .map(|(name, text)| (name, json!({ "DataType": "String", "StringValue": text })));
        let mut input = json!({
            "QueueUrl": self.queue_url(queue).await?,
            "MessageBody": message.body,
            "MessageAttributes": attributes.collect::<Map<_, _>>(),
        });
        if message.delay_ms > 0 {
            input["DelaySeconds"] = message.delay_ms.div_ceil(1_000).into();
        }
        if let Some(group) = message.group {
            input["MessageGroupId"] = group.into();
        }
        if let Some(id) = message.dedup_id {
            input["MessageDeduplicationId"] = id.into();
        }
        let sent: Value = self.call("SendMessage", &input).await?;
        Ok(sent["MessageId"].as_str().unwrap_or_default().to_owned())
    }

    async fn receive(
        &self,
        queue: &str,
        max: usize,
        visibility_ms: u64,
        wait_ms: u64,
    ) -> Result<Vec<Incoming>, SourceError> {
        let mut system = vec!["All"];
        if self.knows_lease_epochs() {
            system.push("LeaseEpoch");
        }
        let input = json!({
            "QueueUrl": self.queue_url(queue).await?,
            "MaxNumberOfMessages": max,
            "VisibilityTimeout": visibility_ms.div_ceil(1_000),
            "WaitTimeSeconds": wait_ms.div_ceil(1_000),
            "AttributeNames": system,
            "MessageAttributeNames": ["All"],
        });
        let received: Received = self.call("ReceiveMessage", &input).await?;
        Ok(received.messages.into_iter().map(incoming).collect())
    }

    async fn delete_batch(&self, queue: &str, receipts: &[String]) -> Vec<Result<(), SourceError>> {
        let answer = async {
            let entry = |(n, handle): (usize, &String)| json!({ "Id": n.to_string(), "ReceiptHandle": handle });
            let entries: Vec<_> = receipts.iter().enumerate().map(entry).collect();
            let url = self.queue_url(queue).await?;
            let input = json!({ "QueueUrl": url, "Entries": entries });
            Ok(self.call::<Deleted>("DeleteMessageBatch", &input).await?)
        };
        let deleted: Result<Deleted, SourceError> = answer.await;
        match deleted {
            Ok(deleted) => (0..receipts.len()).map(|n| deleted.outcome(&n.to_string())).collect(),
            Err(error) => receipts.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn hide(&self, queue: &str, receipt: &str, ms: u64) -> Result<(), SourceError> {
        let input = json!({
            "QueueUrl": self.queue_url(queue).await?,
            "ReceiptHandle": receipt,
            "VisibilityTimeout": ms.div_ceil(1_000),
        });
        self.call::<Value>("ChangeMessageVisibility", &input).await?;
        Ok(())
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SourceError> {
        let url = self.queue_url(queue).await?;
        let input = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
        let answer: Value = self.call("GetQueueAttributes", &input).await?;
        let number = |name: &str| {
            let text = answer["Attributes"][name].as_str();
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Ok(Depth {
            ready: number("ApproximateNumberOfMessages"),
            in_flight: number("ApproximateNumberOfMessagesNotVisible"),
            delayed: number("ApproximateNumberOfMessagesDelayed"),
            oldest_age_ms: None,
        })
    }
}

fn incoming(message: Message) -> Incoming {
    let number = |name: &str| message.attributes.get(name).and_then(|text| text.parse().ok());
    let receives = number("ApproximateReceiveCount").unwrap_or(1) as u32;
    let text = |(name, value): (String, Value)| {
        value["StringValue"].as_str().map(|text| (name, text.to_owned()))
    };
    Incoming {
        receives,
        // Another server has no epochs. Its count grows with each lease, which fences as well
        // until a redrive sets it back.
        epoch: number("LeaseEpoch").map_or(receives, |epoch| epoch as u32),
        sent_at_ms: number("SentTimestamp").unwrap_or(0),
        group: message.attributes.get("MessageGroupId").cloned(),
        id: message.message_id,
        receipt: message.receipt_handle,
        body: message.body,
        attributes: message.message_attributes.into_iter().filter_map(text).collect(),
    }
}
