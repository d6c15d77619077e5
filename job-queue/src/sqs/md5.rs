//! The digests that clients compare with their own: a message that arrives mangled is noticed.
//!
//! Attributes are digested in order of their names: length and bytes of name, length and bytes of
//! type, one byte for the kind (1 text, 2 bytes), length and bytes of the value.

use std::collections::BTreeMap;

use md5::{Digest, Md5};

use crate::message::{Attribute, AttributeValue};

const KIND_TEXT: u8 = 1;
const KIND_BYTES: u8 = 2;

/// The MD5 of a body, in hexadecimal.
pub fn md5_of_text(text: &str) -> String {
    hexadecimal(Md5::digest(text))
}

/// The MD5 of attributes, in hexadecimal; `None` without any.
pub fn md5_of_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a String, &'a Attribute)>,
) -> Option<String> {
    let sorted: BTreeMap<_, _> = attributes.into_iter().collect();
    if sorted.is_empty() {
        return None;
    }
    let mut digest = Md5::new();
    for (name, attribute) in sorted {
        add(&mut digest, name.as_bytes());
        add(&mut digest, attribute.data_type.as_bytes());
        let (kind, value) = match &attribute.value {
            AttributeValue::Text(text) => (KIND_TEXT, text.as_bytes()),
            AttributeValue::Bytes(bytes) => (KIND_BYTES, &bytes[..]),
        };
        digest.update([kind]);
        add(&mut digest, value);
    }
    Some(hexadecimal(digest.finalize()))
}

fn add(digest: &mut Md5, bytes: &[u8]) {
    digest.update((bytes.len() as u32).to_be_bytes());
    digest.update(bytes);
}

/// Twice for every message: the formatting machinery, a byte at a time, took longer than the digest.
fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.as_ref().len());
    for &byte in bytes.as_ref() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_clients_compute() {
        assert_eq!(md5_of_text("This is a test message"), "fafb00f5732ab283681e124bf8747ed1");
        assert_eq!(md5_of_attributes([]), None);
        // Recomputed outside of this program, over the documented order of bytes.
        let attribute = Attribute {
            data_type: "Number".to_owned(),
            value: AttributeValue::Text("1493147359900".to_owned()),
        };
        let name = "timestamp".to_owned();
        assert_eq!(
            md5_of_attributes([(&name, &attribute)]).unwrap(),
            "235c5c510d26fb653d073faed50ae77c"
        );
    }
}
