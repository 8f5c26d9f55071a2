//! CSV (RFC 4180) with a column mapping.
//!
//! A record ends at a newline outside double quotes, so that who cuts a file into bodies finds
//! the same ends without knowing the columns. Blank records are skipped. The message is the
//! column `message` if it is mapped and not empty, else the request line, else the whole record.

mod column;
mod config;
mod record;

use thalweg_event::{AttributeValue, Fault, Row};

use super::{Sink, Unreadable, lines::utf8, name_service, time_format::TimeFormat};
use column::Column;
use record::{Records, Splitter};

pub use config::{CsvConfig, FormatType};

/// A validated CSV format.
#[derive(Debug)]
pub struct Csv {
    has_header: bool,
    /// Empty when the header names the columns.
    columns: Vec<Column>,
    time: TimeFormat,
    service: Option<String>,
    delimiter: u8,
}

impl Csv {
    /// Whether the first record of every body is a header.
    pub(super) fn has_header(&self) -> bool {
        self.has_header
    }

    fn read(
        &self,
        columns: &[Column],
        splitter: &mut Splitter,
        record: &[u8],
        row: &mut Row<'_, '_>,
    ) -> Result<(), Fault> {
        let fields = splitter.split(record)?;
        let mut message = None;
        for (position, column) in columns.iter().enumerate() {
            let field = fields.get(position);
            column.read(field, &self.time, row)?;
            match column {
                Column::Message if !field.is_empty() => message = Some(field),
                Column::Request => message = message.or(Some(field)),
                _ => {}
            }
        }
        // Nothing a sender wrote is dropped: what no column names is kept by its position.
        for position in columns.len()..fields.len() {
            let field = fields.get(position);
            if !field.is_empty() {
                row.attribute(&unnamed(position), AttributeValue::Text(field));
            }
        }
        match message {
            Some(message) => row.message(message),
            None => row.message(utf8(record)?),
        }
        name_service(row, self.service.as_deref());
        Ok(())
    }
}

/// Key of what stands in a column without a name.
fn unnamed(position: usize) -> String {
    format!("column_{}", position + 1)
}

