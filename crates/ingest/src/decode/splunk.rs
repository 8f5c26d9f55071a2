//! Bodies of Splunk's HTTP Event Collector.
//!
//! An event's `event` is the message if it is text, and a document otherwise; `fields` are
//! attributes; `source`, `sourcetype` and `index` are attributes `com.splunk.*`, as OpenTelemetry
//! calls them. The service is what the event or its fields say, or else the `sourcetype`: unlike
//! the `source`, it has few values.

use std::borrow::Cow;

use thalweg_event::{
    AttributeValue, Fault, Row,
    json::{Cursor, Malformed, Value},
    time,
};

use super::{
    Sink, Unreadable, document::Document, lines, name_service, place::Place, text::leading_severity,
};

/// Fault of a record without an `event`.
pub(crate) const EVENT_REQUIRED: &str = "event: required, but missing";
/// Fault of a record whose `event` is empty.
pub(crate) const EVENT_BLANK: &str = "event: expected a text that is not empty, found an empty one";
/// Fault of a record whose `fields` cannot be read.
pub(crate) const FIELDS_UNREADABLE: &str = "fields: expected an object of names and values";

/// Reads JSON objects, one after the other with or without space between them, or in arrays.
/// Where the body is no JSON any more, the rest of it is one bad record.
pub(super) fn decode_events(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let (text, broken) = match std::str::from_utf8(body) {
        Ok(text) => (text, None),
        Err(error) => {
            let text = std::str::from_utf8(&body[..error.valid_up_to()]);
            (text.unwrap_or_default(), lines::utf8(body).err())
        }
    };
    let defaults = Metadata::of_params(sink);
    let mut document = Document::default();
    let mut events = Values { cursor: Cursor::new(text), is_in_array: false };
    let mut read_until = 0;
    let fault = loop {
        match events.next() {
            Ok(Some(event)) => {
                sink.share(defaults.bytes())?;
                sink.record(event.raw().as_bytes(), |row| {
                    read_event(event, &defaults, &mut document, row)
                });
                read_until = events.cursor.position();
            }
            Ok(None) => break broken,
            Err(malformed) => break broken.or(Some(Fault(format!("body: {malformed}")))),
        }
    };
    if let Some(fault) = fault {
        sink.record(&body[read_until..], |_| Err(fault));
    }
    Ok(())
}

/// The values of a body, on their own or in arrays.
struct Values<'t> {
    cursor: Cursor<'t>,
    /// Whether the last one was an element of an array.
    is_in_array: bool,
}

impl<'t> Values<'t> {
    fn next(&mut self) -> Result<Option<Value<'t>>, Malformed> {
        if self.is_in_array {
            self.is_in_array = self.cursor.next_element()?;
        }
        while !self.is_in_array && self.cursor.peek() == b'[' {
            self.is_in_array = self.cursor.open_array()?;
        }
        if !self.is_in_array && self.cursor.clone().end().is_ok() {
            return Ok(None);
        }
        self.cursor.value().map(Some)
    }
}

/// Reads lines of text, each the message of an event.
pub(super) fn decode_raw(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let defaults = Metadata::of_params(sink);
    let lines = memchr::memchr_iter(b'\n', body).count() + 1;
    sink.share(defaults.bytes().saturating_mul(lines))?;
    lines::decode(body, sink, |line, row| {
        row.message(line);
        if let Some(severity) = leading_severity(line) {
            row.severity(severity);
        }
        if let Some(host) = defaults.host {
            row.host(host);
        }
        defaults.write(row);
        Ok(())
    });
    Ok(())
}

/// Where an event comes from, in Splunk's terms.
#[derive(Default, Clone, Copy)]
struct Metadata<'m> {
    host: Option<&'m str>,
    source: Option<&'m str>,
    sourcetype: Option<&'m str>,
    index: Option<&'m str>,
}

impl<'m> Metadata<'m> {
    fn of_params(sink: &Sink<'m>) -> Self {
        Self {
            host: sink.param("host"),
            source: sink.param("source"),
            sourcetype: sink.param("sourcetype"),
            index: sink.param("index"),
        }
    }

    fn bytes(&self) -> usize {
        let parts = [self.host, self.source, self.sourcetype, self.index];
        parts.into_iter().flatten().map(str::len).sum()
    }

