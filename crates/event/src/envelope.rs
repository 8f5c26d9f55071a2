//! The native JSON envelope, versions 1 and 2, and how it evolves.
//!
//! Version 1 is flat: `timestamp service level message metadata`; version 2 is
//! `{"schemaVersion":"2.0","requiredFields":{timestamp,service,level},"optionalFields":{…},"message":…}`.
//! An unknown minor version is read as its major; an unknown major version is refused. Members of
//! `metadata` and `customDimensions`, and every field this version does not know, become
//! attributes: nothing a sender wrote is dropped.

use std::borrow::Cow;

use crate::{
    batch::Row,
    fault::Fault,
    json::{Cursor, Malformed, Value},
    severity::Severity,
    time,
};

/// Version of an envelope that names none.
const DEFAULT_VERSION: &str = "1.0";

/// Reads one JSON object as an event.
///
/// # Errors
/// A [`Fault`] when the text is not one JSON object, a required field is missing, or a field has
/// a value that cannot be what it is for.
pub fn decode(text: &str, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    let mut envelope = Envelope::default();
    each_member(text, "record", |key, value| envelope.top_level(key, value, row))?;
    let version: &str = envelope.version.as_deref().unwrap_or(DEFAULT_VERSION);
    row.schema_version(version);
    match version.split('.').next() {
        Some("1") => envelope.finish_v1(row),
        Some("2") => envelope.finish_v2(row),
        _ => Err(Fault::expected("schemaVersion", "1.x or 2.x", version)),
    }
}

/// What is known of a record once its members have been seen, in whatever order they came.
#[derive(Default)]
struct Envelope<'t> {
    version: Option<Cow<'t, str>>,
    required: Option<Value<'t>>,
    optional: Option<Value<'t>>,
    has_message: bool,
}

impl<'t> Envelope<'t> {
    fn top_level(
        &mut self,
        key: &str,
        value: Value<'t>,
        row: &mut Row<'_, '_>,
    ) -> Result<(), Fault> {
        match key {
            "schemaVersion" | "schema_version" => {
                self.version = Some(match value.text() {
                    Some(text) => text,
                    None => Cow::Borrowed(value.raw()),
                });
            }
            "requiredFields" => self.required = Some(value),
            "optionalFields" => self.optional = Some(value),
            "metadata" => members_or_attribute(key, value, row)?,
            _ => {
                self.has_message |= matches!(key, "message" | "msg");
                field(key, value, row)?;
            }
        }
        Ok(())
    }

    fn finish_v1(self, row: &mut Row<'_, '_>) -> Result<(), Fault> {
        for (key, value) in [("requiredFields", self.required), ("optionalFields", self.optional)] {
            if let Some(value) = value {
                row.json_attribute(key, value);
            }
        }
        if !self.has_message {
            return Err(missing("message"));
        }
        if !row.has_service() {
            return Err(missing("service"));
        }
        Ok(())
    }

    fn finish_v2(self, row: &mut Row<'_, '_>) -> Result<(), Fault> {
        let required = self.required.ok_or_else(|| missing("requiredFields"))?;
        let mut seen = [("timestamp", false), ("service", false), ("level", false)];
        each_member(required.raw(), "requiredFields", |key, value| {
            for (name, seen) in &mut seen {
                *seen |= *name == key && !value.is_null();
            }
            field(key, value, row)
        })?;
        if let Some((name, _)) = seen.iter().find(|(_, seen)| !seen) {
            return Err(missing(&format!("requiredFields.{name}")));
        }
        let Some(optional) = self.optional else { return Ok(()) };
        each_member(optional.raw(), "optionalFields", |key, value| match key {
            "customDimensions" => members_or_attribute(key, value, row),
            _ => field(key, value, row),
        })
    }
}

fn missing(field: &str) -> Fault {
    Fault(format!("{field}: required, but missing"))
}

