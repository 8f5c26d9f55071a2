//! `opentelemetry.proto.trace.v1.Span`.

use std::borrow::Cow;

use thalweg_event::{
    Fault,
    json::{Cursor, Value},
    span::{SpanEvent, SpanLink, SpanRow},
};

use super::{
    super::{
        any::{Any, MAX_NESTING, Nested},
        record::Scope,
        span::{Header, required_id, write_parent, write_status, write_text},
    },
    each_element, each_member, number, read_key_value, text,
};

pub(super) fn read(span: &str, scope: &Scope, row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let mut header = Header::default();
    each_member(&mut Cursor::new(span), |name, cursor| {
        match name {
            "traceId" => row.trace_id(required_id(name, &id(cursor.value()?, name)?)?),
            "spanId" => row.span_id(required_id(name, &id(cursor.value()?, name)?)?),
            "traceState" => {
                write_text(&text(cursor.value()?, name)?, |state| row.trace_state(state));
            }
            "parentSpanId" => write_parent(&id(cursor.value()?, name)?, row),
            "name" => write_text(&text(cursor.value()?, name)?, |name| row.name(name)),
            "kind" => header.kind = number(cursor.value()?, name)?,
            "startTimeUnixNano" => header.start_time_unix_nano = number(cursor.value()?, name)?,
            "endTimeUnixNano" => header.end_time_unix_nano = number(cursor.value()?, name)?,
            "attributes" => each_element(cursor, |cursor| {
                let (key, value) = read_key_value(cursor, MAX_NESTING)?;
                row.attribute(&key, value.as_attribute());
                Ok::<(), Fault>(())
            })?,
            "droppedAttributesCount" => {
                header.dropped_attributes_count = number(cursor.value()?, name)?;
            }
            "events" => each_element(cursor, |cursor| read_event(cursor, row))?,
            "droppedEventsCount" => header.dropped_events_count = number(cursor.value()?, name)?,
            "links" => each_element(cursor, |cursor| read_link(cursor, row))?,
            "droppedLinksCount" => header.dropped_links_count = number(cursor.value()?, name)?,
            "status" => read_status(cursor, row)?,
            "flags" => header.flags = number(cursor.value()?, name)?,
            _ => cursor.pass_over()?,
        }
        Ok::<(), Fault>(())
    })?;
    header.write(scope, row)
}

fn read_event(cursor: &mut Cursor<'_>, row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let (mut event, mut event_name, mut attributes) =
        (SpanEvent::default(), Cow::Borrowed(""), None);
    each_member(cursor, |name, cursor| {
        match name {
            "timeUnixNano" => event.time_unix_nano = number(cursor.value()?, name)?,
            "name" => event_name = text(cursor.value()?, name)?,
            "attributes" => add(&mut attributes, cursor)?,
            "droppedAttributesCount" => {
                event.dropped_attributes_count = number(cursor.value()?, name)?;
            }
            _ => cursor.pass_over()?,
        }
        Ok::<(), Fault>(())
    })?;
    let attributes = attributes.map(Nested::finish);
    let attributes = attributes.as_ref().and_then(Any::as_json);
    row.event(&SpanEvent { name: &event_name, attributes, ..event });
    Ok(())
}

fn read_link(cursor: &mut Cursor<'_>, row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let (mut link, mut attributes) = (SpanLink::default(), None);
    let (mut trace_id, mut span_id, mut state) = (Vec::new(), Vec::new(), Cow::Borrowed(""));
    each_member(cursor, |name, cursor| {
        match name {
            "traceId" => trace_id = id(cursor.value()?, name)?,
            "spanId" => span_id = id(cursor.value()?, name)?,
            "traceState" => state = text(cursor.value()?, name)?,
            "attributes" => add(&mut attributes, cursor)?,
            "droppedAttributesCount" => {
                link.dropped_attributes_count = number(cursor.value()?, name)?;
            }
            "flags" => link.flags = number(cursor.value()?, name)?,
            _ => cursor.pass_over()?,
        }
        Ok::<(), Fault>(())
    })?;
    let attributes = attributes.map(Nested::finish);
    let attributes = attributes.as_ref().and_then(Any::as_json);
    row.link(&SpanLink {
        trace_id: &trace_id,
        span_id: &span_id,
        trace_state: &state,
        attributes,
        ..link
    });
    Ok(())
}

fn read_status(cursor: &mut Cursor<'_>, row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let (mut message, mut code) = (Cow::Borrowed(""), 0);
    each_member(cursor, |name, cursor| {
        match name {
            "message" => message = text(cursor.value()?, name)?,
            "code" => code = number(cursor.value()?, name)?,
            _ => cursor.pass_over()?,
        }
        Ok::<(), Fault>(())
    })?;
    write_status(code, &message, row)
}

/// Adds an array of `KeyValue`s to an object, which the first one begins.
fn add(object: &mut Option<Nested>, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    each_element(cursor, |cursor| {
        let (key, value) = read_key_value(cursor, MAX_NESTING)?;
        object.get_or_insert_with(Nested::object).member(&key, &value);
        Ok(())
    })
}

/// An id, which JSON has in hexadecimal.
fn id(value: Value<'_>, field: &str) -> Result<Vec<u8>, Fault> {
    let digits = text(value, field)?;
    let byte = |pair: &[u8]| {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        match *pair {
            [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
            _ => None,
        }
    };
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| Fault::expected(field, "pairs of hexadecimal digits", &digits))
}
