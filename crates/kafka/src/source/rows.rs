//! JSON objects of others as rows: a row a message.
//!
//! Nothing that was sent is lost: `value` has the whole object as it came. A declared column is
//! what can be made of its member, or null; a message that is no JSON object is rejected. A message
//! without a payload, a tombstone, is a row whose `value` is null: it says that its key was deleted.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Float64Builder, Int32Array, Int64Array, Int64Builder,
        RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
    },
    compute::kernels::cast_utils::string_to_timestamp_nanos,
    datatypes::SchemaRef,
};
use thalweg_event::{
    json::{Cursor, Value},
    time::{NANOS_PER_MICRO, parse_number, parse_text},
};
use thalweg_log::{Entry, Offset, TopicPartition};

use super::config::ColumnType;
use crate::{
    client::partition_number,
    codec::{Decoded, reject},
    message::Incoming,
};

/// Microseconds of a millisecond.
const MICROS_PER_MILLI: i64 = 1_000;
/// Latest time that a message can have; later ones would be no days that anybody knows.
const MAX_UNIX_MILLIS: i64 = i64::MAX / 1_000_000;
/// Largest whole number up to which doubles have all of them.
const MAX_EXACT: f64 = (1_u64 << 53) as f64;

/// A table of JSON objects.
#[derive(Debug)]
pub(crate) struct JsonTable {
    schema: SchemaRef,
    /// By name, which are in order.
    columns: Vec<(String, ColumnType)>,
    time_column: Option<String>,
}

/// Rows without a gap.
struct Rows {
    offset: Offset,
    unix_millis: i64,
    count: usize,
    times: TimestampMicrosecondBuilder,
    keys: StringBuilder,
    columns: Vec<ColumnBuilder>,
    values: StringBuilder,
}

enum ColumnBuilder {
    Text(StringBuilder),
    Bigint(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// What was found in an object.
struct Found<'m> {
    /// The object; `None` in a tombstone.
    text: Option<&'m str>,
    time: Option<Value<'m>>,
    /// Of the declared columns.
    members: Vec<Option<Value<'m>>>,
}

impl JsonTable {
    /// A table of `columns`, which are in the order of their names.
    pub(super) fn new(
        schema: SchemaRef,
        columns: Vec<(String, ColumnType)>,
        time_column: Option<String>,
    ) -> Self {
        Self { schema, columns, time_column }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// As [`crate::codec::Codec::decode`].
    pub(crate) fn decode(
        &self,
        at: &TopicPartition,
        from: Offset,
        messages: &[Incoming],
    ) -> Decoded {
        let mut decoded = Decoded::default();
        let Some(last) = messages.last() else { return decoded };
        let mut rows = self.rows(from, last.unix_millis);
        for message in messages {
            if message.offset > rows.next_offset() {
                decoded.entries.extend(rows.finish(self, at, message.offset));
                rows = self.rows(message.offset, message.unix_millis);
            }
            match self.find(message) {
                Ok(found) => rows.push(message, &found),
                Err(reason) => decoded.rejected.push(reject(at, message, reason)),
            }
        }
        decoded.entries.extend(rows.finish(self, at, last.offset + 1));
        decoded
    }

    fn rows(&self, offset: Offset, unix_millis: i64) -> Rows {
        let builder = |(_, column): &(String, ColumnType)| match column {
            ColumnType::Text => ColumnBuilder::Text(StringBuilder::new()),
            ColumnType::Bigint => ColumnBuilder::Bigint(Int64Builder::new()),
            ColumnType::Double => ColumnBuilder::Double(Float64Builder::new()),
            ColumnType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            ColumnType::Timestamp => ColumnBuilder::Timestamp(times()),
        };
        Rows {
            offset,
            unix_millis,
            count: 0,
            times: times(),
            keys: StringBuilder::new(),
            columns: self.columns.iter().map(builder).collect(),
            values: StringBuilder::new(),
        }
    }

    /// # Errors
    /// Why the message is no JSON object, in words.
    fn find<'m>(&self, message: &'m Incoming) -> Result<Found<'m>, String> {
        let mut found = Found { text: None, time: None, members: vec![None; self.columns.len()] };
        if message.is_tombstone {
            return Ok(found);
        }
        let text = std::str::from_utf8(unframed(&message.payload));
        let text = text.map_err(|error| format!("expected a JSON object in UTF-8: {error}"))?;
        let mut cursor = Cursor::new(text);
        let mut walk = || {
            let mut name = cursor.open_object()?;
            while let Some(member) = name {
                let value = cursor.value()?;
                // Of members of one name the last one counts, as nearly everywhere.
                let column = self.columns.binary_search_by(|(name, _)| (**name).cmp(&*member));
                if let Ok(column) = column {
                    found.members[column] = Some(value);
                }
                if self.time_column.as_deref() == Some(&*member) {
                    found.time = Some(value);
                }
                name = cursor.next_member()?;
            }
            cursor.end()
        };
        walk().map_err(|malformed| malformed.to_string())?;
        found.text = Some(text);
        Ok(found)
    }
}

