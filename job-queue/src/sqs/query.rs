//! The query protocol's requests: a flat form that spells out lists and maps.
//!
//! ```text
//! Action=SendMessageBatch
//! &SendMessageBatchRequestEntry.1.Id=a
//! &SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=size
//! &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Number
//! ```
//!
//! It becomes the JSON value that a JSON client would have sent, by a table of what each name
//! means, and is then read by the same types.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::errors::{Code, Fault};

/// Pairs in one form. Ten entries with ten attributes of four pairs are below 500; above the
/// bound a request is refused before it costs more.
const PAIRS_MAX: usize = 2_000;
/// Dots in a name: the deepest legal one has six.
const DEPTH_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Form {
    action: Option<String>,
    pairs: Vec<(String, String)>,
}

/// What a name before `.1` stands for.
enum Kind {
    /// A list of texts.
    Texts,
    /// A list of structures.
    Structures,
    /// A map, with these names for key and value.
    Entries(&'static str, &'static str),
}

/// The form's name of a list or map, the JSON name, and what it is.
const LISTS: &[(&str, &str, Kind)] = &[
    ("Attribute", "Attributes", Kind::Entries("Name", "Value")),
    ("Tag", "Tags", Kind::Entries("Key", "Value")),
    ("MessageAttribute", "MessageAttributes", Kind::Entries("Name", "Value")),
    ("MessageSystemAttribute", "MessageSystemAttributes", Kind::Entries("Name", "Value")),
    ("AttributeName", "AttributeNames", Kind::Texts),
    ("MessageAttributeName", "MessageAttributeNames", Kind::Texts),
    ("MessageSystemAttributeName", "MessageSystemAttributeNames", Kind::Texts),
    ("TagKey", "TagKeys", Kind::Texts),
    ("AWSAccountId", "AWSAccountIds", Kind::Texts),
    ("ActionName", "Actions", Kind::Texts),
    ("SendMessageBatchRequestEntry", "Entries", Kind::Structures),
    ("DeleteMessageBatchRequestEntry", "Entries", Kind::Structures),
    ("ChangeMessageVisibilityBatchRequestEntry", "Entries", Kind::Structures),
];

const NUMBERS: &[&str] = &[
    "DelaySeconds",
    "VisibilityTimeout",
    "WaitTimeSeconds",
    "MaxNumberOfMessages",
    "MaxResults",
    "MaxNumberOfMessagesPerSecond",
];

/// The form as a tree, numbers in order: a leaf, or branches by the parts of the name.
enum Node {
    Leaf(String),
    Branch(BTreeMap<Part, Node>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u32),
    Name(String),
}

impl Form {
    pub(super) fn of(query: &[u8], body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(query).chain(form_urlencoded::parse(body));
        let pairs = pairs.take(PAIRS_MAX + 1).map(|(name, value)| (name.into(), value.into()));
        let mut form = Self { action: None, pairs: pairs.collect() };
        form.action = form.pairs.iter().find(|(name, _)| name == "Action").map(|it| it.1.clone());
        form
    }

    pub(super) fn action(&self) -> Option<&str> {
        self.action.as_deref()
    }

    pub(super) fn into_value(self) -> Result<Value, Fault> {
        if self.pairs.len() > PAIRS_MAX {
            return Err(malformed(&format!("the form has more than {PAIRS_MAX} parameters")));
        }
        let mut root = BTreeMap::new();
        for (name, value) in self.pairs {
            let parts: Vec<&str> = name.split('.').collect();
            if parts.len() > DEPTH_MAX || parts.contains(&"") {
                return Err(malformed(&format!("`{name}` is not the name of a parameter")));
            }
            insert(&mut root, &parts, value)
                .ok_or_else(|| malformed(&format!("`{name}` contradicts another parameter")))?;
        }
        structure(root)
    }
}

fn malformed(what: &str) -> Fault {
    Fault::new(Code::InvalidParameterValue, format!("The request is malformed: {what}."))
}

fn insert(branch: &mut BTreeMap<Part, Node>, parts: &[&str], value: String) -> Option<()> {
    let (first, rest) = parts.split_first()?;
    let part = first.parse().map_or_else(|_| Part::Name((*first).to_owned()), Part::Number);
    if rest.is_empty() {
        // The first of two equal names counts.
        branch.entry(part).or_insert(Node::Leaf(value));
        return Some(());
    }
    match branch.entry(part).or_insert_with(|| Node::Branch(BTreeMap::new())) {
        Node::Branch(inner) => insert(inner, rest, value),
        Node::Leaf(_) => None,
    }
}

