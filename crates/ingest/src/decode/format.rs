//! Formats by name: the built-in ones and those an operator defines.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Sink, Unreadable,
    access_log::{self, AccessLog},
    csv::{self, Csv, CsvConfig},
    elasticsearch, json, loki, otlp, splunk, syslog, text,
};

/// What the bytes of a body are.
#[derive(Debug, Clone, Copy)]
pub enum BodyFormat<'f> {
    /// A native JSON object, an array of them, or one on each line.
    Json,
    /// A native JSON object on each line.
    Ndjson,
    /// Lines of plain text.
    Text,
    /// A syslog message on each line.
    Syslog {
        /// Offset of times that do not name theirs, in seconds east of UTC.
        offset_secs: i32,
    },
    /// Syslog messages that this server's listeners have received.
    SyslogReceived {
        /// Offset of times that do not name theirs, in seconds east of UTC.
        offset_secs: i32,
    },
    /// OTLP `ExportLogsServiceRequest` in protobuf.
    OtlpProtobuf,
    /// OTLP `ExportLogsServiceRequest` in JSON.
    OtlpJson,
    /// OTLP `ExportTraceServiceRequest` in protobuf.
    OtlpTracesProtobuf,
    /// OTLP `ExportTraceServiceRequest` in JSON.
    OtlpTracesJson,
    /// Body of an Elasticsearch bulk request. Params: `index`, `pipeline`.
    ElasticsearchBulk,
    /// Loki push request in JSON. Params: `tenant`.
    LokiJson,
    /// Loki push request in protobuf, decompressed. Params: `tenant`.
    LokiProtobuf,
    /// Events of Splunk's HTTP Event Collector. Params: `host`, `source`, `sourcetype`, `index`.
    SplunkEvents,
    /// Raw lines for Splunk's HTTP Event Collector. Params: as for events.
    SplunkRaw,
    /// Lines of an access log or CSV.
    Line(&'f LineFormat),
}

/// A format of log files.
#[derive(Debug)]
pub enum LineFormat {
    /// An access log of a web server.
    AccessLog(AccessLog),
    /// CSV with a column mapping.
    Csv(Csv),
}

impl BodyFormat<'_> {
    /// Whether a newline between double quotes is part of a record instead of its end.
    pub fn has_quoted_newlines(self) -> bool {
        matches!(self, Self::Line(LineFormat::Csv(_)))
    }

    /// Whether the first record of every body names the columns: who cuts a file into several
    /// bodies has to repeat it.
    pub fn has_header(self) -> bool {
        matches!(self, Self::Line(LineFormat::Csv(csv)) if csv.has_header())
    }
}

/// What some editors begin a UTF-8 file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads all records of `body` into `sink`. One pass, linear in the size of the body.
///
/// # Errors
/// [`Unreadable`] when no record can be told apart; `sink` is of no use then.
pub fn decode(format: BodyFormat<'_>, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let body = match format {
        BodyFormat::OtlpProtobuf
        | BodyFormat::LokiProtobuf
        | BodyFormat::OtlpTracesProtobuf
        | BodyFormat::SyslogReceived { .. } => body,
        _ => body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body),
    };
    match format {
        BodyFormat::Json => json::decode(body, sink)?,
        BodyFormat::Ndjson => json::decode_lines(body, sink),
        BodyFormat::Text => text::decode(body, sink),
        BodyFormat::Syslog { offset_secs } => syslog::decode(body, offset_secs, sink),
        BodyFormat::SyslogReceived { offset_secs } => {
            syslog::received::decode(body, offset_secs, sink)?;
        }
        BodyFormat::OtlpProtobuf => otlp::protobuf::decode(body, sink)?,
        BodyFormat::OtlpJson => otlp::json::decode(body, sink)?,
        BodyFormat::OtlpTracesProtobuf => otlp::protobuf::decode_spans(body, sink)?,
        BodyFormat::OtlpTracesJson => otlp::json::decode_spans(body, sink)?,
        BodyFormat::ElasticsearchBulk => elasticsearch::decode(body, sink)?,
        BodyFormat::LokiJson => loki::json::decode(body, sink)?,
        BodyFormat::LokiProtobuf => loki::protobuf::decode(body, sink)?,
        BodyFormat::SplunkEvents => splunk::decode_events(body, sink)?,
        BodyFormat::SplunkRaw => splunk::decode_raw(body, sink)?,
        BodyFormat::Line(LineFormat::AccessLog(format)) => access_log::decode(*format, body, sink),
        BodyFormat::Line(LineFormat::Csv(format)) => csv::decode(format, body, sink)?,
    }
    Ok(())
}

