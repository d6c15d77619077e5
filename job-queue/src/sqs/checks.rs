//! What is legal: names, characters, sizes, batches. Every refusal names the parameter.

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::errors::{Code, Fault};
use crate::limits::{
    ATTRIBUTE_NAME_MAX, BATCH_ENTRY_ID_MAX, BATCH_MAX, ID_MAX, MESSAGE_ATTRIBUTES_MAX,
    QUEUE_NAME_MAX, seconds,
};
use crate::message::{Attribute, AttributeValue};

/// A value of a message attribute as clients write it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WireAttribute {
    pub data_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<String>,
}

impl WireAttribute {
    pub(super) fn of(attribute: &Attribute) -> Self {
        let data_type = attribute.data_type.clone();
        match &attribute.value {
            AttributeValue::Text(text) => {
                Self { data_type, string_value: Some(text.clone()), binary_value: None }
            }
            AttributeValue::Bytes(bytes) => {
                Self { data_type, string_value: None, binary_value: Some(STANDARD.encode(bytes)) }
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

pub(super) fn queue_name(name: &str, is_fifo: bool) -> Result<(), Fault> {
    let stem = if is_fifo { name.strip_suffix(".fifo") } else { Some(name) };
    let legal = |stem: &str| !stem.is_empty() && stem.bytes().all(is_word);
    if name.len() <= QUEUE_NAME_MAX && stem.is_some_and(legal) {
        return Ok(());
    }
    let what = if is_fifo {
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or \
         underscores, must end with .fifo suffix and be 1 to 80 in length."
    } else {
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length."
    };
    Err(Fault::invalid("QueueName", name, what))
}

/// The characters XML 1.0 can carry, since the older protocol must be able to deliver the body.
pub(super) fn body(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::missing("MessageBody"));
    }
    if is_legal_xml(text) {
        return Ok(());
    }
    let what = "Invalid characters found. Valid unicode characters are \
                #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.";
    Err(Fault::new(Code::InvalidMessageContents, what))
}

fn is_legal_xml(text: &str) -> bool {
    let illegal = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    if text.bytes().any(illegal) {
        return false;
    }
    text.is_ascii() || !text.contains(['\u{fffe}', '\u{ffff}'])
}

/// Group, deduplication and attempt ids: printable ASCII without spaces, up to 128.
pub(super) fn id(parameter: &str, id: &str) -> Result<(), Fault> {
    let legal = id.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=ID_MAX).contains(&id.len()) && legal {
        return Ok(());
    }
    let reason = format!(
        "{parameter} can only include alphanumeric and punctuation characters. 1 to {ID_MAX} in length."
    );
    Err(Fault::invalid(parameter, id, &reason))
}

/// A number of seconds within its range, as milliseconds.
pub(super) fn duration(
    parameter: &str,
    given_s: Option<i64>,
    max_ms: u64,
) -> Result<Option<u64>, Fault> {
    let Some(given_s) = given_s else { return Ok(None) };
    match u64::try_from(given_s).ok().filter(|&given| given <= max_ms / 1_000) {
        Some(given) => Ok(Some(seconds(given))),
        None => {
            let reason = format!("Must be between 0 and {}, if provided.", max_ms / 1_000);
            Err(Fault::invalid(parameter, given_s, &reason))
        }
    }
}

pub(super) fn count(
    parameter: &str,
    given: Option<i64>,
    default: usize,
    max: usize,
) -> Result<usize, Fault> {
    let Some(given) = given else { return Ok(default) };
    match usize::try_from(given).ok().filter(|given| (1..=max).contains(given)) {
        Some(given) => Ok(given),
        None => {
            let reason = format!("Must be between 1 and {max}, if provided.");
            Err(Fault::invalid(parameter, given, &reason))
        }
    }
}

/// A batch has one to ten entries with distinct, legal ids.
pub(super) fn batch<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), Fault> {
    let count = ids.len();
    if count == 0 {
        let what = "There should be at least one entry in the request.";
        return Err(Fault::new(Code::EmptyBatchRequest, what));
    }
    if count > BATCH_MAX {
        let what = format!(
            "Maximum number of entries per request are {BATCH_MAX}. You have sent {count}."
        );
        return Err(Fault::new(Code::TooManyEntriesInBatchRequest, what));
    }
    let mut seen = HashSet::new();
    for id in ids {
        if id.is_empty() || id.len() > BATCH_ENTRY_ID_MAX || !id.bytes().all(is_word) {
            let what = "A batch entry id can only contain alphanumeric characters, hyphens and \
                        underscores. It can be at most 80 letters long.";
            return Err(Fault::new(Code::InvalidBatchEntryId, what));
        }
        if !seen.insert(id) {
            let what = format!("Id {id} repeated.");
            return Err(Fault::new(Code::BatchEntryIdsNotDistinct, what));
        }
    }
    Ok(())
}

