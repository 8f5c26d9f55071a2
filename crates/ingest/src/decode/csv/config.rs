//! What an operator says of a CSV format.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Column, Csv, record::MAX_FIELDS};
use crate::decode::time_format::TimeFormat;

/// A format that an operator defines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvConfig {
    /// Kind of the format.
    pub r#type: FormatType,
    /// Whether the first record of every request names the columns and is no event.
    #[serde(default)]
    pub header: bool,
    /// What each column is, in order: a column of table `logs` such as `timestamp`, `level`,
    /// `message` or `http_status`; `request` for a request line such as `GET / HTTP/1.1`; `_` to
    /// ignore it; any other name for an attribute. Absent, the header's names are used.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Character between fields.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// How times are written: strftime conversions, `rfc3339`, or `epoch` (seconds, milliseconds,
    /// microseconds or nanoseconds since 1970); either of the last two when absent.
    #[serde(default)]
    pub time_format: Option<String>,
    /// Offset of strftime times that do not name their own: `UTC` (also when absent) or an
    /// offset such as `+02:00`.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Service of the events, unless a column or the request names one.
    #[serde(default)]
    pub service: Option<String>,
}

/// Kinds of formats that can be defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatType {
    /// Comma-separated values, RFC 4180.
    Csv,
}

fn comma() -> char {
    ','
}

impl Csv {
    /// # Errors
    /// A text that names the setting, what was expected and what was found.
    pub(in crate::decode) fn new(config: &CsvConfig) -> Result<Self, String> {
        if config.columns.is_empty() && !config.header {
            return Err("columns: expected the names of the columns, or `header: true`".into());
        }
        if config.columns.len() > MAX_FIELDS {
            return Err(format!("columns: expected at most {MAX_FIELDS}"));
        }
        let mut seen = BTreeSet::new();
        for name in config.columns.iter().filter(|name| *name != "_") {
            if name.is_empty() {
                return Err("columns: expected a name, or `_` to ignore a column".into());
            }
            if !seen.insert(name) {
                return Err(format!("columns: expected every name once, found `{name}` twice"));
            }
        }
        let delimiter = u8::try_from(config.delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0));
        let delimiter = delimiter.ok_or_else(|| {
            format!(
                "delimiter: expected an ASCII character that is no quote and no line end, found {:?}",
                config.delimiter
            )
        })?;
        if config.service.as_deref() == Some("") {
            return Err("service: expected a name, or no such setting".into());
        }
        Ok(Self {
            has_header: config.header,
            columns: config.columns.iter().map(|name| Column::named(name)).collect(),
            time: TimeFormat::new(config.time_format.as_deref(), config.timezone.as_deref())?,
            service: config.service.clone(),
            delimiter,
        })
    }
}