/// Writes one field of the event; names without a column become attributes.
fn field(key: &str, value: Value<'_>, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    if value.is_null() && key != "message" {
        if !is_column(key) {
            row.json_attribute(key, value);
        }
        return Ok(());
    }
    let fits = match key {
        "timestamp" | "time" | "@timestamp" | "ts" => {
            row.time_unix_nano(time(value).ok_or_else(|| {
                let expected = "RFC 3339 text or seconds, ms, µs or ns since 1970";
                Fault::expected(key, expected, value.raw())
            })?);
            true
        }
        "level" | "severity" => {
            let severity = value.text().and_then(|text| Severity::parse(&text));
            row.severity(severity.ok_or_else(|| {
                Fault::expected(key, "TRACE, DEBUG, INFO, WARN, ERROR or FATAL", value.raw())
            })?);
            true
        }
        "severity_number" | "severityNumber" => {
            let severity = value.raw().parse().ok().and_then(Severity::from_number);
            row.severity(severity.ok_or_else(|| Fault::expected(key, "1 to 24", value.raw()))?);
            true
        }
        "service" => {
            let service = value.text().filter(|service| !service.is_empty());
            row.service(&service.ok_or_else(|| Fault::expected(key, "a name", value.raw()))?);
            true
        }
        "message" | "msg" => {
            match value.text() {
                Some(text) => row.message(&text),
                None => row.message(value.raw()),
            }
            true
        }
        "event_id" | "eventId" => {
            let id = value.text().filter(|id| !id.is_empty());
            row.event_id(
                &id.ok_or_else(|| Fault::expected(key, "a non-empty string", value.raw()))?,
            );
            true
        }
        "trace_id" | "traceId" => value.text().map(|text| row.trace_id(&text)).is_some(),
        "span_id" | "spanId" => value.text().map(|text| row.span_id(&text)).is_some(),
        "host" => value.text().map(|text| row.host(&text)).is_some(),
        "environment" => value.text().map(|text| row.environment(&text)).is_some(),
        "http_method" => value.text().map(|text| row.http_method(&text)).is_some(),
        "http_path" => value.text().map(|text| row.http_path(&text)).is_some(),
        "client_ip" => value.text().map(|text| row.client_ip(&text)).is_some(),
        "user_agent" => value.text().map(|text| row.user_agent(&text)).is_some(),
        "http_status" => value.raw().parse().map(|status| row.http_status(status)).is_ok(),
        "duration_ms" => value.number().map(|number| row.duration_ms(number)).is_some(),
        "bytes" => value.raw().parse().map(|bytes| row.bytes(bytes)).is_ok(),
        _ => false,
    };
    if !fits {
        row.json_attribute(key, value);
    }
    Ok(())
}

/// Whether a null under `key` means that a column has no value.
fn is_column(key: &str) -> bool {
    const COLUMNS: &[&str] = &[
        "timestamp",
        "time",
        "@timestamp",
        "ts",
        "level",
        "severity",
        "severity_number",
        "severityNumber",
        "service",
        "event_id",
        "eventId",
        "trace_id",
        "traceId",
        "span_id",
        "spanId",
        "host",
        "environment",
        "http_method",
        "http_path",
        "client_ip",
        "user_agent",
        "http_status",
        "duration_ms",
        "bytes",
    ];
    COLUMNS.contains(&key)
}

/// Members of an object become attributes of their own; any other value stays under its key.
fn members_or_attribute(key: &str, value: Value<'_>, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    if !value.is_object() {
        row.json_attribute(key, value);
        return Ok(());
    }
    each_member(value.raw(), key, |key, value| {
        row.json_attribute(key, value);
        Ok(())
    })
}

fn time(value: Value<'_>) -> Option<i64> {
    match value.text() {
        Some(text) => time::parse_text(&text).or_else(|| time::parse_number(&text)),
        None => time::parse_number(value.raw()),
    }
}

