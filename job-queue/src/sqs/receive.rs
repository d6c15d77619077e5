//! ReceiveMessage.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Sqs;
use super::caller::Caller;
use super::checks::{self, WireAttribute};
use super::errors::{Code, Fault};
use super::md5::{md5_of_attributes, md5_of_text};
use crate::limits::{BATCH_MAX, VISIBILITY_MAX_MS, WAIT_MAX_MS};
use crate::message::{Delivery, Seq};
use crate::queue::{Ask, Queues};

/// What can be asked for, and `LeaseEpoch`: ours, returned only to those who name it, so that no
/// strict client meets an attribute it does not know. It is the fencing token of the lease.
const SYSTEM_ATTRIBUTES: &[&str] = &[
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];
const LEASE_EPOCH: &str = "LeaseEpoch";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ReceiveMessage {
    queue_url: Option<String>,
    attribute_names: Vec<String>,
    message_system_attribute_names: Vec<String>,
    message_attribute_names: Vec<String>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    receive_request_attempt_id: Option<Arc<str>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Messages {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    message_id: String,
    receipt_handle: String,
    #[serde(rename = "MD5OfBody")]
    md5_of_body: String,
    body: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'static str, String>,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_attributes: BTreeMap<String, WireAttribute>,
}

impl<Q: Queues + Clone> Sqs<Q> {
    pub(super) async fn receive_message(
        &self,
        caller: &Caller,
        input: ReceiveMessage,
    ) -> Result<Messages, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let system = [&input.attribute_names[..], &input.message_system_attribute_names].concat();
        for name in &system {
            let known = ["All", LEASE_EPOCH].contains(&name.as_str())
                || SYSTEM_ATTRIBUTES.contains(&name.as_str())
                // Queue attributes were accepted here once, and mean nothing.
                || super::attributes::NAMES.contains(&name.as_str());
            if !known {
                let what = format!("Unknown Attribute {name}.");
                return Err(Fault::new(Code::InvalidAttributeName, what));
            }
        }
        if let Some(attempt) = &input.receive_request_attempt_id {
            checks::id("ReceiveRequestAttemptId", attempt)?;
            if !queue.is_fifo() {
                let reason = "The request include parameter that is not valid for this queue type.";
                return Err(Fault::invalid("ReceiveRequestAttemptId", attempt, reason));
            }
        }
        let max = input.max_number_of_messages;
        let ask = Ask {
            max: checks::count("MaxNumberOfMessages", max, 1, BATCH_MAX)?,
            visibility_ms: checks::duration(
                "VisibilityTimeout",
                input.visibility_timeout,
                VISIBILITY_MAX_MS,
            )?,
            wait_ms: checks::duration("WaitTimeSeconds", input.wait_time_seconds, WAIT_MAX_MS)?,
            attempt: input.receive_request_attempt_id,
        };
        let deliveries = self.queues.receive(&queue, ask).await?;
        let messages = deliveries.into_iter().map(|delivery| {
            message(caller, queue.is_fifo(), &delivery, &system, &input.message_attribute_names)
        });
        Ok(Messages { messages: messages.collect() })
    }
}

fn message(
    caller: &Caller,
    is_fifo: bool,
    delivery: &Delivery,
    system: &[String],
    wanted: &[String],
) -> Message {
    let attributes = &delivery.content.attributes;
    let chosen = attributes.iter().filter(|(name, _)| is_wanted(name, wanted));
    Message {
        message_id: delivery.id.to_string(),
        receipt_handle: delivery.receipt.to_string(),
        md5_of_body: md5_of_text(&delivery.content.body),
        body: delivery.content.body.clone(),
        attributes: system_attributes(caller, is_fifo, delivery, system),
        md5_of_message_attributes: md5_of_attributes(chosen.clone()),
        message_attributes: chosen
            .map(|(name, attribute)| (name.clone(), WireAttribute::of(attribute)))
            .collect(),
    }
}

/// `All` and `.*` mean every attribute, `size.*` those that begin with `size.`.
fn is_wanted(name: &str, wanted: &[String]) -> bool {
    wanted.iter().any(|wanted| match wanted.as_str() {
        "All" | ".*" => true,
        pattern => match pattern.strip_suffix(".*") {
            Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
            None => name == pattern,
        },
    })
}

fn system_attributes(
    caller: &Caller,
    is_fifo: bool,
    delivery: &Delivery,
    wanted: &[String],
) -> BTreeMap<&'static str, String> {
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let content = &delivery.content;
    let all = wanted.iter().any(|name| name == "All");
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let value = |name: &str| match name {
        "SenderId" => Some(content.sender.to_string()),
        "SentTimestamp" => Some(delivery.sent_at_ms.to_string()),
        "ApproximateReceiveCount" => Some(delivery.receives.to_string()),
        "ApproximateFirstReceiveTimestamp" => Some(delivery.first_received_at_ms.to_string()),
        "SequenceNumber" => is_fifo.then(|| sequence_number(delivery.seq)),
        "MessageDeduplicationId" => content.dedup_id.clone(),
        "MessageGroupId" => content.group.as_ref().map(ToString::to_string),
        "AWSTraceHeader" => content.trace_header.clone(),
        "DeadLetterQueueSourceArn" => delivery.dead_letter_source.as_ref().map(|it| caller.arn(it)),
        _ => None,
    };
    let names = SYSTEM_ATTRIBUTES.iter().filter(|name| all || is_wanted(name));
    let mut attributes: BTreeMap<_, _> =
        names.filter_map(|name| Some((*name, value(name)?))).collect();
    if is_wanted(LEASE_EPOCH) {
        attributes.insert(LEASE_EPOCH, delivery.receipt.epoch.0.to_string());
    }
    attributes
}

/// Twenty digits, so that the order of texts is the order of numbers.
pub(super) fn sequence_number(seq: Seq) -> String {
    format!("{:020}", seq.0)
}
