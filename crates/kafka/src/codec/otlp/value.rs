//! JSON values as OTLP's values and back.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any,
};
use thalweg_event::json::{self, Cursor, Malformed, Value};

/// Deepest nesting that is written as such: readers of protobuf stop somewhere, too.
const MAX_NESTING: usize = 12;

/// An attribute.
pub(super) fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}

/// The members of a JSON object as attributes, and whether [`to_json`] makes the same text of
/// them. What is no object is no attributes.
pub(super) fn attributes(object: &str) -> (Vec<KeyValue>, bool) {
    let members = members(object, MAX_NESTING).unwrap_or_default();
    let mut text = Vec::with_capacity(object.len());
    write_object(&mut text, &members);
    let is_exact = text == object.as_bytes();
    (members, is_exact)
}

/// A JSON object of attributes.
pub(super) fn to_json(attributes: &[KeyValue]) -> String {
    let mut text = Vec::new();
    write_object(&mut text, attributes);
    String::from_utf8(text).expect("JSON is written from text")
}

fn members(object: &str, depth: usize) -> Result<Vec<KeyValue>, Malformed> {
    let mut cursor = Cursor::new(object);
    let (mut members, mut name) = (vec![], cursor.open_object()?);
    while let Some(key) = name {
        let value = AnyValue { value: any(cursor.value()?, depth) };
        members.push(KeyValue { key: key.into(), value: Some(value), ..Default::default() });
        name = cursor.next_member()?;
    }
    cursor.end()?;
    Ok(members)
}

fn elements(array: &str, depth: usize) -> Result<Vec<AnyValue>, Malformed> {
    let mut cursor = Cursor::new(array);
    let (mut values, mut goes_on) = (vec![], cursor.open_array()?);
    while goes_on {
        values.push(AnyValue { value: any(cursor.value()?, depth) });
        goes_on = cursor.next_element()?;
    }
    cursor.end()?;
    Ok(values)
}

/// The value, or its JSON text where OTLP has no such value.
fn any(value: Value<'_>, depth: usize) -> Option<Any> {
    let raw = value.raw();
    let as_text = || Any::StringValue(raw.to_owned());
    Some(match raw.as_bytes().first()? {
        b'n' => return None,
        b't' => Any::BoolValue(true),
        b'f' => Any::BoolValue(false),
        b'"' => Any::StringValue(value.text()?.into_owned()),
        b'{' if depth > 0 => members(raw, depth - 1)
            .map_or_else(|_| as_text(), |values| Any::KvlistValue(KeyValueList { values })),
        b'[' if depth > 0 => elements(raw, depth - 1)
            .map_or_else(|_| as_text(), |values| Any::ArrayValue(ArrayValue { values })),
        b'{' | b'[' => as_text(),
        _ => match (raw.parse(), value.number()) {
            (Ok(number), _) => Any::IntValue(number),
            (Err(_), Some(number)) => Any::DoubleValue(number),
            (Err(_), None) => as_text(),
        },
    })
}

fn write_object(out: &mut Vec<u8>, members: &[KeyValue]) {
    out.push(b'{');
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(out, &member.key);
        out.push(b':');
        write(out, member.value.as_ref());
    }
    out.push(b'}');
}

fn write(out: &mut Vec<u8>, value: Option<&AnyValue>) {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => json::write_string(out, text),
        Some(Any::BoolValue(true)) => out.extend_from_slice(b"true"),
        Some(Any::BoolValue(false)) => out.extend_from_slice(b"false"),
        Some(Any::IntValue(number)) => json::write_i64(out, *number),
        Some(Any::DoubleValue(number)) => json::write_f64(out, *number),
        Some(Any::ArrayValue(array)) => {
            out.push(b'[');
            for (index, element) in array.values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(out, Some(element));
            }
            out.push(b']');
        }
        Some(Any::KvlistValue(list)) => write_object(out, &list.values),
        // Never written here.
        Some(Any::BytesValue(_) | Any::StringValueStrindex(_)) | None => {
            out.extend_from_slice(b"null");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types() {
        let object = r#"{"a":1,"b":1.5,"c":"x","d":true,"e":[1,"y",null],"f":{"g":false}}"#;
        let (attributes, is_exact) = attributes(object);
        assert!(is_exact);
        assert_eq!(to_json(&attributes), object);
        let int = attributes[0].value.as_ref().and_then(|value| value.value.as_ref());
        assert_eq!(int, Some(&Any::IntValue(1)));
    }

    #[test]
    fn text_that_would_come_back_differently_is_told() {
        for object in [
            r#"{"a": 1}"#,
            r#"{"a":1e3}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":"\u0041"}"#,
            "[]",
        ] {
            assert!(!attributes(object).1, "{object}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(30), "]".repeat(30));
        let (attributes, is_exact) = attributes(&deep);
        assert!(!is_exact && attributes.len() == 1);
    }
}