impl Rows {
    /// Where the next row has to be, so that each stands at the offset of its message.
    fn next_offset(&self) -> Offset {
        self.offset + self.count as Offset
    }

    fn push(&mut self, message: &Incoming, found: &Found<'_>) {
        let sent = message.unix_millis.clamp(0, MAX_UNIX_MILLIS) * MICROS_PER_MILLI;
        let time = found.time.and_then(time_nanos).filter(|nanos| *nanos >= 0);
        self.times.append_value(time.map_or(sent, |nanos| nanos / NANOS_PER_MICRO));
        self.keys.append_option(message.key.as_deref().map(key_text));
        for (column, member) in self.columns.iter_mut().zip(&found.members) {
            column.push(member.filter(|member| !member.is_null()));
        }
        self.values.append_option(found.text);
        self.count += 1;
    }

    /// An entry of the rows that ends at `end`; behind the last row, it holds nothing.
    fn finish(mut self, table: &JsonTable, at: &TopicPartition, end: Offset) -> Option<Entry> {
        if end == self.offset {
            return None;
        }
        let offsets = (self.offset..).take(self.count);
        let offsets = offsets.map(|offset| i64::try_from(offset).unwrap_or(i64::MAX));
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(self.times.finish()), Arc::new(self.keys.finish())];
        columns.extend(self.columns.iter_mut().map(ColumnBuilder::finish));
        columns.extend([
            Arc::new(self.values.finish()) as ArrayRef,
            Arc::new(Int32Array::from_value(partition_number(at), self.count)),
            Arc::new(Int64Array::from_iter_values(offsets)),
        ]);
        let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns);
        Some(Entry {
            offset: self.offset,
            next_offset: end,
            append_unix_millis: self.unix_millis,
            batch: batch.expect("columns are built in schema order"),
        })
    }
}

