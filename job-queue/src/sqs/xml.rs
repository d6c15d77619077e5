//! The query protocol's answers: the JSON result as XML, by the names the service gave its lists.

use axum::http::HeaderValue;
use serde_json::{Map, Value};

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// `<SendMessageResponse><SendMessageResult>..</SendMessageResult>..</SendMessageResponse>`
pub(super) fn result(action: &str, value: &Value, request_id: &HeaderValue) -> String {
    let mut xml = String::with_capacity(512);
    xml.push_str("<?xml version=\"1.0\"?>");
    xml.push_str(&format!("<{action}Response xmlns=\"{NAMESPACE}\">"));
    if let Value::Object(fields) = value
        && !fields.is_empty()
    {
        xml.push_str(&format!("<{action}Result>"));
        write_fields(&mut xml, action, fields);
        xml.push_str(&format!("</{action}Result>"));
    }
    let id = request_id.to_str().unwrap_or_default();
    xml.push_str(&format!(
        "<ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
    ));
    xml
}

pub(super) fn error(side: &str, code: &str, message: &str, request_id: &HeaderValue) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{NAMESPACE}\"><Error>\
         <Type>{side}</Type><Code>{code}</Code><Message>"
    );
    escape(&mut xml, message);
    let id = request_id.to_str().unwrap_or_default();
    xml.push_str(&format!(
        "</Message><Detail/></Error><RequestId>{id}</RequestId></ErrorResponse>"
    ));
    xml
}

/// The element of a list's items.
fn item_name(action: &str, list: &str) -> String {
    match list {
        "Messages" => "Message".to_owned(),
        "QueueUrls" | "queueUrls" => "QueueUrl".to_owned(),
        "Successful" | "Results" => format!("{action}ResultEntry"),
        "Failed" => "BatchResultErrorEntry".to_owned(),
        _ => "member".to_owned(),
    }
}

/// The element of a map's entries, and of their key.
fn entry_name(map: &str) -> Option<(&'static str, &'static str)> {
    match map {
        "Attributes" => Some(("Attribute", "Name")),
        "MessageAttributes" => Some(("MessageAttribute", "Name")),
        "Tags" => Some(("Tag", "Key")),
        _ => None,
    }
}

fn write_fields(xml: &mut String, action: &str, fields: &Map<String, Value>) {
    for (name, value) in fields {
        match (value, entry_name(name)) {
            (Value::Array(items), _) => {
                let item_name = item_name(action, name);
                items.iter().for_each(|item| write_element(xml, action, &item_name, item));
            }
            (Value::Object(entries), Some((entry, key_name))) => {
                for (key, value) in entries {
                    xml.push_str(&format!("<{entry}>"));
                    write_element(xml, action, key_name, &Value::String(key.clone()));
                    write_element(xml, action, "Value", value);
                    xml.push_str(&format!("</{entry}>"));
                }
            }
            (value, _) => write_element(xml, action, name, value),
        }
    }
}

fn write_element(xml: &mut String, action: &str, name: &str, value: &Value) {
    xml.push_str(&format!("<{name}>"));
    match value {
        Value::Object(fields) => write_fields(xml, action, fields),
        Value::String(text) => escape(xml, text),
        Value::Null => {}
        other => xml.push_str(&other.to_string()),
    }
    xml.push_str(&format!("</{name}>"));
}

/// `\r` is escaped too: an XML reader would turn it into `\n`, and the body's MD5 would not match.
fn escape(xml: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '&' => xml.push_str("&amp;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#xD;"),
            // What XML cannot carry. Bodies are checked; an error message may quote anything.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                xml.push('\u{fffd}');
            }
            other => xml.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_maps_carry_the_names_of_the_service() {
        let value = json!({"Messages": [{"Body": "a<b\r", "Attributes": {"SenderId": "me"},
            "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "1"}}}]});
        let xml = result("ReceiveMessage", &value, &HeaderValue::from_static("id"));
        assert!(
            xml.contains("<ReceiveMessageResult><Message><Attributes><Attribute><Name>SenderId")
                || xml.contains(
                    "<Message><Attribute><Name>SenderId</Name><Value>me</Value></Attribute>"
                )
        );
        assert!(xml.contains("<Body>a&lt;b&#xD;</Body>"), "{xml}");
        assert!(
            xml.contains(
                "<MessageAttribute><Name>n</Name><Value><DataType>Number</DataType>\
             <StringValue>1</StringValue></Value></MessageAttribute>"
            ),
            "{xml}"
        );
    }

    #[test]
    fn an_operation_without_result_has_only_metadata() {
        let xml = result("DeleteQueue", &json!({}), &HeaderValue::from_static("id"));
        assert!(!xml.contains("Result") && xml.ends_with("</DeleteQueueResponse>"), "{xml}");
    }
}