/// Formats that an operator defines, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FormatsConfig(pub BTreeMap<String, CsvConfig>);

/// A format definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("formats.{name}{fault}")]
pub struct FormatError {
    /// Name of the format.
    pub name: String,
    /// Key within the format, what was expected there and what was found.
    pub fault: String,
}

/// Names of the formats that have no settings.
const PLAIN: [(&str, BodyFormat<'static>); 4] = [
    ("json", BodyFormat::Json),
    ("ndjson", BodyFormat::Ndjson),
    ("text", BodyFormat::Text),
    ("syslog", BodyFormat::Syslog { offset_secs: 0 }),
];

/// Every format that a request can name.
#[derive(Debug)]
pub struct Formats {
    lines: BTreeMap<String, LineFormat>,
}

impl Formats {
    /// The built-in formats and those of `config`.
    ///
    /// # Errors
    /// [`FormatError`] when a name is taken or a definition contradicts itself.
    pub fn new(config: &FormatsConfig) -> Result<Self, FormatError> {
        let access_logs = [AccessLog::Common, AccessLog::Combined, AccessLog::CombinedTime];
        let mut lines: BTreeMap<String, LineFormat> = access_logs
            .into_iter()
            .map(|format| (format.name().to_owned(), LineFormat::AccessLog(format)))
            .collect();
        for (name, config) in &config.0 {
            let error = |fault| FormatError { name: name.clone(), fault };
            let is_taken = lines.contains_key(name) || PLAIN.iter().any(|(plain, _)| plain == name);
            if is_taken || name.is_empty() {
                return Err(error(": expected a name that no built-in format has".to_owned()));
            }
            let csv = Csv::new(config).map_err(|fault| error(format!(".{fault}")))?;
            lines.insert(name.clone(), LineFormat::Csv(csv));
        }
        Ok(Self { lines })
    }

    /// The format called `name`.
    pub fn get(&self, name: &str) -> Option<BodyFormat<'_>> {
        let plain = PLAIN.iter().find(|(plain, _)| *plain == name).map(|(_, format)| *format);
        plain.or_else(|| self.lines.get(name).map(BodyFormat::Line))
    }

    /// Names of all formats.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        PLAIN.iter().map(|(name, _)| *name).chain(self.lines.keys().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::formats_config;

    #[test]
    fn built_in_and_defined_formats_are_found_by_name() {
        let formats =
            Formats::new(&formats_config("formats: {mine: {type: csv, header: true}}")).unwrap();
        let names: Vec<_> = formats.names().collect();
        assert_eq!(
            names,
            ["json", "ndjson", "text", "syslog", "clf", "combined", "combined-time", "mine"]
        );
        assert!(names.iter().all(|name| formats.get(name).is_some()));
        assert!(formats.get("other").is_none());
        let mine = formats.get("mine").unwrap();
        assert!(mine.has_header() && mine.has_quoted_newlines());
        let clf = formats.get("clf").unwrap();
        assert!(!clf.has_header() && !clf.has_quoted_newlines());
    }

    #[test]
    fn a_definition_that_cannot_work_says_where_and_what_would() {
        for (definition, reason) in [
            (
                "clf: {type: csv, header: true}",
                "formats.clf: expected a name that no built-in format has",
            ),
            (
                "x: {type: csv}",
                "formats.x.columns: expected the names of the columns, or `header: true`",
            ),
            (
                "x: {type: csv, columns: [a, a]}",
                "formats.x.columns: expected every name once, found `a` twice",
            ),
            (
                "x: {type: csv, columns: [\"\"]}",
                "formats.x.columns: expected a name, or `_` to ignore a column",
            ),
            (
                "x: {type: csv, columns: [a], delimiter: é}",
                "formats.x.delimiter: expected an ASCII character that is no quote and no line end, found 'é'",
            ),
            (
                "x: {type: csv, columns: [a], timezone: UTC}",
                "formats.x.timezone: only times in a strftime `time_format` have one",
            ),
            (
                "x: {type: csv, columns: [a], service: \"\"}",
                "formats.x.service: expected a name, or no such setting",
            ),
        ] {
            let error =
                Formats::new(&formats_config(&format!("formats: {{{definition}}}"))).unwrap_err();
            assert_eq!(error.to_string(), reason);
        }
    }
}
