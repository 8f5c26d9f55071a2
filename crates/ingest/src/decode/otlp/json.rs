//! OTLP in JSON (OTLP Specification, "JSON Protobuf Encoding"): names in lower camel case, ids in
//! hexadecimal, 64-bit numbers as text or number, unknown members ignored, null the same as absent.

mod span;

use std::{borrow::Cow, str::FromStr};

use thalweg_event::{
    Fault, Resource, Row,
    json::{Cursor, Malformed, Value},
};

use super::{
    any::{Any, MAX_NESTING, Nested, deeper},
    record::{Entity, Header, Id, Scope, Shared, entity},
};
use crate::decode::{Sink, Unreadable, lines::utf8};

/// Names of the members of an export request that lead to its records.
struct Names {
    of_resources: &'static str,
    of_scopes: &'static str,
    records: &'static str,
}

/// Reads an `ExportLogsServiceRequest`.
pub(in crate::decode) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    const NAMES: Names =
        Names { of_resources: "resourceLogs", of_scopes: "scopeLogs", records: "logRecords" };
    let mut shared = Shared::default();
    each_record(&NAMES, body, |record, entity| {
        if !shared.count(&entity, sink) {
            return;
        }
        sink.record(record.as_bytes(), |row| {
            let (resource, scope) = entity?;
            row.resource(resource);
            read_record(record, scope, row)
        });
    })?;
    shared.outcome
}

/// Reads an `ExportTraceServiceRequest`.
pub(in crate::decode) fn decode_spans(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    const NAMES: Names =
        Names { of_resources: "resourceSpans", of_scopes: "scopeSpans", records: "spans" };
    let mut shared = Shared::default();
    each_record(&NAMES, body, |span, entity| {
        if !shared.count(&entity, sink) {
            return;
        }
        sink.span(span.as_bytes(), |row| {
            let (resource, scope) = entity?;
            row.resource(resource);
            span::read(span, scope, row)
        });
    })?;
    shared.outcome
}

/// Calls `take` with each record of an export request.
fn each_record<'t>(
    names: &Names,
    body: &'t [u8],
    mut take: impl FnMut(&'t str, Entity<'_>),
) -> Result<(), Unreadable> {
    let text = utf8(body).map_err(|fault| Unreadable(fault.0))?;
    let mut cursor = Cursor::new(text);
    each_member(&mut cursor, |name, cursor| match name {
        _ if name == names.of_resources => {
            each_element(cursor, |cursor| each_record_of_resource(names, cursor, &mut take))
        }
        _ => cursor.pass_over(),
    })
    .and_then(|()| cursor.end())
    .map_err(|error| Unreadable(format!("body: expected OTLP in JSON, but {error}")))
}

fn each_record_of_resource<'t>(
    names: &Names,
    cursor: &mut Cursor<'t>,
    take: &mut impl FnMut(&'t str, Entity<'_>),
) -> Result<(), Malformed> {
    // The resource may stand after the records that it is of.
    let (mut resource, mut schema_url, mut of_scopes) = (None, None, None);
    each_member(cursor, |name, cursor| {
        let place = cursor.clone();
        let value = cursor.value()?;
        match name {
            "resource" => resource = Some(value),
            "schemaUrl" => schema_url = Some(value),
            _ if name == names.of_scopes => of_scopes = Some(place),
            _ => {}
        }
        Ok::<(), Malformed>(())
    })?;
    let resource = read_resource(resource, schema_url);
    let Some(mut of_scopes) = of_scopes else { return Ok(()) };
    each_element(&mut of_scopes, |cursor| each_record_of_scope(names, cursor, &resource, take))
}

fn read_resource(
    resource: Option<Value<'_>>,
    schema_url: Option<Value<'_>>,
) -> Result<Resource, Fault> {
    let mut read = Resource::default();
    if let Some(resource) = resource {
        each_member(&mut Cursor::new(resource.raw()), |name, cursor| match name {
            "attributes" => each_element(cursor, |cursor| {
                let (key, value) = read_key_value(cursor, MAX_NESTING)?;
                read.attribute(&key, value.as_attribute());
                Ok(())
            }),
            "droppedAttributesCount" => {
                read.dropped_attributes(number(cursor.value()?, name)?);
                Ok(())
            }
            _ => Ok::<(), Fault>(cursor.pass_over()?),
        })?;
    }
    if let Some(url) = schema_url {
        read.schema_url(&text(url, "schemaUrl")?);
    }
    Ok(read)
}

fn each_record_of_scope<'t>(
    names: &Names,
    cursor: &mut Cursor<'t>,
    resource: &Result<Resource, Fault>,
    take: &mut impl FnMut(&'t str, Entity<'_>),
) -> Result<(), Malformed> {
    let (mut scope, mut schema_url, mut records) = (None, None, None);
    each_member(cursor, |name, cursor| {
        let place = cursor.clone();
        let value = cursor.value()?;
        match name {
            "scope" => scope = Some(value),
            "schemaUrl" => schema_url = Some(value),
            _ if name == names.records => records = Some(place),
            _ => {}
        }
        Ok::<(), Malformed>(())
    })?;
    let scope = read_scope(scope, schema_url);
    let Some(mut records) = records else { return Ok(()) };
    each_element(&mut records, |cursor| {
        take(cursor.value()?.raw(), entity(resource, &scope));
        Ok(())
    })
}

