//! Values of attributes and bodies.

use std::borrow::Cow;

use thalweg_event::{AttributeValue, Fault, Row, json};

/// Deepest nesting of a value. OTLP's JSON takes four levels for each of these and seven around
/// them, so that a value that is too deep still is within [`json::MAX_DEPTH`] and costs its own
/// record only.
pub(super) const MAX_NESTING: usize = 12;

/// An OTLP `AnyValue`.
#[derive(Debug)]
pub(super) enum Any<'a> {
    /// No value.
    Null,
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// An array or a list of keys and values, as JSON.
    Json(String),
}

impl Any<'_> {
    pub(super) fn as_attribute(&self) -> AttributeValue<'_> {
        match self {
            Self::Null => AttributeValue::Json("null"),
            Self::Text(text) => AttributeValue::Text(text),
            Self::Bool(value) => AttributeValue::Bool(*value),
            Self::Int(number) => AttributeValue::Int(*number),
            Self::Double(number) => AttributeValue::Double(*number),
            Self::Json(json) => AttributeValue::Json(json),
        }
    }

    /// Writes the body of a record.
    pub(super) fn write_message(&self, row: &mut Row<'_, '_>) {
        match self {
            Self::Null => {}
            Self::Text(text) => row.message(text),
            other => row.message(&other.to_json()),
        }
    }

    /// The value if it is an array or a list of keys and values.
    pub(super) fn as_json(&self) -> Option<&str> {
        match self {
            Self::Json(json) => Some(json),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.as_attribute().write(&mut out);
        into_json(out)
    }
}

/// An array or object of values under construction.
pub(super) struct Nested {
    out: Vec<u8>,
    end: u8,
}

impl Nested {
    pub(super) fn array() -> Self {
        Self { out: vec![b'['], end: b']' }
    }

    pub(super) fn object() -> Self {
        Self { out: vec![b'{'], end: b'}' }
    }

    pub(super) fn element(&mut self, value: &Any<'_>) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        value.as_attribute().write(&mut self.out);
    }

    pub(super) fn member(&mut self, key: &str, value: &Any<'_>) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        json::write_string(&mut self.out, key);
        self.out.push(b':');
        value.as_attribute().write(&mut self.out);
    }

    pub(super) fn finish(mut self) -> Any<'static> {
        self.out.push(self.end);
        Any::Json(into_json(self.out))
    }
}

fn into_json(out: Vec<u8>) -> String {
    String::from_utf8(out).expect("JSON is written from text")
}

/// One level of nesting less.
pub(super) fn deeper(depth: usize) -> Result<usize, Fault> {
    depth.checked_sub(1).ok_or_else(|| {
        Fault(format!("value: expected at most {MAX_NESTING} levels of nesting, found more"))
    })
}
