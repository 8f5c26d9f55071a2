//! Structured data (RFC 5424 §6.3).

use std::borrow::Cow;

use thalweg_event::{AttributeValue, Fault, Row, json};

/// Longest id of an element, in bytes (RFC 5424 §6.3.2): it becomes part of the key of each of its
/// parameters, so that a long one would grow.
const MAX_ID_BYTES: usize = 32;

/// One parameter; an element without any is one with an empty name.
pub(super) struct Param<'t> {
    element: &'t str,
    name: &'t str,
    value: Cow<'t, str>,
}

/// The parameters before a message, and the message, if there is one.
pub(super) fn split(text: &str) -> Result<(Vec<Param<'_>>, Option<&str>), Fault> {
    let mut params = Vec::new();
    let mut rest = text;
    if let Some(after) = text.strip_prefix('-') {
        rest = after;
    } else {
        while let Some(element) = rest.strip_prefix('[') {
            rest = read_element(element, &mut params)?;
        }
        if rest.len() == text.len() && !text.is_empty() {
            return Err(Fault::expected("structured data", "`-` or `[`", text));
        }
    }
    match rest.strip_prefix(' ') {
        Some(message) => Ok((params, Some(message))),
        None if rest.is_empty() => Ok((params, None)),
        None => Err(Fault::expected("structured data", "a space or `[` after it", rest)),
    }
}

/// Reads an element after its opening bracket; returns what comes after the closing one.
fn read_element<'t>(text: &'t str, params: &mut Vec<Param<'t>>) -> Result<&'t str, Fault> {
    let (element, mut rest) = split_name(text);
    if !(1..=MAX_ID_BYTES).contains(&element.len()) {
        let expected = format!("an element's id of 1 to {MAX_ID_BYTES} bytes");
        return Err(Fault::expected("structured data", &expected, text));
    }
    let first = params.len();
    loop {
        rest = rest.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix(']') {
            if params.len() == first {
                params.push(Param { element, name: "", value: Cow::Borrowed("") });
            }
            return Ok(after);
        }
        let (name, after) = split_name(rest);
        let value = after.strip_prefix("=\"").filter(|_| !name.is_empty());
        let value = value
            .ok_or_else(|| Fault::expected("structured data", "`name=\"value\"` or `]`", rest))?;
        let (value, after) = split_value(value)?;
        params.push(Param { element, name, value });
        rest = after;
    }
}

/// An `SD-NAME` and what follows it.
fn split_name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c <= ' ' || c == '\x7f' || matches!(c, '=' | ']' | '"'));
    text.split_at(end.unwrap_or(text.len()))
}

/// A value up to its closing quote, and what follows that. `]` need not be escaped here, though
/// senders have to.
fn split_value(text: &str) -> Result<(Cow<'_, str>, &str), Fault> {
    let unclosed = || Fault::expected("structured data", "a closing quote", text);
    let (mut value, mut start) = (String::new(), 0);
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text.as_bytes()[at..]).ok_or_else(unclosed)?;
        if text.as_bytes()[at] == b'"' {
            let last = &text[start..at];
            let rest = &text[at + 1..];
            return Ok(match value.is_empty() && start == 0 {
                true => (Cow::Borrowed(last), rest),
                false => (Cow::Owned(value + last), rest),
            });
        }
        match text.as_bytes().get(at + 1).ok_or_else(unclosed)? {
            b'"' | b'\\' | b']' => {
                value.push_str(&text[start..at]);
                start = at + 1;
                at += 2;
            }
            // Any other backslash is one of the value.
            _ => at += 1,
        }
    }
}

/// Writes the parameters as attributes `element.name`; several of one name, which RFC 5424 §6.3.3
/// allows, as an array; an element without parameters as an empty object.
pub(super) fn write(mut params: Vec<Param<'_>>, row: &mut Row<'_, '_>) {
    // Stable, so that values of one name keep their order.
    params.sort_by_key(|param| (param.element, param.name));
    let mut key = String::new();
    for same in params.chunk_by(|a, b| (a.element, a.name) == (b.element, b.name)) {
        let [Param { element, name, value }, others @ ..] = same else { continue };
        if name.is_empty() {
            row.attribute(element, AttributeValue::Json("{}"));
            continue;
        }
        key.clear();
        key.extend([element, ".", name]);
        if others.is_empty() {
            row.attribute(&key, AttributeValue::Text(value));
            continue;
        }
        let mut array = vec![b'['];
        for param in same {
            if array.len() > 1 {
                array.push(b',');
            }
            json::write_string(&mut array, &param.value);
        }
        array.push(b']');
        let array = String::from_utf8(array).expect("JSON is written from text");
        row.attribute(&key, AttributeValue::Json(&array));
    }
}