fn read_scope(scope: Option<Value<'_>>, schema_url: Option<Value<'_>>) -> Result<Scope, Fault> {
    let mut read = Scope::default();
    if let Some(scope) = scope {
        each_member(&mut Cursor::new(scope.raw()), |name, cursor| {
            match name {
                "name" | "version" => read.text(name, &text(cursor.value()?, name)?),
                "attributes" => each_element(cursor, |cursor| {
                    let (key, value) = read_key_value(cursor, MAX_NESTING)?;
                    read.attribute(&key, &value);
                    Ok::<(), Fault>(())
                })?,
                "droppedAttributesCount" => {
                    read.dropped_attributes(number(cursor.value()?, name)?);
                }
                _ => cursor.pass_over()?,
            }
            Ok::<(), Fault>(())
        })?;
    }
    if let Some(url) = schema_url {
        read.text("schema_url", &text(url, "schemaUrl")?);
    }
    Ok(read)
}

fn read_record(record: &str, scope: &Scope, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    let mut cursor = Cursor::new(record);
    let mut header = Header::default();
    each_member(&mut cursor, |name, cursor| {
        match name {
            "timeUnixNano" => header.time_unix_nano = number(cursor.value()?, name)?,
            "observedTimeUnixNano" => {
                header.observed_time_unix_nano = number(cursor.value()?, name)?;
            }
            "severityNumber" => header.severity_number = number(cursor.value()?, name)?,
            "severityText" => header.severity_text = text(cursor.value()?, name)?,
            "body" => read_any(cursor, MAX_NESTING)?.write_message(row),
            "attributes" => each_element(cursor, |cursor| {
                let (key, value) = read_key_value(cursor, MAX_NESTING)?;
                row.attribute(&key, value.as_attribute());
                Ok::<(), Fault>(())
            })?,
            "droppedAttributesCount" => {
                header.dropped_attributes_count = number(cursor.value()?, name)?;
            }
            "flags" => header.flags = number(cursor.value()?, name)?,
            "traceId" => Id::Trace.write_hex(&text(cursor.value()?, name)?, row),
            "spanId" => Id::Span.write_hex(&text(cursor.value()?, name)?, row),
            "eventName" => header.event_name = text(cursor.value()?, name)?,
            _ => cursor.pass_over()?,
        }
        Ok::<(), Fault>(())
    })?;
    header.write(scope, row)
}

fn read_key_value<'t>(
    cursor: &mut Cursor<'t>,
    depth: usize,
) -> Result<(Cow<'t, str>, Any<'t>), Fault> {
    let (mut key, mut read) = (Cow::Borrowed(""), Any::Null);
    each_member(cursor, |name, cursor| {
        match name {
            "key" => key = text(cursor.value()?, name)?,
            "value" => read = read_any(cursor, depth)?,
            _ => cursor.pass_over()?,
        }
        Ok::<(), Fault>(())
    })?;
    Ok((key, read))
}

fn read_any<'t>(cursor: &mut Cursor<'t>, depth: usize) -> Result<Any<'t>, Fault> {
    let mut read = Any::Null;
    each_member(cursor, |name, cursor| {
        read = match name {
            "stringValue" | "bytesValue" => Any::Text(text(cursor.value()?, name)?),
            "boolValue" => match cursor.value()?.raw() {
                "true" => Any::Bool(true),
                "false" => Any::Bool(false),
                found => return Err(Fault::expected(name, "true or false", found)),
            },
            "intValue" => Any::Int(number(cursor.value()?, name)?),
            "doubleValue" => Any::Double(number(cursor.value()?, name)?),
            "arrayValue" => {
                let mut nested = Nested::array();
                each_value(cursor, |cursor| {
                    nested.element(&read_any(cursor, deeper(depth)?)?);
                    Ok(())
                })?;
                nested.finish()
            }
            "kvlistValue" => {
                let mut nested = Nested::object();
                each_value(cursor, |cursor| {
                    let (key, value) = read_key_value(cursor, deeper(depth)?)?;
                    nested.member(&key, &value);
                    Ok(())
                })?;
                nested.finish()
            }
            _ => return Ok::<(), Fault>(cursor.pass_over()?),
        };
        Ok(())
    })?;
    Ok(read)
}

/// Calls `each` at every element of `values` in an `ArrayValue` or `KeyValueList`.
fn each_value<'t>(
    cursor: &mut Cursor<'t>,
    mut each: impl FnMut(&mut Cursor<'t>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    each_member(cursor, |name, cursor| match name {
        "values" => each_element(cursor, &mut each),
        _ => Ok(cursor.pass_over()?),
    })
}

/// Calls `each` at the value of every member that is not null; `each` passes over the value.
fn each_member<'t, E: From<Malformed>>(
    cursor: &mut Cursor<'t>,
    mut each: impl FnMut(&str, &mut Cursor<'t>) -> Result<(), E>,
) -> Result<(), E> {
    let mut member = cursor.open_object()?;
    while let Some(name) = member {
        match cursor.peek() {
            b'n' => cursor.pass_over()?,
            _ => each(&name, cursor)?,
        }
        member = cursor.next_member()?;
    }
    Ok(())
}

/// Calls `each` at every element; `each` passes over it.
fn each_element<'t, E: From<Malformed>>(
    cursor: &mut Cursor<'t>,
    mut each: impl FnMut(&mut Cursor<'t>) -> Result<(), E>,
) -> Result<(), E> {
    let mut goes_on = cursor.open_array()?;
    while goes_on {
        each(cursor)?;
        goes_on = cursor.next_element()?;
    }
    Ok(())
}

fn text<'t>(value: Value<'t>, field: &str) -> Result<Cow<'t, str>, Fault> {
    value.text().ok_or_else(|| Fault::expected(field, "a string", value.raw()))
}

/// A number, written as such or as text.
fn number<T: FromStr>(value: Value<'_>, field: &str) -> Result<T, Fault> {
    let written = value.text().unwrap_or(Cow::Borrowed(value.raw()));
    written.parse().map_err(|_| Fault::expected(field, "a number in range", value.raw()))
}
