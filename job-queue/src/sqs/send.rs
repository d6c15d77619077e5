//! SendMessage and SendMessageBatch.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::caller::Caller;
use super::checks::{self, WireAttribute};
use super::errors::{Code, Fault};
use super::md5::{md5_of_attributes, md5_of_text};
use super::{Sqs, receive};
use crate::limits::{DELAY_MAX_MS, MESSAGE_BYTES_MAX};
use crate::message::{Attribute, AttributeValue, Content, MessageId, NewMessage, QueueId, Sent};
use crate::queue::Queues;
use crate::settings::Settings;

/// The one system attribute a sender may set.
const TRACE_HEADER: &str = "AWSTraceHeader";

/// A message alone, which names its queue, or an entry of a batch, which has an id. One type and
/// not two around a common part: `serde(flatten)` would copy every field through a buffer, on the
/// hottest path there is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SendMessage {
    queue_url: Option<String>,
    id: String,
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    message_attributes: BTreeMap<String, WireAttribute>,
    message_system_attributes: BTreeMap<String, WireAttribute>,
    message_deduplication_id: Option<String>,
    message_group_id: Option<Arc<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SendBatch {
    queue_url: Option<String>,
    entries: Vec<SendMessage>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SentMessage {
    #[serde(rename = "MD5OfMessageBody")]
    md5_of_message_body: String,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    #[serde(rename = "MD5OfMessageSystemAttributes", skip_serializing_if = "Option::is_none")]
    md5_of_message_system_attributes: Option<String>,
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SentEntry {
    id: String,
    #[serde(flatten)]
    sent: SentMessage,
}

/// What became of a batch, entry by entry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchResult<T> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) successful: Vec<T>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<FailedEntry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FailedEntry {
    id: String,
    sender_fault: bool,
    code: String,
    message: String,
}

impl<T> BatchResult<T> {
    pub(super) fn new() -> Self {
        Self { successful: vec![], failed: vec![] }
    }

    pub(super) fn add(&mut self, id: String, result: Result<T, Fault>) {
        match result {
            Ok(success) => self.successful.push(success),
            Err(fault) => self.failed.push(FailedEntry {
                id,
                sender_fault: fault.code.is_senders_fault(),
                code: fault.code.legacy(),
                message: fault.message,
            }),
        }
    }
}

impl<Q: Queues + Clone> Sqs<Q> {
    pub(super) async fn send_message(
        &self,
        caller: &Caller,
        input: SendMessage,
    ) -> Result<SentMessage, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let settings = self.queues.settings(&queue).await?;
        let new = input.read(&settings, caller)?;
        let content = Arc::clone(&new.content);
        let mut sent = self.queues.send(&queue, vec![new]).await?;
        let sent = sent.pop().ok_or_else(lost_answer)??;
        Ok(SentMessage::of(&queue, &content, sent))
    }

    pub(super) async fn send_batch(
        &self,
        caller: &Caller,
        input: SendBatch,
    ) -> Result<BatchResult<SentEntry>, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        checks::batch(input.entries.iter().map(|entry| entry.id.as_str()))?;
        let bytes = input.entries.iter().map(|entry| entry.bytes()).sum::<usize>();
        if bytes > MESSAGE_BYTES_MAX {
            let what = format!(
                "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent \
                 {bytes} bytes."
            );
            return Err(Fault::new(Code::BatchRequestTooLong, what));
        }
        let settings = self.queues.settings(&queue).await?;
        let mut result = BatchResult::new();
        let (mut ids, mut messages, mut contents) = (vec![], vec![], vec![]);
        for mut entry in input.entries {
            let id = std::mem::take(&mut entry.id);
            match entry.read(&settings, caller) {
                Ok(new) => {
                    ids.push(id);
                    contents.push(Arc::clone(&new.content));
                    messages.push(new);
                }
                Err(fault) => result.add(id, Err(fault)),
            }
        }
        let sent = self.queues.send(&queue, messages).await?;
        for ((id, content), sent) in ids.into_iter().zip(contents).zip(sent) {
            let sent = sent.map_err(Fault::from).map(|sent| SentEntry {
                id: id.clone(),
                sent: SentMessage::of(&queue, &content, sent),
            });
            result.add(id, sent);
        }
        Ok(result)
    }
}

/// A store that answers fewer entries than it was given is broken; the client may try again.
pub(super) fn lost_answer() -> Fault {
    Fault::new(Code::ServiceUnavailable, "The store gave no answer for an entry.")
}