    /// Writes everything but the host.
    fn write(&self, row: &mut Row<'_, '_>) {
        for (key, value) in [
            ("com.splunk.source", self.source),
            ("com.splunk.sourcetype", self.sourcetype),
            ("com.splunk.index", self.index),
        ] {
            if let Some(value) = value {
                row.plain_attribute(key, AttributeValue::Text(value));
            }
        }
        name_service(row, self.sourcetype);
    }
}

/// The members of an event that are read once all have been seen.
#[derive(Default)]
struct Parts<'t> {
    time: Option<Value<'t>>,
    event: Option<Value<'t>>,
    fields: Option<Value<'t>>,
    host: Option<Value<'t>>,
    source: Option<Value<'t>>,
    sourcetype: Option<Value<'t>>,
    index: Option<Value<'t>>,
}

fn read_event<'t>(
    record: Value<'t>,
    defaults: &Metadata<'_>,
    document: &mut Document<'t>,
    row: &mut Row<'_, '_>,
) -> Result<(), Fault> {
    document.begin();
    let mut parts = Parts::default();
    let mut cursor = Cursor::new(record.raw());
    let mut member = cursor.open_object()?;
    while let Some(name) = member {
        let value = cursor.value()?;
        let slot = match &*name {
            "time" => Some(&mut parts.time),
            "event" => Some(&mut parts.event),
            "fields" => Some(&mut parts.fields),
            "host" => Some(&mut parts.host),
            "source" => Some(&mut parts.source),
            "sourcetype" => Some(&mut parts.sourcetype),
            "index" => Some(&mut parts.index),
            _ => None,
        };
        match slot {
            Some(slot) => *slot = Some(value).filter(|value| !value.is_null()),
            None => row.plain_attribute(&name, AttributeValue::Json(value.raw())),
        }
        member = cursor.next_member()?;
    }

    if let Some(time) = parts.time {
        row.time_unix_nano(read_time(time)?);
        document.taken.take(Place::Time);
    }
    let host = read_text("host", parts.host)?;
    if let Some(host) = host.as_deref().or(defaults.host) {
        document.taken.write_text(Place::Host, host, row);
    }
    let source = read_text("source", parts.source)?;
    let sourcetype = read_text("sourcetype", parts.sourcetype)?;
    let index = read_text("index", parts.index)?;
    let metadata = Metadata {
        host: None,
        source: source.as_deref().or(defaults.source),
        sourcetype: sourcetype.as_deref().or(defaults.sourcetype),
        index: index.as_deref().or(defaults.index),
    };
    let text = read_body(parts.event, document, row)?;
    if let Some(fields) = parts.fields {
        if !fields.is_object() {
            return Err(Fault(FIELDS_UNREADABLE.to_owned()));
        }
        document.read(fields.raw(), row)?;
    }
    if let Some(severity) = text.as_deref().and_then(leading_severity)
        && !document.taken.has(Place::Severity)
    {
        row.severity(severity);
    }
    metadata.write(row);
    Ok(())
}

/// Writes the event itself; its text, if it is one.
fn read_body<'t>(
    event: Option<Value<'t>>,
    document: &mut Document<'t>,
    row: &mut Row<'_, '_>,
) -> Result<Option<Cow<'t, str>>, Fault> {
    let event = event.ok_or_else(|| Fault(EVENT_REQUIRED.to_owned()))?;
    if event.is_object() {
        document.read(event.raw(), row)?;
        return Ok(None);
    }
    let text = event.text();
    if text.as_deref() == Some("") {
        return Err(Fault(EVENT_BLANK.to_owned()));
    }
    document.taken.write(Place::Message, event, row);
    Ok(text)
}

/// Seconds since 1970, or milliseconds and so on where the magnitude says so.
fn read_time(value: Value<'_>) -> Result<i64, Fault> {
    let text = value.text();
    let number = text.as_deref().unwrap_or(value.raw()).trim();
    time::parse_number(number).ok_or_else(|| {
        Fault::expected("time", "seconds since 1970, as number or text", value.raw())
    })
}

fn read_text<'t>(name: &str, value: Option<Value<'t>>) -> Result<Option<Cow<'t, str>>, Fault> {
    let text = |value: Value<'t>| {
        value.text().ok_or_else(|| Fault::expected(name, "a string", value.raw()))
    };
    Ok(value.map(text).transpose()?.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
