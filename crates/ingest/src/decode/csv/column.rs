//! What a CSV column becomes.

use thalweg_event::{AttributeValue, Fault, Row, Severity};

use crate::decode::{request, time_format::TimeFormat};

/// What a column becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    Ignored,
    Timestamp,
    Request,
    HttpStatus,
    Message,
    Level,
    SeverityNumber,
    Text(TextColumn),
    HttpPath,
    DurationMs,
    Bytes,
    Attribute(String),
}

/// Columns that take any text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextColumn {
    EventId,
    Service,
    TraceId,
    SpanId,
    Host,
    Environment,
    HttpMethod,
    ClientIp,
    UserAgent,
}

impl Column {
    /// The column that `name` stands for.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "_" => Self::Ignored,
            "timestamp" => Self::Timestamp,
            "request" => Self::Request,
            "http_status" => Self::HttpStatus,
            "message" => Self::Message,
            "level" => Self::Level,
            "severity_number" => Self::SeverityNumber,
            "http_path" => Self::HttpPath,
            "duration_ms" => Self::DurationMs,
            "bytes" => Self::Bytes,
            "event_id" => Self::Text(TextColumn::EventId),
            "service" => Self::Text(TextColumn::Service),
            "trace_id" => Self::Text(TextColumn::TraceId),
            "span_id" => Self::Text(TextColumn::SpanId),
            "host" => Self::Text(TextColumn::Host),
            "environment" => Self::Text(TextColumn::Environment),
            "http_method" => Self::Text(TextColumn::HttpMethod),
            "client_ip" => Self::Text(TextColumn::ClientIp),
            "user_agent" => Self::Text(TextColumn::UserAgent),
            attribute => Self::Attribute(attribute.to_owned()),
        }
    }

    /// Writes `field` into `row`; [`Column::Message`] is left to the caller. Time, request line
    /// and status make a record what it is: without them it is refused. Other columns may be
    /// empty, and a number that is none is kept as an attribute.
    pub(super) fn read(
        &self,
        field: &str,
        time: &TimeFormat,
        row: &mut Row<'_, '_>,
    ) -> Result<(), Fault> {
        match self {
            Self::Ignored | Self::Message => {}
            Self::Timestamp => {
                let nanos = time.parse(field);
                let expected = || Fault::expected("timestamp", time.expected(), field);
                row.time_unix_nano(nanos.ok_or_else(expected)?);
            }
            Self::Request => {
                if !request::read_line(field, row) {
                    let expected = "a request line such as GET /cart HTTP/1.1";
                    return Err(Fault::expected("request", expected, field));
                }
            }
            Self::HttpStatus => {
                let status = request::parse_status(field);
                let expected = || Fault::expected("http_status", "three digits", field);
                row.http_status(status.ok_or_else(expected)?);
            }
            _ if field.is_empty() => {}
            Self::Level => {
                let expected = "TRACE, DEBUG, INFO, WARN, ERROR or FATAL";
                let severity = Severity::parse(field);
                row.severity(severity.ok_or_else(|| Fault::expected("level", expected, field))?);
            }
            Self::SeverityNumber => {
                let severity = field.parse().ok().and_then(Severity::from_number);
                let expected = || Fault::expected("severity_number", "1 to 24", field);
                row.severity(severity.ok_or_else(expected)?);
            }
            Self::HttpPath => row.http_target(field),
            Self::DurationMs => match field.parse::<f64>().ok().filter(|ms| ms.is_finite()) {
                Some(ms) => row.duration_ms(ms),
                None => row.attribute("duration_ms", AttributeValue::Text(field)),
            },
            Self::Bytes => match field.parse() {
                Ok(bytes) => row.bytes(bytes),
                Err(_) => row.attribute("bytes", AttributeValue::Text(field)),
            },
            Self::Text(column) => column.set(field, row),
            Self::Attribute(name) => row.attribute(name, AttributeValue::Text(field)),
        }
        Ok(())
    }
}

impl TextColumn {
    fn set(self, text: &str, row: &mut Row<'_, '_>) {
        match self {
            Self::EventId => row.event_id(text),
            Self::Service => row.service(text),
            Self::TraceId => row.trace_id(text),
            Self::SpanId => row.span_id(text),
            Self::Host => row.host(text),
            Self::Environment => row.environment(text),
            Self::HttpMethod => row.http_method(text),
            Self::ClientIp => row.client_ip(text),
            Self::UserAgent => row.user_agent(text),
        }
    }
}