impl SendMessage {
    fn bytes(&self) -> usize {
        let attributes = self.message_attributes.iter().map(|(name, it)| {
            let binary = it.binary_value.as_ref().map_or(0, |text| text.len() / 4 * 3);
            name.len() + it.data_type.len() + it.string_value.as_ref().map_or(binary, String::len)
        });
        self.message_body.as_ref().map_or(0, String::len) + attributes.sum::<usize>()
    }

    fn read(self, settings: &Settings, caller: &Caller) -> Result<NewMessage, Fault> {
        let body = self.message_body.ok_or_else(|| Fault::missing("MessageBody"))?;
        checks::body(&body)?;
        let delay_ms = checks::duration("DelaySeconds", self.delay_seconds, DELAY_MAX_MS)?;
        if let Some(group) = &self.message_group_id {
            checks::id("MessageGroupId", group)?;
        }
        let dedup_id = dedup_id(settings, &body, self.message_deduplication_id)?;
        if settings.fifo.is_some() && delay_ms.is_some_and(|delay_ms| delay_ms > 0) {
            return Err(not_for_this_type("DelaySeconds", delay_ms.unwrap_or_default() / 1_000));
        }
        if settings.fifo.is_some() && self.message_group_id.is_none() {
            return Err(Fault::missing("MessageGroupId"));
        }
        let content = Content {
            body,
            attributes: checks::attributes(self.message_attributes)?,
            trace_header: trace_header(self.message_system_attributes)?,
            group: self.message_group_id,
            dedup_id,
            sender: Arc::clone(&caller.sender),
        };
        if content.bytes() > settings.message_bytes_max {
            let what = format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {} bytes.",
                settings.message_bytes_max
            );
            return Err(Fault::new(Code::InvalidParameterValue, what));
        }
        // FIFO delays are the queue's alone.
        let delay_ms = if settings.fifo.is_some() { None } else { delay_ms };
        Ok(NewMessage { id: MessageId::fresh(), content: Arc::new(content), delay_ms })
    }
}

fn not_for_this_type(parameter: &str, value: impl std::fmt::Display) -> Fault {
    let reason = "The request include parameter that is not valid for this queue type.";
    Fault::invalid(parameter, value, reason)
}

/// The id given, or the body's hash where the queue says so.
fn dedup_id(
    settings: &Settings,
    body: &str,
    given: Option<String>,
) -> Result<Option<String>, Fault> {
    match (&settings.fifo, given) {
        (None, None) => Ok(None),
        (None, Some(id)) => Err(not_for_this_type("MessageDeduplicationId", id)),
        (Some(_), Some(id)) => {
            checks::id("MessageDeduplicationId", &id)?;
            Ok(Some(id))
        }
        (Some(fifo), None) if fifo.content_based_dedup => {
            let digest = Sha256::digest(body.as_bytes());
            Ok(Some(digest.iter().fold(String::with_capacity(64), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a string takes every byte");
                text
            })))
        }
        (Some(_), None) => Err(Fault::new(
            Code::InvalidParameterValue,
            "The queue should either have ContentBasedDeduplication enabled or \
             MessageDeduplicationId provided explicitly",
        )),
    }
}

fn trace_header(mut given: BTreeMap<String, WireAttribute>) -> Result<Option<String>, Fault> {
    let header = given.remove(TRACE_HEADER);
    if let Some(name) = given.keys().next() {
        let reason = "The message system attribute is not supported.";
        return Err(Fault::invalid("MessageSystemAttributes", name, reason));
    }
    let Some(header) = header else { return Ok(None) };
    match checks::attribute(TRACE_HEADER, header)? {
        Attribute { data_type, value: AttributeValue::Text(text) } if data_type == "String" => {
            Ok(Some(text))
        }
        _ => Err(Fault::invalid(TRACE_HEADER, "value", "Must be of the type String.")),
    }
}

impl SentMessage {
    fn of(queue: &QueueId, content: &Content, sent: Sent) -> Self {
        let trace = content.trace_header.as_ref().map(|text| {
            let value = AttributeValue::Text(text.clone());
            (TRACE_HEADER.to_owned(), Attribute { data_type: "String".to_owned(), value })
        });
        Self {
            md5_of_message_body: md5_of_text(&content.body),
            md5_of_message_attributes: md5_of_attributes(&content.attributes),
            md5_of_message_system_attributes: md5_of_attributes(
                trace.iter().map(|(name, attribute)| (name, attribute)),
            ),
            message_id: sent.id.to_string(),
            sequence_number: queue.is_fifo().then(|| receive::sequence_number(sent.seq)),
        }
    }
}
