//! Our types as arguments and answers of the scripts in `lua`.

use std::sync::Arc;

use ::redis::{FromRedisValue, ScriptInvocation, Value};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::limits;
use crate::message::{
    Delivery, Epoch, MessageId, NewMessage, Peeked, Phase, Position, QueueId, Receipt, Sent, Seq,
};
use crate::queue::Error;
use crate::settings::{Scope, Settings};

/// A queue's name among the keys.
pub(super) fn key(queue: &QueueId) -> String {
    format!("{}\n{}", queue.region, queue.name)
}

pub(super) fn queue_of(key: &str) -> Option<QueueId> {
    let (region, name) = key.split_once('\n')?;
    Some(QueueId::new(region, name))
}

/// One message of `send.lua`.
pub(super) fn entry(call: &mut ScriptInvocation<'_>, message: &NewMessage) {
    let content = &message.content;
    let lane = content.group.as_ref().map_or_else(|| ".".to_owned(), |group| format!(":{group}"));
    call.arg(message.id.to_string())
        .arg(lane)
        .arg(content.dedup_id.as_deref().unwrap_or_default())
        .arg(message.delay_ms.map_or_else(String::new, |ms| ms.to_string()))
        .arg(content.bytes())
        .arg(json(&**content));
}

/// What the scripts need of the settings, and all of them as JSON.
pub(super) fn settings_arguments(call: &mut ScriptInvocation<'_>, settings: &Settings) {
    let by_group = settings.fifo.as_ref().is_some_and(|it| it.dedup_scope == Scope::MessageGroup);
    let redrive = settings.redrive.as_ref();
    call.arg(settings.visibility_timeout_ms)
        .arg(settings.delay_ms)
        .arg(settings.retention_ms)
        .arg(u8::from(settings.fifo.is_some()))
        .arg(u8::from(by_group))
        .arg(redrive.map(|it| key(&it.target)).unwrap_or_default())
        .arg(redrive.map_or(0, |it| it.max_receives))
        .arg(json(settings));
}

pub(super) fn settings_from(text: &str) -> Result<Settings, Error> {
    from_json(text)
}

/// `{0, id, seq}`, or a refusal.
pub(super) fn sent(answer: Vec<Value>) -> Result<Result<Sent, Error>, Error> {
    let mut parts = answer.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let required = |field| Err(Error::invalid(field, "is required on a FIFO queue"));
    let full = |what, limit| Err(Error::Full { what, limit });
    Ok(match read::<i64>(next())? {
        0 => {
            let id = message_id(&read::<String>(next())?)?;
            Ok(Sent { id, seq: Seq(read(next())?) })
        }
        1 => full("the queue (messages)", limits::QUEUE_MESSAGES_MAX),
        2 => full("the queue (bytes)", limits::QUEUE_BYTES_MAX),
        3 => full("the deduplication window", limits::DEDUP_IDS_MAX),
        4 => required("MessageGroupId"),
        _ => required("MessageDeduplicationId"),
    })
}

pub(super) fn outcome(outcome: i64) -> Result<(), Error> {
    match outcome {
        0 => Ok(()),
        1 => Err(Error::ReceiptInvalid),
        2 => Err(Error::Stale),
        3 => Err(Error::Expired),
        4 => Err(Error::NotInFlight),
        _ => Err(Error::lease_too_long()),
    }
}

/// Queue number, seq, epoch, id, receives, sent at, first received at, source, content.
pub(super) type Found = (u64, u64, u32, String, u32, u64, u64, String, String);

pub(super) fn delivery(found: Found) -> Result<Delivery, Error> {
    let (queue_number, seq, epoch, id, receives, sent_at_ms, first_ms, source, content) = found;
    let (seq, epoch) = (Seq(seq), Epoch(epoch));
    Ok(Delivery {
        id: message_id(&id)?,
        seq,
        receipt: Receipt { queue_number, seq, epoch },
        content: Arc::new(from_json(&content)?),
        sent_at_ms,
        receives,
        first_received_at_ms: first_ms,
        dead_letter_source: queue_of(&source),
    })
}

/// Seq, id, sent at, receives, phase, until, since, source, content.
pub(super) type SeenMessage = (u64, String, u64, u32, u8, u64, u64, String, String);

pub(super) fn peeked(seen: SeenMessage) -> Result<Peeked, Error> {
    let (seq, id, sent_at_ms, receives, phase, until_ms, since_ms, source, content) = seen;
    let phase = match phase {
        0 => Phase::Ready,
        1 => Phase::Delayed { until_ms },
        _ => Phase::Leased { until_ms, since_ms },
    };
    Ok(Peeked {
        position: Position { sent_at_ms, seq: Seq(seq) },
        id: message_id(&id)?,
        content: Arc::new(from_json(&content)?),
        receives,
        phase,
        dead_letter_source: queue_of(&source),
    })
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Error> {
    T::from_redis_value(value).map_err(|error| unreadable(error.to_string()))
}

fn message_id(text: &str) -> Result<MessageId, Error> {
    Uuid::try_parse(text).map(MessageId).map_err(|error| unreadable(error.to_string()))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our own types have text keys only")
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))
}

fn unreadable(why: String) -> Error {
    Error::Unavailable {
        what: format!("Redis: an answer that cannot be read: {why}"),
        source: None,
    }
}