pub(super) fn decode(csv: &Csv, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let mut records = Records::new(body);
    let mut splitter = Splitter::new(csv.delimiter);
    let named;
    let mut columns = csv.columns.as_slice();
    if csv.has_header {
        let Some(header) = records.next() else { return Ok(()) };
        if columns.is_empty() {
            let fields = splitter.split(header).map_err(|fault| {
                Unreadable(format!("header: expected the names of the columns, but {fault}"))
            })?;
            let name = |position| match fields.get(position).trim_ascii() {
                "" => Column::Attribute(unnamed(position)),
                name => Column::named(name),
            };
            named = (0..fields.len()).map(name).collect::<Vec<_>>();
            columns = &named;
        }
    }
    for record in records {
        sink.record(record, |row| csv.read(columns, &mut splitter, record, row));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use crate::decode::{
        Formats,
        testing::{Decoded, decoded, formats_config, try_decoded},
    };

    /// `body` read in the format whose settings are `settings`.
    fn read(settings: &str, body: impl AsRef<[u8]>) -> Decoded {
        let config = formats_config(&format!("formats: {{x: {{type: csv, {settings}}}}}"));
        let formats = Formats::new(&config).unwrap();
        decoded(formats.get("x").unwrap(), body)
    }

    fn some(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|value| Some((*value).to_owned())).collect()
    }

    #[test]
    fn each_column_goes_where_the_mapping_says() {
        let settings = "service: shop, columns: [timestamp, level, service, message, http_path, \
                        http_status, duration_ms, bytes, trace_id, _, region]";
        let decoded = read(
            settings,
            "2023-11-14T22:13:20Z,warn,,slow,/cart?id=7,503,12.5,77,ABCD,secret,eu\n\
             1700000000,,other,,,200,fast,,,,\n",
        );
        assert_eq!(decoded.faults, []);
        for (column, values) in [
            ("time_unix_nano", ["1700000000000000000", "1700000000000000000"].map(Some)),
            ("level", [Some("WARN"), Some("INFO")]),
            ("service", [Some("shop"), Some("other")]),
            ("message", [Some("slow"), Some("1700000000,,other,,,200,fast,,,,")]),
            ("http_path", [Some("/cart"), None]),
            ("http_status", [Some("503"), Some("200")]),
            ("duration_ms", [Some("12.5"), None]),
            ("bytes", [Some("77"), None]),
            ("trace_id", [Some("abcd"), None]),
        ] {
            let found = decoded.column(column);
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), values, "{column}");
        }
        assert_eq!(
            decoded.attributes(),
            [json!({"url.query": "id=7", "region": "eu"}), json!({"duration_ms": "fast"})]
        );
    }

    #[test]
    fn quotes_may_enclose_delimiters_quotes_and_newlines() {
        let decoded = read("columns: [message, a]", "\"x, \"\"y\"\"\nz\",1\r\nplain,\"2\"");
        assert_eq!(decoded.column("message"), some(&["x, \"y\"\nz", "plain"]));
        assert_eq!(decoded.attributes(), [json!({"a": "1"}), json!({"a": "2"})]);
    }

    #[test]
    fn a_header_names_the_columns_or_is_passed_over() {
        let body = "level; message ;who;\nINFO;hello;me;x\n";
        let named = read("header: true, delimiter: \";\"", body);
        assert_eq!(named.only("message").as_deref(), Some("hello"));
        assert_eq!(named.attributes(), [json!({"who": "me", "column_4": "x"})]);
        let mapped = read("header: true, delimiter: \";\", columns: [_, who, message]", body);
        assert_eq!(mapped.only("message").as_deref(), Some("me"));
        assert_eq!(mapped.attributes(), [json!({"who": "hello", "column_4": "x"})]);
        assert_eq!(read("header: true", "").events.num_rows(), 0);
    }

    #[test]
    fn a_header_that_cannot_be_read_makes_the_body_unreadable() {
        let formats =
            Formats::new(&formats_config("formats: {x: {type: csv, header: true}}")).unwrap();
        let error = try_decoded(formats.get("x").unwrap(), b"a,\xff\n1,2\n").unwrap_err();
        assert_eq!(
            error.0,
            "header: expected the names of the columns, but record: expected UTF-8, found another byte at 1"
        );
    }

    #[test]
    fn columns_may_be_missing_at_the_end_unless_they_make_the_record() {
        let decoded =
            read("columns: [message, timestamp, region]", "m,1700000000\nm\nm,1700000000,eu,,x\n");
        assert_eq!(decoded.attributes(), [json!({}), json!({"region": "eu", "column_5": "x"})]);
        let reason =
            "timestamp: expected RFC 3339 text or seconds, ms, µs or ns since 1970, found \"\"";
        assert_eq!(decoded.faults, [(1, reason.to_owned())]);
        assert_eq!(decoded.originals(), [b"m"]);
    }

    #[test]
    fn an_unclosed_quote_costs_its_own_line_only() {
        let decoded = read("columns: [message]", "a\n\"b\nc\n");
        assert_eq!(decoded.column("message"), some(&["a", "c"]));
        assert_eq!(
            decoded.faults,
            [(1, "record: a double quote is opened and never closed".to_owned())]
        );
        let far = format!("a\n\"b\n{}\"", "c\n".repeat(1 << 20));
        assert_eq!(read("columns: [message]", far).faults.len(), 2);
    }

    #[test]
    fn quotes_in_the_middle_of_a_field_stand_for_themselves_on_one_line() {
        let decoded = read("columns: [message, a]", "say \"hi\",1\nx\"y\nz\",2\n");
        assert_eq!(decoded.column("message"), some(&["say \"hi\""]));
        let reason = "record: expected double quotes around whole fields only";
        assert_eq!(decoded.faults, [(1, reason.to_owned())]);
    }

    #[test]
    fn fields_are_limited() {
        let decoded = read("columns: [message]", ",".repeat(1023) + "\n" + &",".repeat(1024));
        assert_eq!(decoded.events.num_rows(), 1);
        assert_eq!(decoded.faults, [(1, "record: expected at most 1024 fields".to_owned())]);
    }

    /// How often each value of `column` occurs.
    fn counts(decoded: &Decoded, column: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for value in decoded.column(column).into_iter().flatten() {
            *counts.entry(value).or_default() += 1;
        }
        counts
    }

    #[test]
    fn the_public_web_server_log_is_read_with_the_example_configuration() {
        const LOG: &str = "../../../shared/data/weblog.csv";
        const CONFIG: &str = "../../examples/weblog.yaml";
        let Ok(body) = std::fs::read(LOG) else {
            eprintln!(
                "\n*** SKIPPED: {LOG} is absent, so the real web-server log was NOT tested ***\n"
            );
            return;
        };
        let config = formats_config(&std::fs::read_to_string(CONFIG).unwrap());
        let formats = Formats::new(&config).unwrap();
        let decoded = decoded(formats.get("weblog").unwrap(), body);

        assert_eq!((decoded.events.num_rows(), decoded.rejected.num_rows()), (15_789, 273));
        let count = |pairs: &[(&str, usize)]| {
            pairs
                .iter()
                .map(|(value, count)| ((*value).to_owned(), *count))
                .collect::<BTreeMap<_, _>>()
        };
        let statuses = [("200", 11_330), ("302", 3_498), ("304", 658), ("404", 251), ("206", 52)];
        assert_eq!(counts(&decoded, "http_status"), count(&statuses));
        let methods = [("GET", 15_098), ("POST", 682), ("HEAD", 9)];
        assert_eq!(counts(&decoded, "http_method"), count(&methods));
        assert_eq!(counts(&decoded, "service"), count(&[("web", 15_789)]));
        let mut times: Vec<i64> = decoded
            .column("time_unix_nano")
            .into_iter()
            .map(|t| t.unwrap().parse().unwrap())
            .collect();
        times.sort_unstable();
        let utc = |nanos| chrono::DateTime::from_timestamp_nanos(nanos).to_rfc3339();
        assert_eq!(utc(times[0]), "2017-11-07T23:59:19+00:00");
        assert_eq!(utc(times[15_788]), "2018-03-02T15:47:46+00:00");
        assert!(
            decoded
                .faults
                .iter()
                .all(|(_, reason)| reason.starts_with("timestamp: expected [%d/%b"))
        );
    }
}