/// The attributes of a message, read and judged.
pub(super) fn attributes(
    wire: BTreeMap<String, WireAttribute>,
) -> Result<BTreeMap<String, Attribute>, Fault> {
    if wire.len() > MESSAGE_ATTRIBUTES_MAX {
        let reason = format!("A message has at most {MESSAGE_ATTRIBUTES_MAX} attributes.");
        return Err(Fault::invalid("MessageAttributes", wire.len(), &reason));
    }
    wire.into_iter()
        .map(|(name, it)| {
            attribute_name(&name)?;
            let attribute = attribute(&name, it)?;
            Ok((name, attribute))
        })
        .collect()
}

fn attribute_name(name: &str) -> Result<(), Fault> {
    let lower = name.to_ascii_lowercase();
    let legal = (1..=ATTRIBUTE_NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| is_word(byte) || byte == b'.')
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !lower.starts_with("aws.")
        && !lower.starts_with("amazon.");
    if legal {
        return Ok(());
    }
    let reason = "The message attribute name can contain letters, digits, hyphens, underscores \
                  and single periods inside, up to 256, and must not begin with AWS. or Amazon.";
    Err(Fault::invalid("MessageAttributes", name, reason))
}

pub(super) fn attribute(name: &str, wire: WireAttribute) -> Result<Attribute, Fault> {
    let refuse = |reason: &str| {
        let message = format!("The message attribute '{name}' {reason}");
        Err(Fault::new(Code::InvalidParameterValue, message))
    };
    let data_type = wire.data_type;
    let base = data_type.split('.').next().unwrap_or_default();
    if data_type.len() > ATTRIBUTE_NAME_MAX || data_type.ends_with('.') {
        return refuse("has an invalid type.");
    }
    let value = match (base, wire.string_value, wire.binary_value) {
        ("String" | "Number" | "Binary", None, None) => {
            return refuse("must contain a non-empty message attribute value.");
        }
        ("String" | "Number", Some(text), None) => {
            if text.is_empty() || !is_legal_xml(&text) {
                return refuse("must contain a non-empty value of legal characters.");
            }
            if base == "Number" && !text.parse::<f64>().is_ok_and(f64::is_finite) {
                return refuse("has the type Number and a value that is no number.");
            }
            AttributeValue::Text(text)
        }
        ("Binary", None, Some(text)) => match STANDARD.decode(&text) {
            Ok(bytes) if !bytes.is_empty() => AttributeValue::Bytes(bytes),
            _ => return refuse("must contain a non-empty value in base64."),
        },
        ("String" | "Number" | "Binary", _, _) => {
            return refuse("has a value that does not go with its type.");
        }
        _ => {
            return refuse(
                "has an invalid type; the prefixes are String, Number and Binary, as in Number.int.",
            );
        }
    };
    Ok(Attribute { data_type, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_follow_the_rules() {
        for name in ["a", "A-b_9", &"q".repeat(80)] {
            queue_name(name, false).unwrap();
        }
        for name in ["", "a.b", "a b", "ä", &"q".repeat(81), "a.fifo"] {
            assert!(queue_name(name, false).is_err(), "{name}");
        }
        queue_name("a.fifo", true).unwrap();
        for name in ["a", ".fifo", &format!("{}.fifo", "q".repeat(76))] {
            assert!(queue_name(name, true).is_err(), "{name}");
        }
    }

    #[test]
    fn only_what_xml_can_carry_is_a_body() {
        for text in ["a", "\t\r\n", "ä€😀", "\u{fffd}"] {
            body(text).unwrap();
        }
        for text in ["\0", "a\u{1}", "\u{1f}", "\u{fffe}", "x\u{ffff}"] {
            assert_eq!(body(text).unwrap_err().code, Code::InvalidMessageContents, "{text:?}");
        }
    }

    #[test]
    fn attributes_are_judged_by_name_type_and_value() {
        let of = |name: &str, data_type: &str, text: &str| {
            let wire = WireAttribute {
                data_type: data_type.to_owned(),
                string_value: Some(text.to_owned()),
                binary_value: None,
            };
            attributes(BTreeMap::from([(name.to_owned(), wire)]))
        };
        of("a.b-c_1", "String.label", "x").unwrap();
        of("n", "Number", "-1.5e3").unwrap();
        for (name, data_type, text) in [
            ("", "String", "x"),
            (".a", "String", "x"),
            ("a..b", "String", "x"),
            ("AWS.x", "String", "x"),
            ("a", "Text", "x"),
            ("a", "String", ""),
            ("a", "Number", "one"),
            ("a", "Binary", "x"),
        ] {
            assert!(of(name, data_type, text).is_err(), "{name} {data_type} {text}");
        }
    }
}
