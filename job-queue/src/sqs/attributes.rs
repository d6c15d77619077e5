//! The attributes of a queue, between the client's words and [`Settings`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::errors::{Code, Fault};
use crate::limits::{
    DELAY_MAX_MS, MAX_RECEIVES_MAX, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX_LEAST,
    REDRIVE_SOURCES_MAX, RETENTION_MAX_MS, RETENTION_MIN_MS, VISIBILITY_MAX_MS, WAIT_MAX_MS,
};
use crate::message::QueueId;
use crate::queue::Counts;
use crate::settings::{Fifo, Redrive, RedriveAllow, Scope, Settings};

/// Attributes that are kept and returned, and mean nothing to this store.
const KEPT: &[&str] =
    &["Policy", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"];
/// Longest policy or key id.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// All names that can be asked for.
pub(super) const NAMES: &[&str] = &[
    "Policy",
    "VisibilityTimeout",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
    "ApproximateNumberOfMessagesDelayed",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "RedrivePolicy",
    "FifoQueue",
    "ContentBasedDeduplication",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
];

/// Sets `attributes` on `settings`.
pub(super) fn apply(
    settings: &mut Settings,
    attributes: &BTreeMap<String, String>,
    caller: &Caller,
) -> Result<(), Fault> {
    for (name, value) in attributes {
        apply_one(settings, name, value, caller)?;
    }
    if let Some(Fifo { dedup_scope: Scope::Queue, throughput_limit: Scope::MessageGroup, .. }) =
        settings.fifo
    {
        let reason = "The perMessageGroupId value is allowed only when DeduplicationScope is \
                      messageGroup.";
        return Err(Fault::invalid("FifoThroughputLimit", "perMessageGroupId", reason));
    }
    Ok(())
}

fn apply_one(
    settings: &mut Settings,
    name: &str,
    value: &str,
    caller: &Caller,
) -> Result<(), Fault> {
    let seconds = |max_ms: u64| number(name, value, 0, max_ms / 1_000).map(|it| it * 1_000);
    match name {
        "VisibilityTimeout" => settings.visibility_timeout_ms = seconds(VISIBILITY_MAX_MS)?,
        "DelaySeconds" => settings.delay_ms = seconds(DELAY_MAX_MS)?,
        "ReceiveMessageWaitTimeSeconds" => settings.wait_ms = seconds(WAIT_MAX_MS)?,
        "MessageRetentionPeriod" => {
            let (min, max) = (RETENTION_MIN_MS / 1_000, RETENTION_MAX_MS / 1_000);
            settings.retention_ms = number(name, value, min, max)? * 1_000;
        }
        "MaximumMessageSize" => {
            let (min, max) = (MESSAGE_BYTES_MAX_LEAST as u64, MESSAGE_BYTES_MAX as u64);
            settings.message_bytes_max = number(name, value, min, max)? as usize;
        }
        "RedrivePolicy" => settings.redrive = redrive(value, caller)?,
        "RedriveAllowPolicy" => settings.redrive_allow = redrive_allow(value, caller)?,
        "FifoQueue" => {
            let is_fifo = settings.fifo.is_some();
            if boolean(name, value)? != is_fifo || !is_fifo {
                let what = "Unknown Attribute FifoQueue.";
                return Err(Fault::new(Code::InvalidAttributeName, what));
            }
        }
        "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit" => {
            let Some(fifo) = &mut settings.fifo else {
                let what =
                    format!("You can specify the {name} only when FifoQueue is set to true.");
                return Err(Fault::new(Code::InvalidAttributeName, what));
            };
            match name {
                "ContentBasedDeduplication" => fifo.content_based_dedup = boolean(name, value)?,
                "DeduplicationScope" => {
                    fifo.dedup_scope = scope(name, value, "queue", "messageGroup")?;
                }
                _ => fifo.throughput_limit = scope(name, value, "perQueue", "perMessageGroupId")?,
            }
        }
        _ if KEPT.contains(&name) => keep(settings, name, value)?,
        _ => {
            return Err(Fault::new(
                Code::InvalidAttributeName,
                format!("Unknown Attribute {}.", name.chars().take(80).collect::<String>()),
            ));
        }
    }
    Ok(())
}

fn keep(settings: &mut Settings, name: &str, value: &str) -> Result<(), Fault> {
    if value.len() > KEPT_BYTES_MAX {
        return Err(wrong(name, value, &format!("is longer than {KEPT_BYTES_MAX} bytes")));
    }
    match name {
        "Policy" if !value.is_empty() => {
            let policy: Result<Value, _> = serde_json::from_str(value);
            if !policy.is_ok_and(|policy| policy.is_object()) {
                return Err(wrong(name, value, "is not a JSON object"));
            }
        }
        "KmsDataKeyReusePeriodSeconds" => drop(number(name, value, 60, 86_400)?),
        "SqsManagedSseEnabled" => drop(boolean(name, value)?),
        _ => {}
    }
    match value {
        "" => settings.kept.remove(name),
        _ => settings.kept.insert(name.to_owned(), value.to_owned()),
    };
    Ok(())
}

fn wrong(name: &str, value: &str, reason: &str) -> Fault {
    let value: String = value.chars().take(80).collect();
    let what = format!("Invalid value for the parameter {name}: `{value}` {reason}.");
    Fault::new(Code::InvalidAttributeValue, what)
}

fn number(name: &str, value: &str, min: u64, max: u64) -> Result<u64, Fault> {
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| wrong(name, value, &format!("is not a number from {min} to {max}")))
}

