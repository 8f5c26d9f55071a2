//! `opentelemetry.proto.trace.v1.Span`.

use thalweg_event::{
    Fault,
    span::{SpanEvent, SpanLink, SpanRow},
};

use super::{
    super::{
        any::{Any, MAX_NESTING, Nested},
        record::Scope,
        span::{Header, required_id, write_parent, write_status, write_text},
    },
    key_value,
};
use crate::decode::wire::fields;

pub(super) fn read(bytes: &[u8], scope: &Scope, row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let mut header = Header::default();
    for field in fields(bytes) {
        match field? {
            (1, id) => row.trace_id(required_id("traceId", id.bytes()?)?),
            (2, id) => row.span_id(required_id("spanId", id.bytes()?)?),
            (3, state) => write_text(state.text()?, |state| row.trace_state(state)),
            (4, id) => write_parent(id.bytes()?, row),
            (5, name) => write_text(name.text()?, |name| row.name(name)),
            (6, kind) => header.kind = kind.varint()? as i64,
            (7, time) => header.start_time_unix_nano = time.fixed64()?,
            (8, time) => header.end_time_unix_nano = time.fixed64()?,
            (9, attribute) => {
                let (key, value) = key_value(attribute.bytes()?, MAX_NESTING)?;
                row.attribute(key, value.as_attribute());
            }
            (10, dropped) => header.dropped_attributes_count = dropped.varint()? as u32,
            (11, event) => read_event(event.bytes()?, row)?,
            (12, dropped) => header.dropped_events_count = dropped.varint()? as u32,
            (13, link) => read_link(link.bytes()?, row)?,
            (14, dropped) => header.dropped_links_count = dropped.varint()? as u32,
            (15, status) => read_status(status.bytes()?, row)?,
            (16, flags) => header.flags = flags.fixed32()?,
            _ => {}
        }
    }
    header.write(scope, row)
}

fn read_event(bytes: &[u8], row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let (mut event, mut attributes) = (SpanEvent::default(), None);
    for field in fields(bytes) {
        match field? {
            (1, time) => event.time_unix_nano = time.fixed64()?,
            (2, name) => event.name = name.text()?,
            (3, attribute) => add(&mut attributes, attribute.bytes()?)?,
            (4, dropped) => event.dropped_attributes_count = dropped.varint()? as u32,
            _ => {}
        }
    }
    let attributes = attributes.map(Nested::finish);
    event.attributes = attributes.as_ref().and_then(Any::as_json);
    row.event(&event);
    Ok(())
}

fn read_link(bytes: &[u8], row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let (mut link, mut attributes) = (SpanLink::default(), None);
    for field in fields(bytes) {
        match field? {
            (1, id) => link.trace_id = id.bytes()?,
            (2, id) => link.span_id = id.bytes()?,
            (3, state) => link.trace_state = state.text()?,
            (4, attribute) => add(&mut attributes, attribute.bytes()?)?,
            (5, dropped) => link.dropped_attributes_count = dropped.varint()? as u32,
            (6, flags) => link.flags = flags.fixed32()?,
            _ => {}
        }
    }
    let attributes = attributes.map(Nested::finish);
    link.attributes = attributes.as_ref().and_then(Any::as_json);
    row.link(&link);
    Ok(())
}

fn read_status(bytes: &[u8], row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
    let (mut message, mut code) = ("", 0);
    for field in fields(bytes) {
        match field? {
            (2, field) => message = field.text()?,
            (3, field) => code = field.varint()? as i64,
            _ => {}
        }
    }
    write_status(code, message, row)
}

/// Adds a `KeyValue` to an object, which the first one begins.
fn add(object: &mut Option<Nested>, bytes: &[u8]) -> Result<(), Fault> {
    let (key, value) = key_value(bytes, MAX_NESTING)?;
    object.get_or_insert_with(Nested::object).member(key, &value);
    Ok(())
}
