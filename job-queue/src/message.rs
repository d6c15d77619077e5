//! The words: what a queue is called, what a message carries, and what proves that you hold it.
//!
//! A message has one identity and many leases. [`MessageId`] stays with it through dead-letter
//! queue and back; [`Seq`] says where it stands in one queue; a [`Receipt`] names one *lease*, so
//! that the proof of having received a message expires when somebody else receives it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A queue: its name, and the region that keeps queues of the same name apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueId {
    /// `us-east-1`
    pub region: Arc<str>,
    /// `thumbnails`, or `thumbnails.fifo`
    pub name: Arc<str>,
}

impl QueueId {
    /// The queue called `name` in `region`.
    pub fn new(region: &str, name: &str) -> Self {
        Self { region: region.into(), name: name.into() }
    }

    /// Whether the name says that order and deduplication are promised.
    pub fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.name)
    }
}

/// The identity of a message, given by the sender's side of the API and kept for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// A new one. Random, not secret: it names a message, it does not protect it.
    pub fn fresh() -> Self {
        Self(uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a message among all messages of a store: later sent, larger number, never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

/// How often a message was leased, ever. It only grows, also through dead-letter queue and
/// redrive, which makes it a *fencing token*: a store that remembers the highest epoch it saw for
/// a message can refuse a worker that was declared dead and does not know it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Epoch(pub u32);

/// The body and all that the sender said about it; never changes, so copies share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The payload.
    pub body: String,
    /// The sender's own attributes, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
    /// The X-Ray trace the message belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_header: Option<String>,
    /// FIFO: messages of one group are delivered in order. Standard: the tenant, for fairness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Arc<str>>,
    /// FIFO: two sends of one id within [`DEDUP_WINDOW_MS`](crate::limits::DEDUP_WINDOW_MS) are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_id: Option<String>,
    /// Who sent it.
    #[serde(default)]
    pub sender: Arc<str>,
}

impl Content {
    /// Only a body.
    pub fn text(body: impl Into<String>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// What the size limit counts: the body, and each attribute's name, type and value.
    pub fn bytes(&self) -> usize {
        let attributes = self.attributes.iter();
        let attributes =
            attributes.map(|(name, it)| name.len() + it.data_type.len() + it.value.bytes());
        self.body.len() + attributes.sum::<usize>()
    }
}

/// One attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// `String`, `Number`, `Binary`, or one of these with a label: `Number.int`.
    pub data_type: String,
    /// The value.
    pub value: AttributeValue,
}

/// Text (numbers too) or bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// `String` and `Number`.
    Text(String),
    /// `Binary`.
    Bytes(Vec<u8>),
}

impl AttributeValue {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Chosen by the caller, so that the core draws no random numbers.
    pub id: MessageId,
    /// What to deliver.
    pub content: Arc<Content>,
    /// How long to hide it first; `None` takes the queue's delay.
    pub delay_ms: Option<u64>,
}

impl NewMessage {
    /// A message under a fresh id, with the queue's own delay.
    pub fn new(content: Content) -> Self {
        Self { id: MessageId::fresh(), content: Arc::new(content), delay_ms: None }
    }
}

/// An accepted message. For a duplicate these are the numbers of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its identity.
    pub id: MessageId,
    /// Its place.
    pub seq: Seq,
}

/// A message in the hands of a consumer, until its visibility timeout.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its identity.
    pub id: MessageId,
    /// Its place in this queue.
    pub seq: Seq,
    /// The proof of this lease.
    pub receipt: Receipt,
    /// What was sent.
    pub content: Arc<Content>,
    /// When it was sent.
    pub sent_at_ms: u64,
    /// How often it was received in this queue, this time included.
    pub receives: u32,
    /// When it was received first.
    pub first_received_at_ms: u64,
    /// The queue it was given up in, if it is a dead letter.
    pub dead_letter_source: Option<QueueId>,
}

/// A place in the order of age, oldest first; the default is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// When the message there was sent.
    pub sent_at_ms: u64,
    /// The message there.
    pub seq: Seq,
}

/// A message as an observer sees it: nothing is leased by looking.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// Its place: where the next page begins.
    pub position: Position,
    /// Its identity.
    pub id: MessageId,
    /// What was sent.
    pub content: Arc<Content>,
    /// How often it was received.
    pub receives: u32,
    /// Ready, delayed or leased, and until when.
    pub phase: Phase,
    /// The queue it was given up in, if it is a dead letter.
    pub dead_letter_source: Option<QueueId>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Waiting for a consumer.
    Ready,
    /// Sent, and hidden until then.
    Delayed {
        /// When it becomes ready.
        until_ms: u64,
    },
    /// In a consumer's hands until then.
    Leased {
        /// When it becomes ready again, unless it is deleted or extended.
        until_ms: u64,
        /// When this lease began: no extension goes beyond 12 hours from here.
        since_ms: u64,
    },
}

/// The proof of one lease of one message: which queue (by its never reused number), which
/// message, which epoch. A receipt of an older epoch proves nothing.
///
/// As text it is opaque to clients: URL-safe base64 with a check byte, so that a mangled handle is
/// told apart from a stale one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The incarnation of the queue: a new queue of the same name has another number.
    pub queue_number: u64,
    /// The message.
    pub seq: Seq,
    /// The lease.
    pub epoch: Epoch,
}

const RECEIPT_VERSION: u8 = 1;
const RECEIPT_BYTES: usize = 22;

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; RECEIPT_BYTES];
        bytes[0] = RECEIPT_VERSION;
        bytes[1..9].copy_from_slice(&self.queue_number.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.seq.0.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[21] = check_byte(&bytes[..21]);
        let mut text = [0; RECEIPT_BYTES.div_ceil(3) * 4];
        let length = URL_SAFE_NO_PAD
            .encode_slice(bytes, &mut text)
            .expect("the buffer has four bytes for every three");
        f.write_str(std::str::from_utf8(&text[..length]).expect("base64 is ASCII"))
    }
}

impl FromStr for Receipt {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, crate::Error> {
        let mut bytes = [0; RECEIPT_BYTES + 2];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).unwrap_or(0);
        if length != RECEIPT_BYTES
            || bytes[0] != RECEIPT_VERSION
            || bytes[21] != check_byte(&bytes[..21])
        {
            return Err(crate::Error::ReceiptInvalid);
        }
        let number = |at: usize| {
            u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
        };
        let epoch = u32::from_be_bytes(bytes[17..21].try_into().expect("four bytes were sliced"));
        Ok(Self { queue_number: number(1), seq: Seq(number(9)), epoch: Epoch(epoch) })
    }
}

fn check_byte(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0x5a, |sum: u8, byte| sum.rotate_left(3) ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_survives_its_text_form_and_a_mangled_one_is_refused() {
        let receipt = Receipt { queue_number: 7, seq: Seq(u64::MAX - 1), epoch: Epoch(3) };
        let text = receipt.to_string();
        assert_eq!(text.parse::<Receipt>().unwrap(), receipt);
        for at in 0..text.len() {
            let mut mangled = text.clone().into_bytes();
            mangled[at] = if mangled[at] == b'A' { b'B' } else { b'A' };
            let mangled = String::from_utf8(mangled).unwrap();
            // The last character carries unused bits; base64 refuses those too.
            assert!(mangled.parse::<Receipt>().is_err(), "{mangled}");
        }
        for bad in ["", "x", &text[1..], &format!("{text}A"), "ä"] {
            assert!(bad.parse::<Receipt>().is_err(), "{bad}");
        }
    }
}