/// Calls `each` for every member of the JSON object `text`, called `place` in errors.
fn each_member<'t>(
    text: &'t str,
    place: &str,
    mut each: impl FnMut(&str, Value<'t>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let malformed = |malformed: Malformed| Fault(format!("{place}: {malformed}"));
    let mut cursor = Cursor::new(text);
    let mut member = cursor.open_object().map_err(malformed)?;
    while let Some(name) = member {
        each(&name, cursor.value().map_err(malformed)?)?;
        member = cursor.next_member().map_err(malformed)?;
    }
    cursor.end().map_err(malformed)
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray as _, array::RecordBatch, compute::cast, datatypes::DataType};
    use serde_json::json;

    use super::*;
    use crate::{BatchContext, EventBatchBuilder, PriorityRules};

    fn read(event: &serde_json::Value) -> Result<RecordBatch, Fault> {
        read_text(&event.to_string())
    }

    fn read_text(text: &str) -> Result<RecordBatch, Fault> {
        let rules = PriorityRules::default();
        let mut builder = EventBatchBuilder::new(BatchContext::new(7, &rules, [7; 10]));
        let mut row = builder.row();
        decode(text, &mut row)?;
        row.commit()?;
        Ok(builder.finish())
    }

    fn column(batch: &RecordBatch, name: &str) -> Option<String> {
        let text = cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        text.as_string::<i32>().iter().next().flatten().map(str::to_owned)
    }

    fn attributes(batch: &RecordBatch) -> serde_json::Value {
        column(batch, "attributes").map_or(json!({}), |json| serde_json::from_str(&json).unwrap())
    }

    fn v1() -> serde_json::Value {
        json!({"timestamp": "2023-11-14T22:13:20Z", "service": "a", "level": "warn", "message": "m"})
    }

    fn v2() -> serde_json::Value {
        json!({
            "schemaVersion": "2.0",
            "requiredFields": {"timestamp": 1_700_000_000, "service": "a", "level": "INFO"},
            "optionalFields": {"traceId": "AB", "userId": "u", "customDimensions": {"k": [1]}},
            "message": "m",
        })
    }

    #[test]
    fn version_1_is_flat_and_its_metadata_are_attributes() {
        let mut event = v1();
        event["metadata"] = json!({"user": 7, "host.name": "h", "nested": {"x": null}});
        let batch = read(&event).unwrap();
        for (name, value) in [
            ("time_unix_nano", "1700000000000000000"),
            ("service", "a"),
            ("host", "h"),
            ("level", "WARN"),
            ("severity_number", "13"),
            ("message", "m"),
            ("schema_version", "1.0"),
            ("priority", "routine"),
        ] {
            assert_eq!(column(&batch, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(attributes(&batch), json!({"user": 7, "nested": {"x": null}}));
    }

    #[test]
    fn version_2_has_required_and_optional_fields() {
        let batch = read(&v2()).unwrap();
        for (name, value) in [
            ("time_unix_nano", "1700000000000000000"),
            ("service", "a"),
            ("level", "INFO"),
            ("message", "m"),
            ("trace_id", "ab"),
            ("schema_version", "2.0"),
        ] {
            assert_eq!(column(&batch, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(attributes(&batch), json!({"userId": "u", "k": [1]}));
    }

    #[test]
    fn the_version_may_come_last() {
        let text = r#"{"requiredFields":{"timestamp":1700000000,"service":"a","level":"INFO"},"message":"m","schemaVersion":"2.0"}"#;
        assert_eq!(column(&read_text(text).unwrap(), "service").as_deref(), Some("a"));
    }

    #[test]
    fn an_unknown_minor_version_is_read_as_its_major() {
        let mut event = v2();
        event["schemaVersion"] = json!("2.7");
        let batch = read(&event).unwrap();
        assert_eq!(column(&batch, "service").as_deref(), Some("a"));
        assert_eq!(column(&batch, "schema_version").as_deref(), Some("2.7"));
        let mut event = v1();
        event["schema_version"] = json!(1.3);
        assert_eq!(column(&read(&event).unwrap(), "schema_version").as_deref(), Some("1.3"));
    }

    #[test]
    fn an_unknown_major_version_is_refused() {
        for version in [json!("3.0"), json!(""), json!("two"), json!(null), json!({})] {
            let mut event = v2();
            event["schemaVersion"] = version;
            let fault = read(&event).unwrap_err();
            assert!(fault.0.starts_with("schemaVersion: expected 1.x or 2.x, found "), "{fault}");
        }
    }

    #[test]
    fn fields_of_later_versions_are_kept_as_attributes() {
        let mut event = v1();
        event["tenant"] = json!({"id": 1.5, "name": "ü\n"});
        event["requiredFields"] = json!([1]);
        let expected = json!({"tenant": {"id": 1.5, "name": "ü\n"}, "requiredFields": [1]});
        assert_eq!(attributes(&read(&event).unwrap()), expected);
        let mut event = v2();
        event["tenant"] = json!(null);
        event["requiredFields"]["zone"] = json!(true);
        let expected = json!({"userId": "u", "k": [1], "zone": true, "tenant": null});
        assert_eq!(attributes(&read(&event).unwrap()), expected);
    }

    #[test]
    fn a_missing_required_field_is_named() {
        let without = |mut event: serde_json::Value, path: &[&str]| {
            let (last, parents) = path.split_last().unwrap();
            let parent = parents.iter().fold(&mut event, |value, key| &mut value[*key]);
            parent.as_object_mut().unwrap().remove(*last).unwrap();
            read(&event).unwrap_err().0
        };
        assert_eq!(without(v1(), &["message"]), "message: required, but missing");
        assert_eq!(without(v1(), &["service"]), "service: required, but missing");
        assert_eq!(without(v2(), &["requiredFields"]), "requiredFields: required, but missing");
        for field in ["timestamp", "service", "level"] {
            let reason = format!("requiredFields.{field}: required, but missing");
            assert_eq!(without(v2(), &["requiredFields", field]), reason);
        }
        let mut event = v2();
        event["requiredFields"]["level"] = json!(null);
        assert_eq!(read(&event).unwrap_err().0, "requiredFields.level: required, but missing");
    }

    #[test]
    fn a_field_that_cannot_be_what_it_is_for_is_refused() {
        for (field, value, reason) in [
            (
                "timestamp",
                json!("soon"),
                r#"timestamp: expected RFC 3339 text or seconds, ms, µs or ns since 1970, found "\"soon\"""#,
            ),
            (
                "level",
                json!("loud"),
                r#"level: expected TRACE, DEBUG, INFO, WARN, ERROR or FATAL, found "\"loud\"""#,
            ),
            ("severity_number", json!(25), r#"severity_number: expected 1 to 24, found "25""#),
            ("service", json!(""), r#"service: expected a name, found "\"\"""#),
            ("event_id", json!(7), r#"event_id: expected a non-empty string, found "7""#),
        ] {
            let mut event = v1();
            event[field] = value;
            assert_eq!(read(&event).unwrap_err().0, reason);
        }
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_kept_as_an_attribute() {
        let mut event = v1();
        event["http_status"] = json!("teapot");
        event["bytes"] = json!(1.5);
        event["duration_ms"] = json!("long");
        event["host"] = json!(["h"]);
        let expected =
            json!({"http_status": "teapot", "bytes": 1.5, "duration_ms": "long", "host": ["h"]});
        assert_eq!(attributes(&read(&event).unwrap()), expected);
    }

    #[test]
    fn a_duplicate_field_keeps_the_later_value() {
        let text = r#"{"service":"a","service":"b","message":"1","message":"2","level":"INFO","level":"ERROR"}"#;
        let batch = read_text(text).unwrap();
        assert_eq!(column(&batch, "service").as_deref(), Some("b"));
        assert_eq!(column(&batch, "message").as_deref(), Some("2"));
        assert_eq!(column(&batch, "level").as_deref(), Some("ERROR"));
    }

    #[test]
    fn a_message_that_is_no_text_is_kept_as_json() {
        for (message, stored) in
            [(json!({"a": [1]}), r#"{"a":[1]}"#), (json!(null), "null"), (json!(""), "")]
        {
            let mut event = v1();
            event["message"] = message;
            assert_eq!(column(&read(&event).unwrap(), "message").as_deref(), Some(stored));
        }
    }

    #[test]
    fn a_text_that_is_not_one_object_says_where() {
        for (text, reason) in [
            ("", "record: expected a JSON object at byte 0, found the end"),
            ("[]", "record: expected a JSON object at byte 0, found '['"),
            ("{} {}", "record: expected the end at byte 3, found '{'"),
            (
                r#"{"service":"a","message":"m""#,
                "record: expected `,` or `}` at byte 28, found the end",
            ),
        ] {
            assert_eq!(read_text(text).unwrap_err().0, reason);
        }
    }
}
