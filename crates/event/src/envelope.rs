//! The native JSON envelope, versions 1 and 2, and how it evolves.
//!
//! Version 1 is flat: `timestamp service level message metadata`; version 2 is
//! `{"schemaVersion":"2.0","requiredFields":{timestamp,service,level},"optionalFields":{…},"message":…}`.
//! An unknown minor version is read as its major; an unknown major version is refused. Members of
//! `metadata` and `customDimensions`, and every field this version does not know, become
//! attributes: nothing a sender wrote is dropped.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    batch::{AttributeValue, Row},
    fault::Fault,
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
    each_member(text, "record", &mut |key, value| envelope.top_level(key, value, row))?;
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
struct Envelope<'de> {
    version: Option<Cow<'de, str>>,
    required: Option<&'de str>,
    optional: Option<&'de str>,
    has_message: bool,
}

impl<'de> Envelope<'de> {
    fn top_level(&mut self, key: &str, value: Value<'de>, row: &mut Row<'_, '_>) -> Result<(), Fault> {
        match key {
            "schemaVersion" | "schema_version" => {
                self.version = Some(match value.text() {
                    Some(text) => text,
                    None => Cow::Borrowed(value.0),
                });
            }
            "requiredFields" => self.required = Some(value.0),
            "optionalFields" => self.optional = Some(value.0),
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
                row.attribute(key, AttributeValue::Json(value));
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
        each_member(required, "requiredFields", &mut |key, value| {
            for (name, seen) in &mut seen {
                *seen |= *name == key && !value.is_null();
            }
            field(key, value, row)
        })?;
        if let Some((name, _)) = seen.iter().find(|(_, seen)| !seen) {
            return Err(missing(&format!("requiredFields.{name}")));
        }
        let Some(optional) = self.optional else { return Ok(()) };
        each_member(optional, "optionalFields", &mut |key, value| match key {
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
            row.attribute(key, AttributeValue::Json("null"));
        }
        return Ok(());
    }
    let fits = match key {
        "timestamp" | "time" | "@timestamp" | "ts" => {
            row.time_unix_nano(value.time().ok_or_else(|| {
                let expected = "RFC 3339 text or seconds, ms, µs or ns since 1970";
                Fault::expected(key, expected, value.0)
            })?);
            true
        }
        "level" | "severity" => {
            let severity = value.text().and_then(|text| Severity::parse(&text));
            row.severity(severity.ok_or_else(|| {
                Fault::expected(key, "TRACE, DEBUG, INFO, WARN, ERROR or FATAL", value.0)
            })?);
            true
        }
        "severity_number" | "severityNumber" => {
            let severity = value.0.parse().ok().and_then(Severity::from_number);
            row.severity(severity.ok_or_else(|| Fault::expected(key, "1 to 24", value.0))?);
            true
        }
        "service" => {
            let service = value.text().filter(|service| !service.is_empty());
            row.service(&service.ok_or_else(|| Fault::expected(key, "a name", value.0))?);
            true
        }
        "message" | "msg" => {
            match value.text() {
                Some(text) => row.message(&text),
                None => row.message(value.0),
            }
            true
        }
        "event_id" | "eventId" => {
            let id = value.text().filter(|id| !id.is_empty());
            row.event_id(&id.ok_or_else(|| Fault::expected(key, "a non-empty string", value.0))?);
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
        "http_status" => value.0.parse().map(|status| row.http_status(status)).is_ok(),
        "duration_ms" => value.number().map(|number| row.duration_ms(number)).is_some(),
        "bytes" => value.0.parse().map(|bytes| row.bytes(bytes)).is_ok(),
        _ => false,
    };
    if !fits {
        attribute(key, value, row);
    }
    Ok(())
}

/// Whether a null under `key` means that a column has no value.
fn is_column(key: &str) -> bool {
    const COLUMNS: &[&str] = &[
        "timestamp", "time", "@timestamp", "ts", "level", "severity", "severity_number",
        "severityNumber", "service", "event_id", "eventId", "trace_id", "traceId", "span_id",
        "spanId", "host", "environment", "http_method", "http_path", "client_ip", "user_agent",
        "http_status", "duration_ms", "bytes",
    ];
    COLUMNS.contains(&key)
}

fn attribute(key: &str, value: Value<'_>, row: &mut Row<'_, '_>) {
    match value.text() {
        Some(text) => row.attribute(key, AttributeValue::Text(&text)),
        None => row.attribute(key, AttributeValue::Json(value.0)),
    }
}

/// Members of an object become attributes of their own; any other value stays under its key.
fn members_or_attribute(key: &str, value: Value<'_>, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    if !value.0.starts_with('{') {
        attribute(key, value, row);
        return Ok(());
    }
    each_member(value.0, key, &mut |key, value| {
        attribute(key, value, row);
        Ok(())
    })
}

/// A JSON value as it stands in the text, without surrounding space.
#[derive(Clone, Copy)]
struct Value<'de>(&'de str);

impl<'de> Value<'de> {
    fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The content of a string; `None` for any other value.
    fn text(self) -> Option<Cow<'de, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            serde_json::from_str(self.0).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    fn number(self) -> Option<f64> {
        serde_json::from_str(self.0).ok()
    }

    fn time(self) -> Option<i64> {
        match self.text() {
            Some(text) => time::parse_text(&text).or_else(|| time::parse_number(&text)),
            None => time::parse_number(self.0),
        }
    }
}

/// Calls `each` for every member of the JSON object `text`, called `place` in errors.
fn each_member<'de>(
    text: &'de str,
    place: &str,
    each: &mut dyn FnMut(&str, Value<'de>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    struct Members<'e, 'de> {
        each: &'e mut dyn FnMut(&str, Value<'de>) -> Result<(), Fault>,
        fault: Option<Fault>,
    }

    impl<'de> Visitor<'de> for &mut Members<'_, 'de> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(Key(key)) = map.next_key()? {
                let value: &'de RawValue = map.next_value()?;
                if let Err(fault) = (self.each)(&key, Value(value.get())) {
                    self.fault = Some(fault);
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    break;
                }
            }
            Ok(())
        }
    }

    let mut members = Members { each, fault: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(&mut members).and_then(|()| json.end());
    match (members.fault, read) {
        (_, Err(error)) => Err(Fault(format!("{place}: {error}"))),
        (Some(fault), Ok(())) => Err(fault),
        (None, Ok(())) => Ok(()),
    }
}

/// A member's name, borrowed from the text unless it is escaped.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Name)
    }
}