impl ColumnBuilder {
    fn push(&mut self, member: Option<Value<'_>>) {
        match self {
            Self::Text(texts) => texts.append_option(member.map(content)),
            Self::Bigint(numbers) => numbers.append_option(member.and_then(whole_number)),
            Self::Double(numbers) => numbers.append_option(member.and_then(number)),
            Self::Boolean(values) => {
                values.append_option(member.and_then(|member| match &*content(member) {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                }))
            }
            Self::Timestamp(times) => {
                let nanos = member.and_then(time_nanos);
                times.append_option(nanos.map(|nanos| nanos.div_euclid(NANOS_PER_MICRO)));
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Bigint(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}

fn times() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_timezone("UTC")
}

/// The payload without the five bytes that Confluent's JSON serializer puts before it (a zero and
/// the number of a schema). No JSON begins with a zero byte.
fn unframed(payload: &[u8]) -> &[u8] {
    match payload {
        [0, _, _, _, _, object @ ..] => object,
        object => object,
    }
}

/// A key as text; one that is no text as hexadecimal digits, the way Postgres shows bytes.
fn key_text(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains('\0') => Cow::Borrowed(text),
        _ => {
            let digits = key.iter().map(|byte| format!("{byte:02x}"));
            Cow::Owned(["\\x".to_owned()].into_iter().chain(digits).collect())
        }
    }
}

/// What a string holds, and the JSON of any other value.
fn content(value: Value<'_>) -> Cow<'_, str> {
    value.text().unwrap_or(Cow::Borrowed(value.raw()))
}

fn whole_number(value: Value<'_>) -> Option<i64> {
    let text = content(value);
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        let is_exact = number.abs() <= MAX_EXACT && number.fract() == 0.0;
        is_exact.then_some(number as i64)
    })
}

fn number(value: Value<'_>) -> Option<f64> {
    match &*content(value) {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

/// Nanoseconds since the Unix epoch. Text may be of 1677 to 2262, a number from 1970 on.
fn time_nanos(value: Value<'_>) -> Option<i64> {
    let Some(text) = value.text() else { return parse_number(value.raw()) };
    parse_text(&text)
        .or_else(|| string_to_timestamp_nanos(&text).ok())
        .or_else(|| parse_number(&text))
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Array as _, AsArray as _},
        datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        codec::to_json,
        source::config::{KafkaSource, Source},
    };

    const SENT_MILLIS: i64 = 1_764_000_000_123;

    fn table(columns: serde_json::Value, time_column: Option<&str>) -> crate::codec::Codec {
        let settings = json!({
            "brokers": ["a:9092"], "topic": "t", "format": "json", "columns": columns,
            "time_column": time_column,
        });
        let kafka: KafkaSource = serde_json::from_value(settings).unwrap();
        Source::new("t", &kafka, None).unwrap().codec()
    }

    fn typed() -> crate::codec::Codec {
        table(
            json!({
                "text": "text", "whole": "bigint", "number": "double", "is": "boolean",
                "at": "timestamp",
            }),
            None,
        )
    }

    fn message(offset: Offset, payload: impl AsRef<[u8]>) -> Incoming {
        Incoming {
            offset,
            unix_millis: SENT_MILLIS,
            encoding: None,
            stamp: None,
            key: Some(b"k".to_vec()),
            is_tombstone: false,
            payload: payload.as_ref().to_vec(),
        }
    }

    fn at() -> TopicPartition {
        TopicPartition::new("t", 3)
    }

    /// The one row that `payload` makes.
    fn row(codec: &crate::codec::Codec, payload: &str) -> RecordBatch {
        let decoded = codec.decode(&at(), 7, &[message(7, payload)]);
        assert!(decoded.rejected.is_empty(), "{payload}");
        decoded.entries.into_iter().next().unwrap().batch
    }

    /// The column `name` of the one row that `{name: json}` makes, as text.
    fn column(name: &str, json: &str) -> Option<String> {
        let row = row(&typed(), &format!(r#"{{"{name}": {json}}}"#));
        let shown = to_json(&row).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&shown[0]).unwrap();
        Some(match shown.get(name)? {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    #[test]
    fn a_row_has_its_columns_and_the_whole_object_and_its_place() {
        let object = r#" {"whole": 1, "other": [1, {"a": null}]} "#;
        let row = row(&typed(), object);
        assert_eq!(row["whole"].as_primitive::<Int64Type>().value(0), 1);
        assert!(row["number"].is_null(0));
        assert_eq!(row["value"].as_string::<i32>().value(0), object);
        assert_eq!(row["key"].as_string::<i32>().value(0), "k");
        assert_eq!(row["kafka_partition"].as_ref(), &Int32Array::from(vec![3]));
        assert_eq!(row["kafka_offset"].as_ref(), &Int64Array::from(vec![7]));
        let times = row["timestamp"].as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.value(0), SENT_MILLIS * 1000);
    }

    #[test]
    fn values_become_what_their_column_holds_or_null() {
        for (name, json, expected) in [
            ("text", r#""a\n\u00e9""#, Some("a\né")),
            ("text", "1.50", Some("1.50")),
            ("text", r#"{"a": [1]}"#, Some(r#"{"a": [1]}"#)),
            ("text", "null", None),
            ("whole", "-9223372036854775808", Some("-9223372036854775808")),
            ("whole", "9223372036854775808", None),
            ("whole", "12e2", Some("1200")),
            ("whole", "1.5", None),
            ("whole", r#""42""#, Some("42")),
            ("whole", r#""many""#, None),
            ("whole", "1e999", None),
            ("whole", "[1]", None),
            ("number", "0.1", Some("0.1")),
            ("number", r#""12.5""#, Some("12.5")),
            ("number", "1e999", None),
            ("number", "true", None),
            ("number", r#""inf""#, None),
            ("number", r#""-Infinity""#, Some("-Infinity")),
            ("is", "true", Some("true")),
            ("is", r#""false""#, Some("false")),
            ("is", "1", None),
            ("at", r#""2026-11-25T10:00:00.5+02:00""#, Some("2026-11-25T08:00:00.500Z")),
            ("at", r#""1956-03-01""#, Some("1956-03-01T00:00:00Z")),
            ("at", "1700000000", Some("2023-11-14T22:13:20Z")),
            ("at", "1700000000500", Some("2023-11-14T22:13:20.500Z")),
            ("at", r#""1700000000""#, Some("2023-11-14T22:13:20Z")),
            ("at", r#""soon""#, None),
            ("at", "-1", None),
            ("at", "{}", None),
        ] {
            assert_eq!(column(name, json).as_deref(), expected, "{name}: {json}");
        }
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        let row = row(&typed(), r#"{"whole": 1, "whole": 2, "who\u006ce": 3}"#);
        assert_eq!(row["whole"].as_primitive::<Int64Type>().value(0), 3);
    }

    #[test]
    fn a_named_member_says_when_a_row_happened_if_it_is_a_time() {
        let codec = table(json!({}), Some("timestamp"));
        for (json, millis) in [
            (r#""2023-11-14T22:13:20Z""#, 1_700_000_000_000),
            ("1700000000500", 1_700_000_000_500),
            (r#""1869-01-01""#, SENT_MILLIS),
            ("null", SENT_MILLIS),
        ] {
            let row = row(&codec, &format!(r#"{{"timestamp": {json}}}"#));
            let times = row["timestamp"].as_primitive::<TimestampMicrosecondType>();
            assert_eq!(times.value(0), millis * 1000, "{json}");
        }
    }

    #[test]
    fn a_message_with_an_impossible_time_has_one_that_calendars_know() {
        for (unix_millis, expected) in [(-1, 0), (i64::MAX, MAX_UNIX_MILLIS * 1000)] {
            let message = Incoming { unix_millis, ..message(0, "{}") };
            let decoded = typed().decode(&at(), 0, &[message]);
            let times = &decoded.entries[0].batch["timestamp"];
            assert_eq!(times.as_primitive::<TimestampMicrosecondType>().value(0), expected);
        }
    }

    #[test]
    fn a_tombstone_is_a_row_without_a_value() {
        let tombstone = Incoming { is_tombstone: true, ..message(0, "") };
        let decoded = typed().decode(&at(), 0, &[tombstone]);
        let row = &decoded.entries[0].batch;
        assert_eq!(row["key"].as_string::<i32>().value(0), "k");
        assert!(row["value"].is_null(0) && row["whole"].is_null(0));
    }

    #[test]
    fn keys_that_are_no_text_are_shown_as_digits() {
        assert_eq!(key_text("Jürgen".as_bytes()), "Jürgen");
        assert_eq!(key_text(&[0, 0, 0, 5]), "\\x00000005");
        assert_eq!(key_text(b"\xff"), "\\xff");
        assert_eq!(key_text(b""), "");
    }

    #[test]
    fn what_confluents_serializer_puts_before_the_object_is_passed_over() {
        let row = row(&typed(), "\0\0\0\0\u{7}{\"whole\": 1}");
        assert_eq!(row["value"].as_string::<i32>().value(0), r#"{"whole": 1}"#);
    }

    #[test]
    fn what_is_no_object_is_rejected_with_its_bytes_and_the_reason() {
        let deep = format!(r#"{{"a": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for (payload, reason) in [
            (&b"[1]"[..], "expected a JSON object at byte 0, found '['"),
            (b"", "expected a JSON object at byte 0, found the end"),
            (b"{\"a\": 1} {}", "expected the end at byte 9, found '{'"),
            (b"{\"a\": \xff}", "expected a JSON object in UTF-8"),
            (b"{\"a\": NaN}", "expected a JSON value at byte 6"),
            (b"\0\0", "expected a JSON object at byte 0"),
            (deep.as_bytes(), "expected at most 64 levels of nesting"),
        ] {
            let decoded = typed().decode(&at(), 7, &[message(7, payload)]);
            let rejected = &decoded.rejected[0];
            let found = rejected["reason"].as_string::<i32>().value(0);
            assert!(found.starts_with(&format!("message 7 of t/3: {reason}")), "{found}");
            assert_eq!(rejected["original"].as_binary::<i32>().value(0), payload);
            assert_eq!(decoded.entries[0].batch.num_rows(), 0);
        }
    }

    #[test]
    fn each_row_stands_at_the_offset_of_its_message_whatever_is_missing_between() {
        let object = |offset| message(offset, format!(r#"{{"whole": {offset}}}"#));
        let messages = [
            object(12),
            object(13),
            message(14, "damaged"),
            message(15, "damaged"),
            object(16),
            object(20),
            message(21, "damaged"),
        ];
        let decoded = typed().decode(&at(), 10, &messages);
        let spans: Vec<(Offset, Offset, usize)> = decoded
            .entries
            .iter()
            .map(|entry| (entry.offset, entry.next_offset, entry.batch.num_rows()))
            .collect();
        assert_eq!(spans, [(10, 12, 0), (12, 15, 2), (15, 16, 0), (16, 20, 1), (20, 22, 1)]);
        assert_eq!(decoded.rejected.len(), 3);
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were_written(
            rows in prop::collection::vec(
                (any::<Option<String>>(), any::<Option<i64>>(), any::<Option<f64>>(),
                 any::<Option<bool>>(), prop::option::of(0..9_223_372_036_854_775_i64)),
                1..20,
            ),
        ) {
            let messages: Vec<Incoming> = rows.iter().zip(0..).map(|(row, offset)| {
                let (text, whole, number, is, at) = row;
                let at = at.and_then(|micros| {
                    arrow::temporal_conversions::as_datetime::<TimestampMicrosecondType>(micros)
                });
                let object = json!({
                    "text": text, "whole": whole, "number": number, "is": is,
                    "at": at.map(|at| format!("{at:?}Z")),
                });
                message(offset, object.to_string())
            }).collect();
            let decoded = typed().decode(&at(), 0, &messages);
            prop_assert_eq!(decoded.entries.len(), 1);
            let batch = &decoded.entries[0].batch;
            for (index, (text, whole, number, is, at)) in rows.iter().enumerate() {
                let texts = batch["text"].as_string::<i32>();
                let found = texts.is_valid(index).then(|| texts.value(index));
                prop_assert_eq!(found, text.as_deref());
                let wholes = batch["whole"].as_primitive::<Int64Type>();
                prop_assert_eq!(wholes.is_valid(index).then(|| wholes.value(index)), *whole);
                let numbers = batch["number"].as_primitive::<Float64Type>();
                let found = numbers.is_valid(index).then(|| numbers.value(index));
                prop_assert_eq!(found, number.filter(|number| number.is_finite()));
                let truths = batch["is"].as_boolean();
                prop_assert_eq!(truths.is_valid(index).then(|| truths.value(index)), *is);
                let times = batch["at"].as_primitive::<TimestampMicrosecondType>();
                prop_assert_eq!(times.is_valid(index).then(|| times.value(index)), *at);
            }
        }

        #[test]
        fn each_message_is_a_row_or_rejected_and_no_offset_is_left_out(
            payloads in prop::collection::vec(
                (0..3_u64, "[\\[\\]{},:\"0-9 ]{0,8}|\\{\"whole\":[0-9\"a]{1,3}\\}"), 1..20,
            ),
        ) {
            let mut offset = 5;
            let messages: Vec<Incoming> = payloads.iter().map(|(gap, payload)| {
                offset += gap + 1;
                message(offset, payload)
            }).collect();
            let decoded = typed().decode(&at(), 5, &messages);
            let rows: usize = decoded.entries.iter().map(|entry| entry.batch.num_rows()).sum();
            prop_assert_eq!(rows + decoded.rejected.len(), messages.len());
            let mut next = 5;
            for entry in &decoded.entries {
                prop_assert_eq!(entry.offset, next);
                let numbers = entry.batch["kafka_offset"].as_primitive::<Int64Type>();
                prop_assert!(numbers.values().iter().zip(entry.offset..).all(|(n, o)| *n as u64 == o));
                prop_assert!(entry.batch.num_rows() as u64 <= entry.next_offset - entry.offset);
                next = entry.next_offset;
            }
            prop_assert_eq!(next, offset + 1);
        }
    }
}
