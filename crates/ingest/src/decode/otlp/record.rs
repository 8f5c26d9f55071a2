//! What of a log record does not depend on how it was encoded.

use std::borrow::Cow;

use thalweg_event::{AttributeValue, Fault, Resource, Row, Severity, json};

use super::any::Any;
use crate::decode::{Sink, Unreadable, name_service};

/// Fields of a record that are only understood together, once all have been seen.
#[derive(Default)]
pub(super) struct Header<'r> {
    pub(super) time_unix_nano: u64,
    pub(super) observed_time_unix_nano: u64,
    pub(super) severity_number: i64,
    pub(super) severity_text: Cow<'r, str>,
    pub(super) event_name: Cow<'r, str>,
    pub(super) dropped_attributes_count: u32,
    pub(super) flags: u32,
}

impl Header<'_> {
    pub(super) fn write(&self, scope: &Scope, row: &mut Row<'_, '_>) -> Result<(), Fault> {
        let times = [
            ("timeUnixNano", self.time_unix_nano),
            ("observedTimeUnixNano", self.observed_time_unix_nano),
        ];
        if let Some((field, nanos)) = times.into_iter().find(|(_, nanos)| *nanos != 0) {
            let expected = || Fault::expected(field, "a time before 2262", &nanos.to_string());
            row.time_unix_nano(i64::try_from(nanos).map_err(|_| expected())?);
        }
        self.write_severity(row)?;
        let text = |row: &mut Row<'_, '_>, key, text: &str| {
            if !text.is_empty() {
                row.attribute(key, AttributeValue::Text(text));
            }
        };
        let count = |row: &mut Row<'_, '_>, key, count: u32| {
            if count != 0 {
                row.attribute(key, AttributeValue::Int(count.into()));
            }
        };
        text(row, "otel.event.name", &self.event_name);
        count(row, "otel.dropped_attributes_count", self.dropped_attributes_count);
        count(row, "trace_flags", self.flags);
        for (key, value) in &scope.attributes {
            row.attribute(key, AttributeValue::Json(value));
        }
        name_service(row, None);
        Ok(())
    }

    /// The number counts, and the text where there is none; a text that says more than the level
    /// is kept.
    fn write_severity(&self, row: &mut Row<'_, '_>) -> Result<(), Fault> {
        let severity = match self.severity_number {
            0 => Severity::parse(&self.severity_text),
            number => Some(Severity::from_number(number).ok_or_else(|| {
                Fault::expected("severityNumber", "0 to 24", &number.to_string())
            })?),
        };
        if let Some(severity) = severity {
            row.severity(severity);
        }
        let text = &*self.severity_text;
        let says_more = severity.is_none_or(|s| !s.level().name().eq_ignore_ascii_case(text));
        if says_more && !text.is_empty() {
            row.attribute("severity_text", AttributeValue::Text(text));
        }
        Ok(())
    }
}

/// Who made a record: the fault, if one could not be read, is of each of its records.
pub(super) type Entity<'e> = Result<(&'e Resource, &'e Scope), Fault>;

pub(super) fn entity<'e>(
    resource: &'e Result<Resource, Fault>,
    scope: &'e Result<Scope, Fault>,
) -> Entity<'e> {
    Ok((resource.as_ref().map_err(Clone::clone)?, scope.as_ref().map_err(Clone::clone)?))
}

/// What records take together from the scopes that they share.
pub(super) struct Shared {
    pub(super) outcome: Result<(), Unreadable>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { outcome: Ok(()) }
    }
}

impl Shared {
    /// Counts the next record of `entity`; whether it may still be taken.
    pub(super) fn count(&mut self, entity: &Entity<'_>, sink: &mut Sink<'_>) -> bool {
        if let (Ok(()), Ok((_, scope))) = (&self.outcome, entity) {
            self.outcome = sink.share(scope.json.len());
        }
        self.outcome.is_ok()
    }
}

/// What an instrumentation scope adds to each of its records.
#[derive(Default)]
pub(super) struct Scope {
    /// Keys with the prefix that they have on logs, and their values as JSON.
    attributes: Vec<(String, String)>,
    /// The same as a JSON object, without the prefix.
    json: Vec<u8>,
}

impl Scope {
    /// Adds `otel.scope.{key}`.
    pub(super) fn attribute(&mut self, key: &str, value: &Any<'_>) {
        let value = value.to_json();
        if self.json.pop().is_none() {
            self.json.push(b'{');
        }
        json::write_key(&mut self.json, key);
        self.json.extend_from_slice(value.as_bytes());
        self.json.push(b'}');
        self.attributes.push((format!("otel.scope.{key}"), value));
    }

    /// The scope as a JSON object, if it says anything.
    pub(super) fn json(&self) -> Option<&str> {
        std::str::from_utf8(&self.json).ok().filter(|json| !json.is_empty())
    }

    /// Adds `otel.scope.{key}`; an empty text is none, as in protobuf.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.attribute(key, &Any::Text(text.into()));
        }
    }

    /// Adds the number of attributes that the sender left out.
    pub(super) fn dropped_attributes(&mut self, count: u32) {
        if count > 0 {
            self.attribute("dropped_attributes_count", &Any::Int(count.into()));
        }
    }
}

/// An id that ties a record to a trace. One of zeros is none; one of the wrong length is kept
/// aside, since it belongs to no trace (OpenTelemetry Logs Data Model, "Trace Context Fields").
#[derive(Clone, Copy)]
pub(super) enum Id {
    Trace,
    Span,
}

impl Id {
    pub(super) fn write_bytes(self, id: &[u8], row: &mut Row<'_, '_>) {
        match (self, id.len()) {
            _ if id.iter().all(|byte| *byte == 0) => {}
            (Self::Trace, 16) => row.trace_id_bytes(id),
            (Self::Span, 8) => row.span_id_bytes(id),
            _ => {
                let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
                self.keep_aside(&hex, row);
            }
        }
    }

    pub(super) fn write_hex(self, id: &str, row: &mut Row<'_, '_>) {
        let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (self, id.len()) {
            _ if id.bytes().all(|byte| byte == b'0') => {}
            (Self::Trace, 32) if is_hex => row.trace_id(id),
            (Self::Span, 16) if is_hex => row.span_id(id),
            _ => self.keep_aside(id, row),
        }
    }

    fn keep_aside(self, id: &str, row: &mut Row<'_, '_>) {
        let key = match self {
            Self::Trace => "trace_id",
            Self::Span => "span_id",
        };
        row.attribute(key, AttributeValue::Text(id));
    }
}
