//! What of a span does not depend on how it was encoded.

use thalweg_event::{
    AttributeValue, Fault,
    span::{SpanKind, SpanRow, SpanStatus},
};

use super::record::Scope;
use crate::decode::UNKNOWN_SERVICE;

/// Fields of a span that are only understood together, once all have been seen.
#[derive(Default)]
pub(super) struct Header {
    pub(super) start_time_unix_nano: u64,
    pub(super) end_time_unix_nano: u64,
    pub(super) kind: i64,
    pub(super) flags: u32,
    pub(super) dropped_attributes_count: u32,
    pub(super) dropped_events_count: u32,
    pub(super) dropped_links_count: u32,
}

impl Header {
    pub(super) fn write(&self, scope: &Scope, row: &mut SpanRow<'_, '_>) -> Result<(), Fault> {
        if let Some(nanos) = time("startTimeUnixNano", self.start_time_unix_nano)? {
            row.start_time_unix_nano(nanos);
        }
        if let Some(nanos) = time("endTimeUnixNano", self.end_time_unix_nano)? {
            row.end_time_unix_nano(nanos);
        }
        if let Some(kind) = kind(self.kind)? {
            row.kind(kind);
        }
        for (key, count) in [
            ("otel.dropped_attributes_count", self.dropped_attributes_count),
            ("otel.dropped_events_count", self.dropped_events_count),
            ("otel.dropped_links_count", self.dropped_links_count),
            ("trace_flags", self.flags),
        ] {
            if count != 0 {
                row.attribute(key, AttributeValue::Int(count.into()));
            }
        }
        if let Some(scope) = scope.json() {
            row.scope(scope);
        }
        if !row.has_service() {
            row.service(UNKNOWN_SERVICE);
        }
        Ok(())
    }
}

/// Zero is no time, as protobuf cannot tell them apart.
fn time(field: &str, nanos: u64) -> Result<Option<i64>, Fault> {
    let expected = |_| Fault::expected(field, "a time before 2262", &nanos.to_string());
    Ok(Some(i64::try_from(nanos).map_err(expected)?).filter(|nanos| *nanos != 0))
}

fn kind(number: i64) -> Result<Option<SpanKind>, Fault> {
    Ok(Some(match number {
        0 => return Ok(None),
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => return Err(Fault::expected("kind", "0 to 5", &number.to_string())),
    }))
}

/// A status by its number and its message.
pub(super) fn write_status(
    code: i64,
    message: &str,
    row: &mut SpanRow<'_, '_>,
) -> Result<(), Fault> {
    row.status(match code {
        0 => SpanStatus::Unset,
        1 => SpanStatus::Ok,
        2 => SpanStatus::Error,
        _ => return Err(Fault::expected("status.code", "0 to 2", &code.to_string())),
    });
    write_text(message, |text| row.status_message(text));
    Ok(())
}

/// An empty text is none, as protobuf cannot tell them apart.
pub(super) fn write_text(text: &str, write: impl FnOnce(&str)) {
    if !text.is_empty() {
        write(text);
    }
}

/// An id that a span cannot do without: that it is empty, and so absent, is told by the row.
pub(super) fn required_id<const N: usize>(field: &str, id: &[u8]) -> Result<[u8; N], Fault> {
    if id.is_empty() {
        return Ok([0; N]);
    }
    let known = <[u8; N]>::try_from(id).ok().filter(|id| *id != [0; N]);
    known.ok_or_else(|| {
        let found: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Fault::expected(field, &format!("{N} bytes that are not all zero"), &found)
    })
}

/// The parent of a span, none for a root. An id of another length is of no span; it is kept as
/// an attribute.
pub(super) fn write_parent(id: &[u8], row: &mut SpanRow<'_, '_>) {
    if id.iter().all(|byte| *byte == 0) {
        return;
    }
    match <[u8; 8]>::try_from(id) {
        Ok(id) => row.parent_span_id(id),
        Err(_) => {
            let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            row.attribute("parent_span_id", AttributeValue::Text(&hex));
        }
    }
}
