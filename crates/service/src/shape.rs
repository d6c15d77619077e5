//! Whether a type is read from a JSON object.
//!
//! Trap: serde reads a struct from an array as well, field by field in the order of the source. So
//! `["https://example.com/"]` would create a link and `[]` would be a change of nothing, and a
//! client that counts on it breaks when a field is added. No annotation turns that off.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Whether `T` asks for a struct or a map first. Costs nothing: it is asked what it wants, and
/// given nothing.
pub(crate) fn is_object<'de, T: Deserialize<'de>>() -> bool {
    matches!(T::deserialize(Probe), Err(Wants::Object))
}

/// Has no value; answers with what was asked for.
struct Probe;

#[derive(Debug)]
enum Wants {
    Object,
    SomethingElse,
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Wants {}

impl Error for Wants {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::SomethingElse
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Wants;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Wants> {
        Err(Wants::SomethingElse)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Wants> {
        Err(Wants::Object)
    }

    fn deserialize_map<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Wants> {
        Err(Wants::Object)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is asked for")]
    struct Named {
        field: u32,
    }

    #[test]
    fn structs_are_objects_and_lists_are_not() {
        assert!(is_object::<Named>() && is_object::<Box<Named>>());
        assert!(!is_object::<Vec<Named>>() && !is_object::<u32>());
        assert!(!is_object::<serde_json::Value>(), "anything goes");
    }
}
