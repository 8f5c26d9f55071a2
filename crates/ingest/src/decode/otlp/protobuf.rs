//! OTLP in protobuf, walked on the wire: no message is ever built.
//!
//! Field numbers are those of `opentelemetry/proto/{collector/logs,logs,trace,common,resource}/v1`.

mod span;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use thalweg_event::{Fault, Resource, Row};

use super::{
    any::{Any, MAX_NESTING, Nested, deeper},
    record::{Entity, Header, Id, Scope, Shared, entity},
};
use crate::decode::{Sink, Unreadable, wire::fields};

/// Reads an `ExportLogsServiceRequest`.
pub(in crate::decode) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let mut shared = Shared::default();
    each_record(body, |record, entity| {
        if !shared.count(&entity, sink) {
            return;
        }
        sink.record(record, |row| {
            let (resource, scope) = entity?;
            row.resource(resource);
            read_record(record, scope, row)
        });
    })?;
    shared.outcome
}

/// Reads an `ExportTraceServiceRequest`.
pub(in crate::decode) fn decode_spans(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let mut shared = Shared::default();
    each_record(body, |span, entity| {
        if !shared.count(&entity, sink) {
            return;
        }
        sink.span(span, |row| {
            let (resource, scope) = entity?;
            row.resource(resource);
            span::read(span, scope, row)
        });
    })?;
    shared.outcome
}

/// Calls `take` with each record of an export request, whose field numbers are the same for all
/// signals.
fn each_record<'b>(
    body: &'b [u8],
    mut take: impl FnMut(&'b [u8], Entity<'_>),
) -> Result<(), Unreadable> {
    let mut read = || -> Result<(), Fault> {
        for field in fields(body) {
            let (1, of_resource) = field? else { continue };
            each_record_of_resource(of_resource.bytes()?, &mut take)?;
        }
        Ok(())
    };
    read().map_err(|fault| Unreadable(format!("body: expected OTLP in protobuf, but {fault}")))
}

fn each_record_of_resource<'b>(
    bytes: &'b [u8],
    take: &mut impl FnMut(&'b [u8], Entity<'_>),
) -> Result<(), Fault> {
    // The resource may stand after the records that it is of.
    let mut resource = Ok(Resource::default());
    for field in fields(bytes) {
        let (number, field) = field?;
        resource = match number {
            1 => resource.and_then(|known| read_resource(field.bytes()?, known)),
            3 => resource.and_then(|mut known: Resource| {
                known.schema_url(field.text()?);
                Ok(known)
            }),
            _ => continue,
        };
    }
    for field in fields(bytes) {
        let (2, of_scope) = field? else { continue };
        each_record_of_scope(of_scope.bytes()?, &resource, take)?;
    }
    Ok(())
}

fn read_resource(bytes: &[u8], mut resource: Resource) -> Result<Resource, Fault> {
    for field in fields(bytes) {
        match field? {
            (1, attribute) => {
                let (key, value) = key_value(attribute.bytes()?, MAX_NESTING)?;
                resource.attribute(key, value.as_attribute());
            }
            (2, dropped) => resource.dropped_attributes(dropped.varint()? as u32),
            _ => {}
        }
    }
    Ok(resource)
}

fn each_record_of_scope<'b>(
    bytes: &'b [u8],
    resource: &Result<Resource, Fault>,
    take: &mut impl FnMut(&'b [u8], Entity<'_>),
) -> Result<(), Fault> {
    let mut scope = Ok(Scope::default());
    for field in fields(bytes) {
        let (number, field) = field?;
        scope = match number {
            1 => scope.and_then(|known| read_scope(field.bytes()?, known)),
            3 => scope.and_then(|mut known: Scope| {
                known.text("schema_url", field.text()?);
                Ok(known)
            }),
            _ => continue,
        };
    }
    for field in fields(bytes) {
        let (2, record) = field? else { continue };
        take(record.bytes()?, entity(resource, &scope));
    }
    Ok(())
}

fn read_scope(bytes: &[u8], mut scope: Scope) -> Result<Scope, Fault> {
    for field in fields(bytes) {
        match field? {
            (1, name) => scope.text("name", name.text()?),
            (2, version) => scope.text("version", version.text()?),
            (3, attribute) => {
                let (key, value) = key_value(attribute.bytes()?, MAX_NESTING)?;
                scope.attribute(key, &value);
            }
            (4, dropped) => scope.dropped_attributes(dropped.varint()? as u32),
            _ => {}
        }
    }
    Ok(scope)
}

fn read_record(bytes: &[u8], scope: &Scope, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    let mut header = Header::default();
    for field in fields(bytes) {
        match field? {
            (1, time) => header.time_unix_nano = time.fixed64()?,
            (2, number) => header.severity_number = number.varint()? as i64,
            (3, text) => header.severity_text = text.text()?.into(),
            (5, body) => any(body.bytes()?, MAX_NESTING)?.write_message(row),
            (6, attribute) => {
                let (key, value) = key_value(attribute.bytes()?, MAX_NESTING)?;
                row.attribute(key, value.as_attribute());
            }
            (7, dropped) => header.dropped_attributes_count = dropped.varint()? as u32,
            (8, flags) => header.flags = flags.fixed32()?,
            (9, id) => Id::Trace.write_bytes(id.bytes()?, row),
            (10, id) => Id::Span.write_bytes(id.bytes()?, row),
            (11, time) => header.observed_time_unix_nano = time.fixed64()?,
            (12, name) => header.event_name = name.text()?.into(),
            _ => {}
        }
    }
    header.write(scope, row)
}

fn key_value(bytes: &[u8], depth: usize) -> Result<(&str, Any<'_>), Fault> {
    let (mut key, mut value) = ("", Any::Null);
    for field in fields(bytes) {
        match field? {
            (1, field) => key = field.text()?,
            (2, field) => value = any(field.bytes()?, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn any(bytes: &[u8], depth: usize) -> Result<Any<'_>, Fault> {
    let mut value = Any::Null;
    for field in fields(bytes) {
        value = match field? {
            (1, text) => Any::Text(text.text()?.into()),
            (2, bool) => Any::Bool(bool.varint()? != 0),
            (3, int) => Any::Int(int.varint()? as i64),
            (4, double) => Any::Double(f64::from_bits(double.fixed64()?)),
            (5, array) => {
                let mut nested = Nested::array();
                for element in fields(array.bytes()?) {
                    let (1, element) = element? else { continue };
                    nested.element(&any(element.bytes()?, deeper(depth)?)?);
                }
                nested.finish()
            }
            (6, list) => {
                let mut nested = Nested::object();
                for member in fields(list.bytes()?) {
                    let (1, member) = member? else { continue };
                    let (key, value) = key_value(member.bytes()?, deeper(depth)?)?;
                    nested.member(key, &value);
                }
                nested.finish()
            }
            (7, bytes) => Any::Text(BASE64_STANDARD.encode(bytes.bytes()?).into()),
            _ => continue,
        };
    }
    Ok(value)
}