fn boolean(name: &str, value: &str) -> Result<bool, Fault> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, value, "is neither true nor false")),
    }
}

fn scope(name: &str, value: &str, queue: &str, group: &str) -> Result<Scope, Fault> {
    match value {
        _ if value == queue => Ok(Scope::Queue),
        _ if value == group => Ok(Scope::MessageGroup),
        _ => Err(wrong(name, value, &format!("is neither {queue} nor {group}"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedrivePolicy {
    dead_letter_target_arn: String,
    max_receive_count: Value,
}

fn redrive(value: &str, caller: &Caller) -> Result<Option<Redrive>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    let refuse = |reason: &str| Fault::invalid("RedrivePolicy", value, reason);
    let policy: RedrivePolicy = serde_json::from_str(value).map_err(|_| {
        refuse("Redrive policy is not a JSON object with deadLetterTargetArn and maxReceiveCount.")
    })?;
    // Clients write the number as a number or as a text.
    let count = match &policy.max_receive_count {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let count = count.and_then(|count| u32::try_from(count).ok());
    let max_receives = count.filter(|count| (1..=MAX_RECEIVES_MAX).contains(count));
    Ok(Some(Redrive {
        target: caller
            .queue_of_arn(&policy.dead_letter_target_arn)
            .filter(|target| target.region == caller.region)
            .ok_or_else(|| {
                refuse("deadLetterTargetArn is not a queue of this region and account.")
            })?,
        max_receives: max_receives.ok_or_else(|| {
            refuse("Invalid value for maxReceiveCount, must be between 1 and 1000.")
        })?,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedriveAllowPolicy {
    redrive_permission: String,
    #[serde(default)]
    source_queue_arns: Vec<String>,
}

fn redrive_allow(value: &str, caller: &Caller) -> Result<RedriveAllow, Fault> {
    if value.is_empty() {
        return Ok(RedriveAllow::All);
    }
    let refuse = |reason: &str| Fault::invalid("RedriveAllowPolicy", value, reason);
    let policy: RedriveAllowPolicy = serde_json::from_str(value)
        .map_err(|_| refuse("Redrive allow policy is not a JSON object with redrivePermission."))?;
    let sources = &policy.source_queue_arns;
    match (&*policy.redrive_permission, sources.len()) {
        ("allowAll", 0) => Ok(RedriveAllow::All),
        ("denyAll", 0) => Ok(RedriveAllow::None),
        ("byQueue", 1..=REDRIVE_SOURCES_MAX) => {
            let sources = sources.iter().map(|arn| caller.queue_of_arn(arn));
            let sources: Option<Vec<QueueId>> = sources.collect();
            sources.map(RedriveAllow::Only).ok_or_else(|| refuse("sourceQueueArns holds no queue."))
        }
        _ => Err(refuse(
            "redrivePermission is allowAll or denyAll, or byQueue with 1 to 10 sourceQueueArns.",
        )),
    }
}

/// All attributes that have a value, by name.
pub(super) fn describe(
    queue: &QueueId,
    settings: &Settings,
    counts: &Counts,
    caller: &Caller,
) -> BTreeMap<&'static str, String> {
    let seconds = |ms: u64| (ms / 1_000).to_string();
    let mut all = BTreeMap::from([
        ("VisibilityTimeout", seconds(settings.visibility_timeout_ms)),
        ("DelaySeconds", seconds(settings.delay_ms)),
        ("MessageRetentionPeriod", seconds(settings.retention_ms)),
        ("ReceiveMessageWaitTimeSeconds", seconds(settings.wait_ms)),
        ("MaximumMessageSize", settings.message_bytes_max.to_string()),
        ("CreatedTimestamp", seconds(settings.created_at_ms)),
        ("LastModifiedTimestamp", seconds(settings.modified_at_ms)),
        ("QueueArn", caller.arn(queue)),
        ("ApproximateNumberOfMessages", counts.ready.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("SqsManagedSseEnabled", "true".to_owned()),
    ]);
    if let Some(redrive) = &settings.redrive {
        let policy = json!({
            "deadLetterTargetArn": caller.arn(&redrive.target),
            "maxReceiveCount": redrive.max_receives,
        });
        all.insert("RedrivePolicy", policy.to_string());
    }
    match &settings.redrive_allow {
        RedriveAllow::All => {}
        RedriveAllow::None => {
            let policy = json!({ "redrivePermission": "denyAll" });
            all.insert("RedriveAllowPolicy", policy.to_string());
        }
        RedriveAllow::Only(sources) => {
            let arns: Vec<_> = sources.iter().map(|source| caller.arn(source)).collect();
            let policy = json!({ "redrivePermission": "byQueue", "sourceQueueArns": arns });
            all.insert("RedriveAllowPolicy", policy.to_string());
        }
    }
    if let Some(fifo) = &settings.fifo {
        let either = |scope: Scope, queue: &str, group: &str| match scope {
            Scope::Queue => queue.to_owned(),
            Scope::MessageGroup => group.to_owned(),
        };
        all.insert("FifoQueue", "true".to_owned());
        all.insert("ContentBasedDeduplication", fifo.content_based_dedup.to_string());
        all.insert("DeduplicationScope", either(fifo.dedup_scope, "queue", "messageGroup"));
        let limit = either(fifo.throughput_limit, "perQueue", "perMessageGroupId");
        all.insert("FifoThroughputLimit", limit);
    }
    for name in KEPT {
        if let Some(value) = settings.kept.get(*name) {
            all.insert(name, value.clone());
        }
    }
    all
}
