//! The columns that agents' names for common things belong to.
//!
//! Elastic Common Schema 8, the OpenTelemetry semantic conventions and its exporters for
//! Elasticsearch and Splunk, and what Fluent Bit, Vector, Logstash, Promtail and popular logging
//! libraries call the same things.

use thalweg_event::{Row, Severity, json::Value, time};

/// A column of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Time,
    EventId,
    Message,
    Severity,
    Service,
    Host,
    Environment,
    TraceId,
    SpanId,
    HttpMethod,
    HttpPath,
    HttpTarget,
    HttpStatus,
    Bytes,
    ClientIp,
    UserAgent,
    DurationNanos,
}

impl Place {
    /// Where the value called `name` belongs; nested names are joined by dots.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "@timestamp" => Self::Time,
            "event.id" | "event_id" => Self::EventId,
            "message" | "body.text" => Self::Message,
            "log.level"
            | "level"
            | "severity"
            | "detected_level"
            | "log_level"
            | "loglevel"
            | "levelname"
            | "severity_text"
            | "otel.log.severity.text" => Self::Severity,
            "service.name" | "service" | "service_name" | "resource.attributes.service.name" => {
                Self::Service
            }
            "host.name" | "host" | "hostname" | "resource.attributes.host.name" => Self::Host,
            "service.environment"
            | "deployment.environment"
            | "deployment.environment.name"
            | "deployment_environment"
            | "resource.attributes.deployment.environment"
            | "resource.attributes.deployment.environment.name"
            | "environment" => Self::Environment,
            "trace.id" | "trace_id" | "traceId" | "traceID" => Self::TraceId,
            "span.id" | "span_id" | "spanId" | "spanID" => Self::SpanId,
            "http.request.method" | "http.method" => Self::HttpMethod,
            "url.path" => Self::HttpPath,
            "http.target" => Self::HttpTarget,
            "http.response.status_code" | "http.status_code" => Self::HttpStatus,
            "http.response.body.bytes"
            | "http.response.body.size"
            | "http.response_content_length" => Self::Bytes,
            "client.ip" | "client.address" | "http.client_ip" => Self::ClientIp,
            "user_agent.original" | "http.user_agent" => Self::UserAgent,
            "event.duration" => Self::DurationNanos,
            _ => return None,
        })
    }

    /// Whether an object called `name` can hold values that [`Place::of`] knows.
    pub(super) fn is_above(name: &str) -> bool {
        matches!(
            name,
            "log"
                | "service"
                | "host"
                | "trace"
                | "span"
                | "event"
                | "url"
                | "client"
                | "user_agent"
                | "deployment"
                | "deployment.environment"
                | "http"
                | "http.request"
                | "http.response"
                | "http.response.body"
                | "body"
                | "resource"
                | "resource.attributes"
        )
    }
}

/// The columns that an event has values for. The first value for a column takes it; for a later
/// one, and one that does not fit, the caller finds another place.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Taken {
    places: u32,
}

impl Taken {
    pub(super) fn has(self, place: Place) -> bool {
        self.places & 1 << place as u32 != 0
    }

    /// Notes that `place` has its value, or is to have none from the event itself.
    pub(super) fn take(&mut self, place: Place) {
        self.places |= 1 << place as u32;
    }

    /// Whether `text` fits `place` and was written there.
    pub(super) fn write_text(&mut self, place: Place, text: &str, row: &mut Row<'_, '_>) -> bool {
        let is_value = place == Place::Message || !text.is_empty();
        let fits = is_value && !self.has(place) && set(place, text, row);
        if fits {
            self.take(place);
        }
        fits
    }

    /// Whether `value` fits `place` and was written there.
    pub(super) fn write(&mut self, place: Place, value: Value<'_>, row: &mut Row<'_, '_>) -> bool {
        match (value.text(), place) {
            (Some(text), _) => self.write_text(place, &text, row),
            (None, Place::Message) => self.write_text(place, value.raw(), row),
            (None, Place::Time | Place::HttpStatus | Place::Bytes | Place::DurationNanos) => {
                self.write_text(place, value.raw(), row)
            }
            (None, _) => false,
        }
    }
}

const NANOS_PER_MILLI: f64 = 1e6;

/// Sets the column unless `text` is no value for it; says whether it is one.
fn set(place: Place, text: &str, row: &mut Row<'_, '_>) -> bool {
    match place {
        Place::Time => {
            let nanos = time::parse_text(text).or_else(|| time::parse_number(text));
            return nanos.map(|nanos| row.time_unix_nano(nanos)).is_some();
        }
        Place::Severity => {
            return Severity::parse(text).map(|severity| row.severity(severity)).is_some();
        }
        Place::HttpStatus => return text.parse().map(|status| row.http_status(status)).is_ok(),
        Place::Bytes => return text.parse().map(|bytes| row.bytes(bytes)).is_ok(),
        Place::DurationNanos => {
            let millis = text.parse().map(|nanos: u64| nanos as f64 / NANOS_PER_MILLI);
            return millis.map(|millis| row.duration_ms(millis)).is_ok();
        }
        Place::EventId => row.event_id(text),
        Place::Message => row.message(text),
        Place::Service => row.service(text),
        Place::Host => row.host(text),
        Place::Environment => row.environment(text),
        Place::TraceId => row.trace_id(text),
        Place::SpanId => row.span_id(text),
        Place::HttpMethod => row.http_method(text),
        Place::HttpPath => row.http_path(text),
        Place::HttpTarget => row.http_target(text),
        Place::ClientIp => row.client_ip(text),
        Place::UserAgent => row.user_agent(text),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_with_a_dot_is_found_below_objects_that_are_looked_into() {
        for name in [
            "event.id",
            "log.level",
            "service.environment",
            "host.name",
            "deployment.environment.name",
            "trace.id",
            "span.id",
            "http.request.method",
            "http.response.status_code",
            "http.response.body.bytes",
            "url.path",
            "client.ip",
            "user_agent.original",
            "body.text",
        ] {
            assert!(Place::of(name).is_some(), "{name}");
            let parents = name.match_indices('.').map(|(dot, _)| &name[..dot]);
            for parent in parents {
                assert!(Place::is_above(parent), "{parent}");
            }
        }
    }
}