fn structure(branch: BTreeMap<Part, Node>) -> Result<Value, Fault> {
    let mut object = Map::new();
    for (part, node) in branch {
        let Part::Name(name) = part else {
            return Err(malformed("a number stands where a name belongs"));
        };
        let list = LISTS.iter().find(|(form_name, _, _)| *form_name == name);
        match (node, list) {
            (Node::Branch(items), Some((_, json_name, kind))) => {
                object.insert((*json_name).to_owned(), list_of(items, kind)?);
            }
            (Node::Branch(inner), None) => {
                object.insert(name, structure(inner)?);
            }
            (Node::Leaf(text), _) => {
                let value = leaf(&name, text)?;
                object.insert(name, value);
            }
        }
    }
    Ok(Value::Object(object))
}

fn leaf(name: &str, text: String) -> Result<Value, Fault> {
    if !NUMBERS.contains(&name) {
        return Ok(Value::String(text));
    }
    let number: Result<i64, _> = text.parse();
    number.map(Value::from).map_err(|_| Fault::invalid(name, &text, "Must be an integer."))
}

fn list_of(items: BTreeMap<Part, Node>, kind: &Kind) -> Result<Value, Fault> {
    let items = items.into_iter().map(|(part, node)| match part {
        Part::Number(_) => Ok(node),
        Part::Name(name) => Err(malformed(&format!("`{name}` stands where a number belongs"))),
    });
    match kind {
        Kind::Texts => items.map(|item| text_of(item?)).collect::<Result<_, _>>().map(Value::Array),
        Kind::Structures => {
            items.map(|item| structure_of(item?)).collect::<Result<_, _>>().map(Value::Array)
        }
        Kind::Entries(key, value) => {
            let mut map = Map::new();
            for item in items {
                let Value::Object(mut entry) = structure_of(item?)? else { continue };
                let Some(Value::String(key)) = entry.remove(*key) else {
                    return Err(Fault::missing(key));
                };
                map.insert(key, entry.remove(*value).unwrap_or_default());
            }
            Ok(Value::Object(map))
        }
    }
}

fn text_of(node: Node) -> Result<Value, Fault> {
    match node {
        Node::Leaf(text) => Ok(Value::String(text)),
        Node::Branch(_) => Err(malformed("a list holds a structure where a text belongs")),
    }
}

fn structure_of(node: Node) -> Result<Value, Fault> {
    match node {
        Node::Branch(inner) => structure(inner),
        Node::Leaf(_) => Err(malformed("a list holds a text where a structure belongs")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_with_attributes_becomes_what_a_json_client_sends() {
        let form = "Action=SendMessageBatch&SendMessageBatchRequestEntry.2.Id=b\
            &SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.DelaySeconds=5\
            &SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n\
            &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Number";
        let form = Form::of(b"", form.as_bytes());
        assert_eq!(form.action(), Some("SendMessageBatch"));
        assert_eq!(
            form.into_value().unwrap(),
            json!({"Action": "SendMessageBatch", "Entries": [
                {"Id": "a", "DelaySeconds": 5, "MessageAttributes": {"n": {"DataType": "Number"}}},
                {"Id": "b"}
            ]})
        );
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for form in ["A=1&A.B=2", "DelaySeconds=x", "AttributeName.x=1", "Tag.1.Value=2", "a..b=1"]
        {
            assert!(Form::of(form.as_bytes(), b"").into_value().is_err(), "{form}");
        }
        let many = "a=1&".repeat(PAIRS_MAX + 1);
        assert!(Form::of(many.as_bytes(), b"").into_value().is_err());
    }

    proptest! {
        #[test]
        fn no_form_makes_it_panic(
            form in "[A-Za-z0-9.=&%]{0,200}", which in prop::collection::vec(0..LISTS.len(), 0..4)) {
            let typical = which.iter().map(|&list| {
                let name = LISTS[list].0;
                format!("&{name}.1.Name=x&{name}.1=y&{name}.2.Id=z")
            });
            let form = form + &typical.collect::<String>();
            let _ = Form::of(form.as_bytes(), b"").into_value();
        }
    }
}
