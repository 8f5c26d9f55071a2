//! Rows as JSON.
//!
//! Values are written as arrow-json writes them (times as RFC 3339, bytes as hexadecimal text,
//! NaN and infinities as null), with two exceptions:
//!
//! - A 64-bit integer beyond ±(2⁵³ − 1) is written as a string of its digits. JavaScript and many
//!   other readers take every JSON number for a double and would silently change its last digits
//!   (RFC 8259 §6); all smaller ones stay numbers.
//! - Where asked for, columns that hold JSON text are written as the JSON they hold.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::json::StructMode;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use serde_json::value::RawValue;
use thalweg_event::{schema::column, span};

/// Largest integer that a double holds exactly together with all smaller ones.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Columns of logs and spans whose text is JSON.
const JSON_COLUMNS: [&str; 5] = [
    column::ATTRIBUTES,
    column::RESOURCE,
    span::column::EVENTS,
    span::column::LINKS,
    span::column::SCOPE,
];

/// How a row is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowShape {
    /// `[1,null]`
    Array,
    /// `{"a":1,"b":null}`
    Object,
    /// `{"a":1}`, and what `attributes`, `resource` and other columns of JSON hold as such.
    Log,
}

/// Hands the text of every row of `batch` to `take`.
pub(crate) fn for_each_row(
    batch: &RecordBatch,
    shape: RowShape,
    mut take: impl FnMut(&[u8]),
) -> Result<(), ArrowError> {
    let options = EncoderOptions::default()
        .with_explicit_nulls(shape != RowShape::Log)
        .with_struct_mode(match shape {
            RowShape::Array => StructMode::ListOnly,
            RowShape::Object | RowShape::Log => StructMode::ObjectOnly,
        })
        .with_encoder_factory(Arc::new(Values { json_columns: shape == RowShape::Log }));
    let rows = StructArray::from(batch.clone());
    let field: FieldRef = Arc::new(Field::new("", rows.data_type().clone(), false));
    let mut encoder = make_encoder(&field, &rows, &options)?;
    let mut text = Vec::new();
    for row in 0..batch.num_rows() {
        text.clear();
        encoder.encode(row, &mut text);
        take(&text);
    }
    Ok(())
}

#[derive(Debug)]
struct Values {
    json_columns: bool,
}

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Int64 => {
                let values = array.as_primitive::<Int64Type>();
                Box::new(Integers(|row| values.value(row)))
            }
            DataType::UInt64 => {
                let values = array.as_primitive::<UInt64Type>();
                Box::new(Integers(|row| values.value(row)))
            }
            DataType::Utf8 | DataType::Utf8View
                if self.json_columns && JSON_COLUMNS.contains(&field.name().as_str()) =>
            {
                Box::new(JsonText(array))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Integers<F>(F);

impl<F: Fn(usize) -> I, I: Into<i128>> Encoder for Integers<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value: i128 = (self.0)(row).into();
        let quote = if value.unsigned_abs() > u128::from(MAX_SAFE_INTEGER) { "\"" } else { "" };
        write!(out, "{quote}{value}{quote}").expect("writing to a Vec cannot fail");
    }
}

struct JsonText<'a>(&'a dyn Array);

impl Encoder for JsonText<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = match self.0.as_string_view_opt() {
            Some(view) => view.value(row),
            None => self.0.as_string::<i32>().value(row),
        };
        match serde_json::from_str::<&RawValue>(text) {
            Ok(json) => out.extend_from_slice(json.get().as_bytes()),
            // Not JSON after all: show what is there.
            Err(_) => thalweg_event::json::write_string(out, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, DictionaryArray, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn rows(columns: Vec<(&str, ArrayRef)>, shape: RowShape) -> String {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap();
        let mut rows = Vec::new();
        for_each_row(&batch, shape, |row| rows.push(String::from_utf8(row.to_vec()).unwrap()))
            .unwrap();
        rows.join("\n")
    }

    #[test]
    fn integers_that_a_double_would_change_are_strings() {
        let values = vec![Some((1 << 53) - 1), Some(1 << 53), Some(i64::MIN), None];
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        assert_eq!(
            rows(vec![("n", column)], RowShape::Array),
            "[9007199254740991]\n[\"9007199254740992\"]\n[\"-9223372036854775808\"]\n[null]"
        );
    }

    #[test]
    fn a_log_row_has_objects_and_no_nulls() {
        let resource: DictionaryArray<Int32Type> =
            vec![Some(r#"{"a":1}"#), None].into_iter().collect();
        let attributes = StringArray::from(vec![Some("not json"), Some(r#"{"b":[null]}"#)]);
        let times = TimestampMicrosecondArray::from(vec![1_500_000, 0]).with_timezone("UTC");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("timestamp", Arc::new(times)),
            ("resource", Arc::new(resource)),
            ("attributes", Arc::new(attributes)),
        ];
        assert_eq!(
            rows(columns, RowShape::Log),
            "{\"timestamp\":\"1970-01-01T00:00:01.500Z\",\"resource\":{\"a\":1},\"attributes\":\"not json\"}\n\
             {\"timestamp\":\"1970-01-01T00:00:00Z\",\"attributes\":{\"b\":[null]}}"
        );
    }
}
